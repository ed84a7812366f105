"""The same log under another cache: the paging model's time in place of the paging that was logged.

Assumption, stated in every report that uses this: latency = service + paging; service does not depend on the cache,
and paging takes the model's expected time when the arm is not resident. A log that carries the resident set is
needed to take the logged paging out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.paging.model import PagingModel
from bandit_router.paging.residency import Residency
from bandit_router.policies.caching.base import CacheController, Capacity, Served
from bandit_router.policies.caching.eviction import CACHES
from bandit_router.policies.distributions import draw
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.estimators.regression import ridge_per_arm
from bandit_router.replay.logs.logged import LoggedEvents

ASSUMPTION = "latency = service + paging; service is as logged, paging is the model's expected time on a miss"
ExpectedMs = Callable[[ArrayLike], F64]


class Repriced(NamedTuple):
    """The log at the new cache's latencies, mean paging milliseconds a request (logged, new), rows cut at 0 s."""

    log: LoggedEvents
    logged_ms: float
    new_ms: float
    below_zero: int


def recached(
    log: LoggedEvents, target: F64, cache: str, *, slots: int, sizes: Mapping[str, float], model: PagingModel
) -> Repriced:
    """The log under a demand cache.

    Args:
        log: with latency and the resident set. target: the policy that drives the cache, shape (n, K).
        cache: a name in `CACHES`. slots: adapters that it holds.
        sizes: bytes of each adapter by id; other arms are always resident. model: time of a load.

    Raises:
        Unanswerable: the log carries no resident set or no latency. InvalidInput: no such cache, or an unknown arm.
    """
    if cache not in CACHES:
        raise InvalidInput(f"unknown cache {cache!r}; there are {', '.join(CACHES)}")
    bytes_of = np.zeros(len(log.arms))
    for arm, size in sizes.items():
        bytes_of[log.index(arm)] = size
    load_ms = model.expected_ms(bytes_of)
    capacity, costs = Capacity(sizes=bytes_of, slots=slots), load_ms / 1000.0
    residency = Residency(capacity=capacity, costs=costs)
    resident = resident_under(log, target, residency, CACHES[cache](capacity=capacity, costs=costs), load_ms)
    return reprice(log, target, resident, bytes_of, model.expected_ms)


def resident_under(
    log: LoggedEvents, target: F64, residency: Residency, controller: CacheController, load_ms: F64, *, seed: int = 0
) -> Bool:
    """Which arms are resident before each row when the target's draws drive the controller, shape (n, K).

    The arms are drawn from `target` independently of the logged ones, so the mask and the served arm of a row are
    independent and the importance weights stay right. Controllers that plan get ridge estimates of the utility.
    """
    uniform = np.random.default_rng(seed).random(len(log))
    theta = ridge_per_arm(log.contexts, log.arm, log.utility(Utility()), len(log.arms))

    def values(contexts: F64) -> tuple[F64, F64]:
        mean = contexts @ theta[:, 1:].T + theta[:, 0]
        return mean, np.zeros_like(mean)

    masks = np.empty(target.shape, dtype=np.bool_)
    residency.resident = controller.initial()
    for i in range(len(log)):
        masks[i] = residency.resident
        arm = draw(target[i], uniform[i])
        miss = not residency.resident[arm]
        proposal = controller.after(Served(step=i, context=log.contexts[i], arm=arm, miss=miss), values)
        if proposal is not None:
            residency.apply(proposal, load_ms, missed=arm if miss else None)
    return masks


def reprice(log: LoggedEvents, target: F64, resident: Bool, sizes: F64, expected_ms: ExpectedMs) -> Repriced:
    """Replace the logged paging by that of another residency.

    Args:
        log: with latency and the resident set.
        target: the policy whose paging is averaged, shape (n, K).
        resident: the new residency before each row, shape (n, K), for instance from `resident_under`.
        sizes: bytes of each arm, shape (K,); 0 for what is always resident.
        expected_ms: `PagingModel.expected_ms`.

    Raises:
        Unanswerable: the log carries no resident set or no latency.
        InvalidInput: wrong shapes.
    """
    if log.resident is None:
        raise Unanswerable("the log carries no resident set, so its paging cannot be taken out of the latency")
    if sizes.shape != (len(log.arms),) or resident.shape != target.shape:
        raise InvalidInput(f"sizes must have shape ({len(log.arms)},) and resident {target.shape}")
    column = CHANNELS.index("latency_s")
    if np.isnan(log.outcomes[:, column]).all():
        raise Unanswerable("the log carries no latency")
    load_ms = np.asarray(expected_ms(sizes), dtype=np.float64)
    rows = np.arange(len(log))
    logged, new = (np.where(mask, 0.0, load_ms) for mask in (log.resident, resident))
    latency = log.outcomes[:, column] + (new - logged)[rows, log.arm] / 1000.0
    outcomes = log.outcomes.copy()
    outcomes[:, column] = np.maximum(latency, 0.0)
    return Repriced(
        log=replace(log, outcomes=outcomes, resident=resident),
        logged_ms=float((target * logged).sum(axis=1).mean()),
        new_ms=float((target * new).sum(axis=1).mean()),
        below_zero=int((latency < 0).sum()),
    )
