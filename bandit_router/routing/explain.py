"""Explanations: what every arm of one decision was believed to be worth, and why it got its probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.base import Estimate, Policy
from bandit_router.records.decisions import Decision


class ArmExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one arm got its probability. Utilities and bonuses in utility units; None where the policy has no estimate.

    Attributes:
        mean: expected utility at the current prices, before bonus and penalty.
        channels: expected outcome per channel. priced: what each channel adds to the utility.
    """

    arm: str
    eligible: bool
    mean: float | None
    bonus: float
    penalty: float
    propensity: float
    channels: dict[str, float | None]
    priced: dict[str, float | None]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Every arm of one decision, the likeliest first, and the runner-up: the likeliest arm that was not chosen."""

    arms: tuple[ArmExplanation, ...]
    chosen: str
    runner_up: str | None
    state_version: int


def explain(
    decision: Decision, arm_ids: Sequence[str], policy: Policy, channels: Sequence[str], weights: F64
) -> Explanation:
    """Explain `decision` by the policy's present beliefs; `weights` are the signed channel prices."""
    estimate = policy.estimate(decision.context)
    arms = [_explain_arm(decision, i, arm_id, estimate, channels, weights) for i, arm_id in enumerate(arm_ids)]
    arms.sort(key=lambda arm: (-arm.propensity, arm.penalty - arm.bonus - (arm.mean or 0.0)))
    others = [arm.arm for arm in arms if arm.eligible and arm.arm != decision.arm]
    return Explanation(
        arms=tuple(arms),
        chosen=decision.arm,
        runner_up=others[0] if others else None,
        state_version=policy.steps,
    )


def _explain_arm(
    decision: Decision, index: int, arm_id: str, estimate: Estimate, channels: Sequence[str], weights: F64
) -> ArmExplanation:
    p = decision.probabilities
    known = p is not None and index < len(p)  # an arm added since has no part in this decision
    mean = estimate.mean[index]
    priced = np.where(weights == 0, 0.0, mean * weights)
    return ArmExplanation(
        arm=arm_id,
        eligible=known and (decision.eligible is None or bool(decision.eligible[index])),
        mean=_number(float(priced.sum())),
        bonus=float(estimate.bonus[index]),
        penalty=float(decision.penalty[index]) if known and decision.penalty is not None else 0.0,
        propensity=float(p[index]) if p is not None and known else 0.0,
        channels={name: _number(float(value)) for name, value in zip(channels, mean, strict=True)},
        priced={name: _number(float(value)) for name, value in zip(channels, priced, strict=True)},
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
