"""The slow timescale in a serving loop: price what is cold before a decision, say what to load and evict after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.paging.residency import OnMiss, PagingCounters, Residency
from bandit_router.policies.caching.base import CacheController, Capacity, Served, beliefs
from bandit_router.records.decisions import Decision
from bandit_router.settling.learner import Learner


class Learns(Protocol):
    """What the cache asks of a `Router`: its catalogue, policy and prices, behind their lock."""

    @property
    def learner(self) -> Learner:
        """The state that is learned."""


class CacheChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the serving engine should do now, by arm id. Both are empty most of the time.

    Attributes:
        load: adapters to bring into fast memory; under "insert" the one just paged in is already there.
        evict: adapters to drop first.
    """

    load: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()


class AdapterCache:
    """Joins a router with a cache controller.

    Per request: `router.decide(x, event_id=..., penalty=cache.penalty(), resident=cache.resident)`, serve,
    `cache.served(decision)`. With `resident` the log can be valued under another cache.

    Args:
        router: its catalogue holds the adapters; `size_bytes` 0 means always resident. Arms are fixed from here on.
        load_ms: expected milliseconds of paging each adapter in, by arm id (see `PagingModel.expected_ms`).
        weight: utility one is ready to give up to avoid the slowest load; costs are in proportion to `load_ms`.
        slots, limit_bytes: capacity; at least one is given. pinned: ids that stay resident.
        resident: ids in fast memory at the start, as the engine has them.
        controller: makes the controller from capacity and costs; default `ExchangeCredit`.
        on_miss: what the engine does with an adapter it had to page in, see `Residency`.

    The resident set here is a belief about the engine; `resync` corrects it. Not thread-safe: call it where the loop
    hands out requests.

    Example:
        >>> from bandit_router import Arm, Router
        >>> arms = [Arm(id="base"), *(Arm(id=i, kind="adapter", size_bytes=100) for i in ("law", "code"))]
        >>> router = Router(arms=arms, context=1, key=b"secret")
        >>> cache = AdapterCache(router=router, load_ms={"law": 300.0, "code": 600.0}, weight=0.1, slots=1)
        >>> cache.penalty()
        {'base': 0.0, 'law': 0.05, 'code': 0.1}
        >>> change = cache.served(router.decide([1.0], event_id="r-1", penalty=cache.penalty()))
    """

    def __init__(
        self,
        *,
        router: Learns,
        load_ms: Mapping[str, float],
        weight: float,
        slots: int | None = None,
        limit_bytes: float | None = None,
        pinned: Iterable[str] = (),
        resident: Iterable[str] = (),
        controller: Callable[..., CacheController] | None = None,
        on_miss: OnMiss = "insert",
    ) -> None:
        if slots is None and limit_bytes is None:
            raise InvalidInput("give slots or limit_bytes, else everything fits and there is nothing to decide")
        self._learner = router.learner
        self._ids = self._learner.catalogue.ids
        sizes = np.array([float(arm.size_bytes) for arm in self._learner.catalogue])
        missing = [arm.id for arm in self._learner.catalogue if arm.size_bytes and not load_ms.get(arm.id, 0.0) > 0]
        if missing:
            raise InvalidInput(f"load_ms must be above 0 for every adapter, and lacks {', '.join(missing)}")
        self._load_ms = np.array(
            [load_ms.get(arm, 0.0) if size else 0.0 for arm, size in zip(self._ids, sizes, strict=True)]
        )
        capacity = Capacity(sizes, slots, limit_bytes, self._mask(pinned))
        costs = weight * self._load_ms / max(float(self._load_ms.max()), 1e-12)
        if controller is None:
            from bandit_router.policies.caching.credit import ExchangeCredit  # which brings SciPy

            self._controller: CacheController = ExchangeCredit(
                capacity=capacity, costs=costs, free_insert=on_miss == "insert"
            )
        else:
            self._controller = controller(capacity=capacity, costs=costs)
        self._residency = Residency(capacity=capacity, costs=costs, on_miss=on_miss)
        self._step = 0
        self.resync(resident)

    @property
    def resident(self) -> tuple[str, ...]:
        """Ids believed to be in fast memory."""
        return self._named(self._residency.resident)

    @property
    def counters(self) -> PagingCounters:
        """Requests, misses, loads, milliseconds and bytes since the start."""
        return self._residency.counters

    def penalty(self) -> dict[str, float]:
        """What serving each arm would cost now, in utility: for `Router.decide`."""
        return dict(zip(self._ids, self._residency.penalty().tolist(), strict=True))

    def served(self, decision: Decision, *, load_ms: float | None = None) -> CacheChange:
        """Take note that a decision was served; what to load and evict now.

        Args:
            decision: the router's. load_ms: what its paging took, if it was measured; default the expected time.
        """
        arm = decision.arm_index
        if arm >= len(self._ids):
            raise InvalidInput(f"arm {decision.arm!r} was added after this cache was made; make a new one")
        if load_ms is not None and not (load_ms >= 0 and math.isfinite(load_ms)):
            raise InvalidInput(f"load_ms must be finite milliseconds of at least 0, got {load_ms}")
        miss = self._residency.serve(arm, float(self._load_ms[arm]) if load_ms is None else load_ms)
        served = Served(self._step, decision.context, arm, miss)
        self._step += 1
        with self._learner.lock:
            proposal = self._controller.after(served, self._values)
        if proposal is None:
            return CacheChange()
        before = self._residency.resident
        self._residency.apply(proposal, self._load_ms, missed=arm if miss else None)
        return CacheChange(load=self._named(proposal & ~before), evict=self._named(before & ~proposal))

    def resync(self, resident: Iterable[str]) -> None:
        """Take over what the engine really has in fast memory."""
        believed = self._residency.capacity.floor | self._mask(resident)
        self._residency.replace(believed)
        self._controller.resident = believed.copy()

    def _values(self, contexts: F64) -> tuple[F64, F64]:
        mean, bonus = self._learner.policy.estimates(contexts)
        n = len(self._ids)
        return beliefs(mean[:, :n], bonus[:, :n], self._learner.weights)

    def _mask(self, ids: Iterable[str]) -> Bool:
        mask = np.zeros(len(self._ids), dtype=np.bool_)
        mask[[self._learner.catalogue.index(arm) for arm in ids]] = True
        return mask

    def _named(self, mask: Bool) -> tuple[str, ...]:
        return tuple(self._ids[i] for i in np.flatnonzero(mask))
