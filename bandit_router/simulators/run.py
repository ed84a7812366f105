"""The simulation loop: one policy on one stream, and what any fixed choice would have got on the same stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy, utility
from bandit_router.policies.play import play
from bandit_router.simulators.environment import Block, Environment, draws

CHECKPOINTS = 200


@dataclass(frozen=True)
class Trajectory:
    """One policy on one stream.

    Attributes:
        curve: cumulative mean utility at the checkpoints, shape (checkpoints,).
        outcome_sums, outcome_counts: metered outcomes per channel, shape (channels,).
        plays: shape (arms,). seconds: time spent deciding and learning.
    """

    curve: F64
    outcome_sums: F64
    outcome_counts: F64
    plays: F64
    seconds: float


@dataclass(frozen=True)
class RoutedTrajectory(Trajectory):
    """A router on one stream.

    Attributes:
        counted: what the router counted, by name, and requests by the mode they were decided in, "mode_" before it;
            "refused_budget" are requests that no arm could be paid for: they are not served and earn nothing.
        limits: what the budgets report, see `Budgets.report`.
    """

    counted: dict[str, float]
    limits: list[dict[str, Any]]


@dataclass(frozen=True)
class Reference:
    """What could have been had on one stream, cumulative at the checkpoints.

    Attributes:
        fixed: every fixed arm, shape (checkpoints, arms); where it cannot be played, the mean of those that can.
        oracle: the best playable arm of each request, shape (checkpoints,).
    """

    fixed: F64
    oracle: F64

    @property
    def best_fixed(self) -> int:
        """The best fixed arm in hindsight."""
        return int(self.fixed[-1].argmax())


def checkpoints(horizon: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Steps (1-based) at which curves are kept: at most `CHECKPOINTS`, evenly spread, the last one included."""
    return np.unique(np.linspace(1, horizon, min(CHECKPOINTS, horizon)).round().astype(np.intp))


def simulate(environment: Environment, policy: Policy, weights: F64, *, seed: int, horizon: int) -> Trajectory:
    """Run a policy over one stream.

    Args:
        environment: see `Environment`.
        policy: fresh, with the environment's numbers of arms, channels and dim.
        weights: signed channel prices, shape (channels,), see `Utility.weights`.
        seed: chooses the stream and the policy's draws.
        horizon: steps.
    """
    utilities = np.empty(horizon)
    sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
    plays = np.zeros(len(environment.arms))
    seconds, step = 0.0, 0
    for index, block in enumerate(environment.blocks(seed, horizon)):
        uniforms = draws(environment.name, seed, index, len(block.contexts))
        started = time.perf_counter()
        chosen, _ = play(policy, block.contexts, block.outcomes, uniforms, weights, eligible=block.playable)
        seconds += time.perf_counter() - started
        rows = np.arange(len(chosen))
        utilities[step : step + len(chosen)] = utility(block.means[rows, chosen], weights)
        outcomes = block.outcomes[rows, chosen]
        sums += np.nansum(outcomes, axis=0)
        counts += np.isfinite(outcomes).sum(axis=0)
        plays += np.bincount(chosen, minlength=len(plays))
        step += len(chosen)
    return Trajectory(utilities.cumsum()[checkpoints(horizon) - 1], sums, counts, plays, seconds)


def reference(environment: Environment, weights: F64, *, seed: int, horizon: int) -> Reference:
    """Every fixed arm and the per-request oracle on one stream."""
    fixed = np.empty((horizon, len(environment.arms)))
    oracle = np.empty(horizon)
    step = 0
    for block in environment.blocks(seed, horizon):
        u = playable_utility(block, weights)
        fixed[step : step + len(u)] = np.where(np.isfinite(u), u, _mean_playable(u))
        oracle[step : step + len(u)] = u.max(axis=1)
        step += len(u)
    keep = checkpoints(horizon) - 1
    return Reference(fixed.cumsum(axis=0)[keep], oracle.cumsum()[keep])


def playable_utility(block: Block, weights: F64) -> F64:
    """Mean utility of every arm, minus infinity where it cannot be played; shape (steps, arms).

    Raises:
        InvalidInput: a priced channel of a playable arm is unknown.
    """
    u = utility(block.means, weights)
    if block.playable is not None:
        u = np.where(block.playable, u, -np.inf)
    if np.isnan(u).any():
        raise InvalidInput("a priced channel is not metered for every request and arm; leave its price out")
    return u


def _mean_playable(u: F64) -> F64:
    """What a uniform draw over the playable arms gets, shape (steps, 1)."""
    known = np.isfinite(u)
    return np.asarray(np.where(known, u, 0.0).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True))
