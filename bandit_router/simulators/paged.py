"""The two-timescale loop: a router over the whole library, a controller over what is resident, and their regret.

With mean utilities u, paging costs c and a resident set S, the best that a request x allows is

    g_S(x) = max( max_{i in S} u_i(x), max_j u_j(x) - c_j )

and regret against the best static set S* splits, for every policy and exactly, into

    sum g_{S*} - (u_a - c_a [a not in S_t]) + reloads
        = sum (g_{S_t} - (u_a - c_a [a not in S_t]))   routing regret under the cache held
        + sum (g_{S*} - g_{S_t})                        cache regret
        + reloads                                       reload cost
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.paging.residency import OnMiss, PagingCounters, Residency
from bandit_router.policies.base import Policy, utility
from bandit_router.policies.caching.base import CacheController, Served, beliefs
from bandit_router.policies.caching.solve import gains, solve_cache
from bandit_router.policies.play import play
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.controllers import Hindsight
from bandit_router.simulators.environment import Environment, draws, generator
from bandit_router.simulators.run import Trajectory, checkpoints

SAMPLE = 4096


@dataclass(frozen=True)
class PagedTrajectory(Trajectory):
    """A trajectory with paging. `curve` holds the utility net of paging and reloads.

    Attributes:
        held: sum of g_{S_t}. net: sum of u_a - c_a [miss]. reload: reload cost. All in utility units.
        counters: of the residency.
    """

    held: float
    net: float
    reload: float
    counters: PagingCounters


class RegretSplit(NamedTuple):
    """Regret against the best static cache and its three parts, which add up."""

    total: float
    routing: float
    cache: float
    reload: float


def best_with(means: F64, resident: Bool, costs: F64) -> F64:
    """g_S(x) of every request: means (n, arms) -> (n,)."""
    return np.asarray((means - np.where(resident, 0.0, costs)).max(axis=1))


def split(trajectory: PagedTrajectory, best_static: float) -> RegretSplit:
    """The regret split of one trajectory; `best_static` is the sum of g_{S*} over the same stream."""
    routing = trajectory.held - trajectory.net
    cache = best_static - trajectory.held
    return RegretSplit(best_static - trajectory.net + trajectory.reload, routing, cache, trajectory.reload)


def hindsight(environment: Environment, paging: Paging, weights: F64, *, seed: int, horizon: int) -> Hindsight:
    """The best static set of a stream, the sum of its g, and which arm each request would want.

    The set is exact while the sets can be enumerated and the stream is at most `4 * SAMPLE` long; beyond, it is solved
    on an even sample of the stream. The value is always summed over the whole stream.
    """
    sample, wanted = [], []
    every = 1 if horizon <= 4 * SAMPLE else -(-horizon // SAMPLE)
    step = 0
    for block in environment.blocks(seed, horizon):
        u = utility(block.means, weights)
        wanted.append(u.argmax(axis=1))
        sample.append(u[-step % every :: every])
        step += len(u)
    resident = solve_cache(gains(np.concatenate(sample), paging.costs), paging.capacity)
    blocks = (utility(block.means, weights) for block in environment.blocks(seed, horizon))
    value = sum(float(best_with(u, resident, paging.costs).sum()) for u in blocks)
    return Hindsight(resident, value, np.concatenate(wanted), seed)


def simulate_paged(
    environment: Environment,
    policy: Policy,
    controller: CacheController,
    paging: Paging,
    weights: F64,
    *,
    seed: int,
    horizon: int,
    on_miss: OnMiss = "insert",
    cache_aware: bool = True,
) -> PagedTrajectory:
    """Run one policy with one controller over one stream.

    Args:
        environment, policy, weights, seed, horizon: see `simulate`.
        controller: fresh. paging: capacity and costs. on_miss: see `Residency`.
        cache_aware: whether the router sees the penalty of cold arms; False is the usual oblivious router.
    """
    residency = Residency(capacity=paging.capacity, costs=paging.costs, on_miss=on_miss, resident=controller.initial())

    def values(contexts: F64) -> tuple[F64, F64]:
        if len(contexts) == 1:
            one = policy.estimate(contexts[0])
            return beliefs(one.mean[None], one.bonus[None], weights)
        return beliefs(*policy.estimates(contexts), weights)

    n = len(environment.arms)
    eye = np.eye(n, dtype=np.bool_)
    net, held, plays = np.empty(horizon), np.empty(horizon), np.zeros(n)
    outcomes = np.empty((horizon, len(weights)))
    reload, seconds, step = 0.0, 0.0, 0
    for index, block in enumerate(environment.blocks(seed, horizon)):
        uniforms = draws(environment.name, seed, index, len(block.contexts))
        luck = generator(environment.name, "paging", seed, index).random(len(block.contexts))
        load_ms = paging.load_ms(luck)
        block_utility = utility(block.means, weights)
        started = time.perf_counter()
        i = 0
        while i < len(uniforms):
            penalty, cold = residency.penalty(), ~residency.resident
            forced = controller.forced(step)
            last = i + (controller.holds(step) if forced is None else 1)
            arms, _ = play(
                policy,
                block.contexts[i:last],
                block.outcomes[i:last],
                uniforms[i:last],
                weights,
                eligible=None if forced is None else eye[forced],
                penalty=penalty if cache_aware else None,
                until=cold if controller.wakes_on_miss else None,
            )
            rows, steps = np.arange(i, i + len(arms)), slice(step, step + len(arms))
            held[steps] = (block_utility[rows] - penalty).max(axis=1)
            net[steps] = block_utility[rows, arms] - penalty[arms]
            outcomes[steps] = block.outcomes[rows, arms]
            plays += np.bincount(arms, minlength=n)
            for row, arm in zip(rows.tolist(), arms.tolist(), strict=True):
                miss = residency.serve(arm, float(load_ms[row, arm]))
                proposal = controller.after(Served(step, block.contexts[row], arm, miss), values)
                step += 1
            i += len(arms)
            if proposal is not None:
                loaded = residency.apply(proposal, load_ms[i - 1], missed=arm if miss else None)
                charge = float(loaded @ paging.costs)
                reload += charge
                net[step - 1] -= charge
        seconds += time.perf_counter() - started
    return PagedTrajectory(
        net.cumsum()[checkpoints(horizon) - 1],
        np.nansum(outcomes, axis=0),
        np.isfinite(outcomes).sum(axis=0).astype(np.float64),
        plays,
        seconds,
        float(held.sum()),
        float(net.sum()) + reload,
        reload,
        residency.counters,
    )
