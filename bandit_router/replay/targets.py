"""Target policies as tables of probabilities over a log: one arm, uniform, frozen or learning along."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.play import follow as steps
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.logs.logged import LoggedEvents

Learning = Literal["nothing", "accepted", "every"]


def one_arm(log: LoggedEvents, arm: str) -> F64:
    """Always `arm`, uniform over the eligible ones where it is not eligible; shape (n, K).

    Example:
        >>> log = LoggedEvents.of(arms=("a", "b"), arm=[0], propensity=[0.5])
        >>> one_arm(log, "b").tolist()
        [[0.0, 1.0]]
    """
    index = log.index(arm)
    table = uniform(log)
    allowed = log.allowed()[:, index]
    table[allowed] = 0.0
    table[allowed, index] = 1.0
    return table


def uniform(log: LoggedEvents) -> F64:
    """Every eligible arm alike, shape (n, K)."""
    allowed = log.allowed()
    return np.asarray(allowed / allowed.sum(axis=1, keepdims=True))


def follow(
    policy: Policy,
    log: LoggedEvents,
    *,
    utility: Utility | None = None,
    learning: Learning = "accepted",
    seed: int = 0,
) -> tuple[F64, Bool]:
    """A policy's probabilities along the log, and the rows it took for its own.

    Args:
        policy: with the log's arms, features and channels; it is changed where it learns.
        learning: "nothing" freezes it. "accepted" lets it learn from the rows that rejection sampling lets it have
            produced itself, with probability p_policy / p_logged * the smallest logged propensity: its history is
            one it could have lived (Li et al. 2011; Dudik et al. 2012, arXiv 1210.4862). "every" lets it learn from
            each row: the history is the logger's, as in progressive validation, and far longer. A policy that weighs by
            propensity learns an accepted row with its own probability of the arm and every row with the logged one,
            because that is what the arm was drawn with; where the log has none, with its own.
        utility: prices; default quality alone.
        seed: of the rejection draws.

    Returns:
        Probabilities, shape (n, K), each made before the row was learned, and a mask of the accepted rows. Feedback
        is learned at once; delays of the log are not replayed.

    Raises:
        InvalidInput: sizes of policy and log differ, or the log has no propensities to accept by.
    """
    expected = (len(log.arms), len(log.features), len(CHANNELS))
    if (policy.n_arms, policy.dim, policy.channels) != expected:
        got = (policy.n_arms, policy.dim, policy.channels)
        raise InvalidInput(f"the policy must have (arms, features, channels) {expected}, got {got}")
    accepting = learning == "accepted"
    if accepting and np.isnan(log.propensity).any():
        raise InvalidInput("rejection replay needs a propensity in every row; use learning='every'")
    usable = ~np.isnan(log.outcomes[:, 0]) & ~log.degraded & (learning != "nothing")
    bars = np.random.default_rng(seed).random(len(log)) * log.propensity if accepting else np.full(len(log), -1.0)
    table, kept = steps(
        policy,
        log.contexts,
        log.arm,
        log.outcomes,
        (utility or Utility()).weights(CHANNELS),
        eligible=log.allowed(),
        bars=bars,
        share=float(log.propensity.min()) if accepting else 1.0,
        usable=usable,
        propensities=None if accepting else log.propensity,
    )
    return table, np.asarray(kept & (learning != "nothing"))
