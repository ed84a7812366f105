"""Target policies as tables of probabilities over a log: one arm, uniform, frozen or learning along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.play import follow as steps
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted

Learning = Literal["nothing", "accepted", "every"]


class Named(NamedTuple):
    """What the text of a target names: an arm, `uniform`, a file of a saved state, or a policy."""

    kind: Literal["arm", "uniform", "state", "policy"]
    name: str


def named(text: str) -> Named:
    """The target that a text names: "arm=ID", "uniform", the path of a saved state (.safetensors), a policy's name.

    Example:
        >>> named("arm=large").kind, named("uniform").kind, named("a/state.safetensors").kind, named("LinUCB").kind
        ('arm', 'uniform', 'state', 'policy')
    """
    if text.startswith("arm="):
        return Named("arm", text.removeprefix("arm="))
    if text in ("uniform", "UniformRandom"):
        return Named("uniform", "uniform")
    return Named("state" if text.endswith(".safetensors") or Path(text).is_file() else "policy", text)


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


def frozen(
    policy: Policy, arms: Sequence[str], channels: Sequence[str], log: LoggedEvents, *, utility: Utility | None = None
) -> tuple[F64, list[str]]:
    """The probabilities of a policy that does not learn, and what to say about its arms.

    Args:
        policy: with the log's features. arms: ids of its arms, in its order; they are matched with the log's by id.
            One that the log does not have was never eligible in it. One that the policy does not have is not played.
        channels: what it has learned. utility: prices; default quality alone.

    Returns:
        Probabilities in the log's order of arms, shape (n, K), and notes.

    Raises:
        InvalidInput: the features differ in number, a priced channel was not learned, or a row has no eligible arm that
            the policy knows.
    """
    if policy.dim != len(log.features):
        raise InvalidInput(f"the policy takes contexts of {policy.dim} numbers, the log has {len(log.features)}")
    here = [i for i, arm in enumerate(arms) if arm in log.arms]
    there = [log.arms.index(arms[i]) for i in here]
    eligible = np.zeros((len(log), policy.n_arms), dtype=np.bool_)
    eligible[:, here] = log.allowed()[:, there]
    lost = int((~eligible.any(axis=1)).sum())
    if lost:
        raise InvalidInput(
            f"in {lost} rows no arm was eligible that the policy knows; it knows {', '.join(arms)}, the log has "
            f"{', '.join(log.arms)}"
        )
    weights = (utility or Utility()).weights(channels)
    n = len(log)
    p, _ = steps(
        policy,
        log.contexts,
        np.zeros(n, dtype=np.intp),
        np.full((n, policy.channels), np.nan),
        weights,
        eligible=eligible,
        bars=np.full(n, -1.0),
        share=1.0,
        usable=np.zeros(n, dtype=np.bool_),
        propensities=None,
    )
    table = np.zeros((n, len(log.arms)))
    table[:, there] = p[:, here]
    strange = [arm for arm in log.arms if arm not in arms]
    absent = [arm for arm in arms if arm not in log.arms]
    notes = [f"the policy does not know {', '.join(strange)} and never plays it"] if strange else []
    return table, notes + ([f"the log does not know {', '.join(absent)}, which was never eligible"] if absent else [])


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
    if accepting:  # what the baseline served, with propensity 1, would be accepted for the baseline alone
        bars[~counted(log)[0]] = np.inf
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
