"""Runs of steps on known outcomes: what simulations and replays do, step by step or in one compiled call.

Both functions only compose the two verbs of a policy. A linear policy on compiled statistics does the same steps with
the same numbers inside one call that releases the GIL, so that seeds can run in threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Bool, Index
from bandit_router.policies.base import Policy
from bandit_router.policies.compiled import CompiledRidge
from bandit_router.policies.distributions import draw
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


def play(
    policy: Policy,
    contexts: F64,
    outcomes: F64,
    uniforms: F64,
    prices: F64,
    *,
    eligible: Bool | None = None,
    penalty: F64 | None = None,
    until: Bool | None = None,
) -> tuple[Index, F64]:
    """Let a policy decide, see its own arm's outcome and learn, step by step.

    Args:
        policy: is changed by what it learns.
        contexts: shape (steps, dim). outcomes: of every arm, shape (steps, arms, channels).
        uniforms: the number each arm is drawn with, in [0, 1), shape (steps,).
        prices: signed channel weights, shape (channels,).
        eligible: mask of the arms allowed, shape (steps, arms), or (arms,) for all these steps; default all. With a
            mask the steps are not compiled.
        penalty: known cost of each arm in all these steps, shape (arms,); default none.
        until: the run ends after the first step that plays one of these arms, shape (arms,); default none.

    Returns:
        Arms played and the propensities they were drawn with, as many as steps were done.

    Raises:
        InvalidInput: a step the policy refuses; the steps before it were learned.

    Example:
        >>> from bandit_router import LinUCB
        >>> outcomes = np.tile([[0.0], [1.0]], (50, 1, 1))
        >>> arms, _ = play(LinUCB(n_arms=2, dim=1, floor=0.0), np.ones((50, 1)), outcomes, np.zeros(50), np.ones(1))
        >>> arms[-5:].tolist()
        [1, 1, 1, 1, 1]
    """
    arms, propensities = np.empty(len(uniforms), dtype=np.intp), np.empty(len(uniforms))
    done = 0
    statistics = _compiled(policy) if eligible is None else None
    if statistics is not None:
        still = np.zeros(policy.n_arms)
        inputs = (contexts, outcomes, uniforms, prices, still if penalty is None else penalty)
        stop = (still != 0) if until is None else until
        rule, parameters = _rules(policy, len(uniforms))
        done = statistics.play(rule, parameters, (*map(_dense, inputs), stop), (arms, propensities))
        policy.steps += done
    masks = None if eligible is None else np.broadcast_to(eligible, (len(uniforms), policy.n_arms))
    while done < len(uniforms) and not (done and until is not None and until[arms[done - 1]]):
        p = policy.probabilities(contexts[done], None if masks is None else masks[done], prices, penalty)
        arm = arms[done] = draw(p, uniforms[done])
        propensities[done] = min(float(p[arm]), 1.0)
        policy.learn(contexts[done], arm, outcomes[done, arm], propensity=propensities[done])
        done += 1
    return arms[:done], propensities[:done]


def follow(
    policy: Policy,
    contexts: F64,
    arms: Index,
    outcomes: F64,
    prices: F64,
    *,
    eligible: Bool,
    bars: F64,
    share: float,
    usable: Bool,
    propensities: F64 | None = None,
) -> tuple[F64, Bool]:
    """A policy's probabilities along a log, learning the rows it takes for its own.

    Args:
        policy: is changed by what it learns.
        contexts: shape (rows, dim). arms: that were logged, shape (rows,). outcomes: theirs, shape (rows, channels).
        prices: signed channel weights, shape (channels,).
        eligible: shape (rows, arms). usable: rows whose outcome may be learned, shape (rows,).
        bars, share: row t is kept when bars[t] < p[arm] * share; bars below 0 keep every row.
        propensities: what each row is learned with, shape (rows,), NaN for the policy's own probability of the logged
            arm; default that for all. The compiled policies do not read it.

    Returns:
        Probabilities, shape (rows, arms), each from before its row was learned, and the mask of kept rows.
    """
    table, kept = np.zeros((len(arms), policy.n_arms)), np.zeros(len(arms), dtype=np.bool_)
    done = 0
    statistics = _compiled(policy)
    if statistics is not None:
        logged = (_dense(contexts), arms.astype(np.int64), _dense(outcomes), np.ascontiguousarray(eligible))
        rule, parameters = _rules(policy, len(arms))
        inputs = (*logged, _dense(bars), share, np.ascontiguousarray(usable), _dense(prices))
        done, learned = statistics.follow(rule, parameters, inputs, (table, kept))
        policy.steps += learned
    for row in range(done, len(arms)):
        table[row] = p = policy.probabilities(contexts[row], eligible[row], prices)
        chance = float(p[arms[row]])
        kept[row] = bars[row] < chance * share
        if kept[row] and usable[row]:
            told = math.nan if propensities is None else float(propensities[row])
            drawn = min(max(chance, 1e-12), 1.0) if math.isnan(told) else told
            policy.learn(contexts[row], int(arms[row]), outcomes[row], propensity=drawn)
    return table, kept


def _compiled(policy: Policy) -> CompiledRidge | None:
    """The statistics of a policy that adds nothing to `LinearPolicy` but its rule, if they are compiled."""
    if isinstance(policy, LinearPolicy) and policy.rule_only and isinstance(policy.statistics, CompiledRidge):
        return policy.statistics
    return None


def _rules(policy: Policy, count: int) -> tuple[Rule, F64]:
    """The policy's rule now, and its parameter after 0, 1, ... count - 1 more outcomes."""
    assert isinstance(policy, LinearPolicy)  # noqa: S101
    first, last = policy._rule(policy.steps), policy._rule(policy.steps + count)
    if first == last:  # it moves one way only, so it is constant
        return first, np.full(count, first.parameter)
    return first, np.array([policy._rule(policy.steps + done).parameter for done in range(count)])


def _dense(array: NDArray[np.float64]) -> F64:
    return np.ascontiguousarray(array, dtype=np.float64)
