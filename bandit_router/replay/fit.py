"""A policy warm-started from a log, and what that is worth: fitted against fresh on the log's tail."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from bandit_router.arrays import Bool
from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.policies.base import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.compare import make_policy, refusals
from bandit_router.replay.estimators.intervals import Interval
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted
from bandit_router.replay.paired import differences
from bandit_router.replay.targets import follow
from bandit_router.routing.groups import PolicySpec
from bandit_router.settling.learner import Learner


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """Doubly robust values on the tail by progressive validation: each row is valued before it is learned.

    Attributes:
        head_rows: learned by the fitted policy alone. tail_rows: learned by both, and valued.
        fitted, fresh, logged: utility per request there. difference: fixed-n interval of fitted minus fresh, paired.
    """

    head_rows: int
    tail_rows: int
    fitted: float
    fresh: float
    logged: float
    difference: Interval | None


def teaches(log: LoggedEvents) -> Bool:
    """The rows that a policy can learn from, shape (n,): whoever chose the arm, its outcome is known and its own.

    Rows that the baseline served teach about its arm; degraded ones, and those without an outcome, such as diverted
    ones, teach nothing.
    """
    return ~np.isnan(log.outcomes[:, 0]) & ~log.degraded


def fit(
    log: LoggedEvents,
    policy: PolicySpec,
    *,
    utility: Utility | None = None,
    channels: Sequence[str] = CHANNELS,
) -> Learner:
    """A learner whose policy has learned every row that teaches, in their order; `save_state` writes it.

    Args:
        log: with the router's arms, in its order. policy: by name. utility: prices; default quality alone.
        channels: of the router, quality first.

    A policy that weighs by propensity takes the logged one, or its own where the log has none.

    Raises:
        InvalidInput: no row teaches, or the policy does not take its settings.

    Example:
        >>> log = LoggedEvents.of(arms=("a", "b"), arm=[0, 1], propensity=[0.5, 0.5], quality=[1.0, 0.0])
        >>> fit(log, PolicySpec(name="LinUCB")).policy.steps
        2
    """
    rows = np.flatnonzero(teaches(log))
    if not len(rows):
        raise InvalidInput("no row of the log has a quality and was not degraded; there is nothing to learn from")
    built = policy.build(n_arms=len(log.arms), dim=len(log.features), channels=len(channels))
    learned = log.outcomes[:, [CHANNELS.index(name) for name in channels]]
    for row in rows:
        x, arm = log.contexts[row], int(log.arm[row])
        built.learn(x, arm, learned[row], propensity=_propensity(built, log, int(row)))
    return Learner(
        catalogue=Catalogue(Arm(id=arm) for arm in log.arms),
        policy=built,
        channels=tuple(channels),
        utility=utility or Utility(),
    )


def _propensity(policy: Policy, log: LoggedEvents, row: int) -> float:
    known = float(log.propensity[row])
    if known == known or not policy.reads_propensity:
        return known if known == known else 1.0
    eligible = None if log.eligible is None else log.eligible[row]
    return max(float(policy.probabilities(log.contexts[row], eligible)[log.arm[row]]), 1e-6)


def gain(log: LoggedEvents, policy: PolicySpec, *, utility: Utility | None = None, head: float = 0.7) -> Gain:
    """What the first rows of a log are worth to a policy, on the rest of it.

    Args:
        head: share of the rows that count that the fitted policy has learned before.
        others: see `fit`.

    Raises:
        InvalidInput: a head outside (0, 1), or the policy does not take its settings.
        Unanswerable: the log cannot value the policy, for instance because it has no propensities.
    """
    if not 0 < head < 1:
        raise InvalidInput(f"head must be in (0, 1), got {head}")
    rows = np.flatnonzero(counted(log)[0])
    split = int(rows[int(len(rows) * head)])
    tail = log.take(slice(split, None))
    tables = [
        follow(make_policy(policy.name, part, policy.settings), part, utility=utility, learning="every")[0]
        for part in (log, tail)
    ]
    fitted, fresh = tables[0][split:], tables[1]
    results = [evaluate(tail, table, utility=utility, estimators=("dr",)) for table in (fitted, fresh)]
    for result in results:
        if not result.answered:
            raise Unanswerable("; ".join(refusals(tail, result, utility)))
    one, other = (result.metrics["utility"] for result in results)
    return Gain(
        head_rows=split,
        tail_rows=len(tail),
        fitted=one.estimates["dr"].value,
        fresh=other.estimates["dr"].value,
        logged=one.logged,
        difference=differences(tail, fitted, fresh, utility=utility, interval="fixed")["utility"],
    )
