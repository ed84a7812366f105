"""Explanations: what every arm of one decision was believed to be worth, and why it got its probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.base import Estimate, Policy
from bandit_router.records.decisions import Decision, Mode


class ArmExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one arm got its probability. Utilities and bonuses in utility units; None where the policy has no estimate.

    Attributes:
        mean: expected utility at the current prices, before bonus and penalty.
        propensity: the probability that this arm served with: where the baseline served, 1 on what served.
        policy: the probability that the policy gave it; None where the policy was not asked.
        channels: expected outcome per channel. priced: what each channel adds to the utility.
        features: what each element of the context adds to the mean, by its place, where asked for and the mean is
            linear in the context; else None.
    """

    arm: str
    eligible: bool
    mean: float | None
    bonus: float
    penalty: float
    propensity: float
    policy: float | None
    channels: dict[str, float | None]
    priced: dict[str, float | None]
    features: tuple[float, ...] | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Every arm of one decision, the likeliest first, and the runner-up: the likeliest arm that was not chosen.

    Attributes:
        chosen: the arm that served, with `propensity`. mode, proposed, degraded: as in `Decision`.
    """

    arms: tuple[ArmExplanation, ...]
    chosen: str
    runner_up: str | None
    state_version: int
    mode: Mode
    propensity: float
    proposed: str | None
    degraded: bool


def explain(
    decision: Decision,
    arm_ids: Sequence[str],
    policy: Policy,
    channels: Sequence[str],
    weights: F64,
    *,
    features: bool = False,
) -> Explanation:
    """Explain `decision` by the policy's present beliefs; `weights` are the signed channel prices.

    Args:
        features: also what each element of the context adds, which takes an estimate for each.
    """
    estimate = policy.estimate(decision.context)
    parts = _contributions(decision.context, policy, weights) if features else None
    arms = [_explain_arm(decision, i, arm_id, estimate, channels, weights, parts) for i, arm_id in enumerate(arm_ids)]
    arms.sort(key=lambda arm: (-arm.propensity, arm.penalty - arm.bonus - (arm.mean or 0.0)))
    others = [arm.arm for arm in arms if arm.eligible and arm.arm != decision.arm]
    return Explanation(
        arms=tuple(arms),
        chosen=decision.arm,
        runner_up=others[0] if others else None,
        state_version=policy.steps,
        mode=decision.mode,
        propensity=decision.propensity,
        proposed=decision.proposed,
        degraded=decision.degraded,
    )


def _utility(estimate: Estimate, weights: F64) -> F64:
    return np.asarray(np.where(weights == 0, 0.0, estimate.mean * weights).sum(axis=1))


def _contributions(x: F64, policy: Policy, weights: F64) -> F64:
    """What each element of `x` adds to each arm's utility, shape (arms, dim); NaN for an arm with another mean."""
    parts = np.array([_utility(policy.estimate(row), weights) for row in np.diag(x)]).T
    linear = np.isclose(parts.sum(axis=1), _utility(policy.estimate(x), weights), rtol=1e-6, atol=1e-9)
    return np.where(linear[:, None], parts, np.nan)


def _explain_arm(
    decision: Decision,
    index: int,
    arm_id: str,
    estimate: Estimate,
    channels: Sequence[str],
    weights: F64,
    parts: F64 | None,
) -> ArmExplanation:
    p = decision.probabilities
    known = p is not None and index < len(p)  # an arm added since has no part in this decision
    mean = estimate.mean[index]
    drawn = decision.proposed is None and p is not None  # else the baseline served, whatever the policy would have done
    given = float(p[index]) if p is not None and known else 0.0
    priced = np.where(weights == 0, 0.0, mean * weights)
    return ArmExplanation(
        arm=arm_id,
        eligible=known and (decision.eligible is None or bool(decision.eligible[index])),
        mean=_number(float(priced.sum())),
        bonus=float(estimate.bonus[index]),
        penalty=float(decision.penalty[index]) if known and decision.penalty is not None else 0.0,
        propensity=given if drawn else float(arm_id == decision.arm),
        policy=None if p is None else given,
        channels={name: _number(float(value)) for name, value in zip(channels, mean, strict=True)},
        priced={name: _number(float(value)) for name, value in zip(channels, priced, strict=True)},
        features=None if parts is None or np.isnan(parts[index]).any() else tuple(parts[index].tolist()),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
