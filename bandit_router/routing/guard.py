"""A conservative start: the policy explores only what its record so far can pay for."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, utility


class ConservativeGuard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lets the policy decide while its cumulative utility, bounded below, stays over (1 - slack) of the baseline's.

    With u measured from `lowest`, and lower and upper confidence bounds of the policy at each decision,

        budget_t = sum_{policy decides} [p . lower_s - (1 - slack) * upper_s(baseline)]
                   + sum_{baseline serves} slack * lower_s(baseline)

    which bounds, from below, what was earned over what is promised. The policy decides at t only if budget_t stays at
    or above 0.

    Attributes:
        slack: share of the baseline's utility that may be given up for exploring, in (0, 1).
        lowest: the least utility that a request can have, for instance -price * (largest cost).

    Source: Wu, Shariff, Lattimore & Szepesvari 2016 (arXiv 1602.04282), condition (2); Kazerouni, Ghavamzadeh,
    Abbasi-Yadkori & Van Roy 2017 (arXiv 1611.06426), Algorithm 1. Both tighten the bounds of past decisions as evidence
    comes in; here a decision keeps the bound it was made with, which is more cautious and needs no memory. Their
    guarantee holds with the probability of the confidence bounds; the policy's `bonus` is taken as their width, so it
    is as good as that bonus is calibrated. Thompson policies say one posterior standard deviation, a bound that fails
    one time in six, and may be under the line by a few requests' utility at the start. The budget is of one process and
    starts at 0 after a restart.

    Example:
        >>> from bandit_router import Rollout
        >>> rollout = Rollout(baseline="small", guard=ConservativeGuard(slack=0.1))
    """

    slack: float
    lowest: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.slack < 1:
            raise InvalidInput(f"slack must be in (0, 1), got {self.slack}")
        if not math.isfinite(self.lowest):
            raise InvalidInput(f"lowest must be finite, got {self.lowest}")


class GuardRecord:
    """What a policy has earned over what a guard promises, in one process.

    Example:
        >>> from bandit_router import LinUCB
        >>> record, policy = GuardRecord(ConservativeGuard(slack=0.1)), LinUCB(n_arms=2, dim=1)
        >>> record.allows(np.array([0.0, 1.0]), policy.estimate([1.0]), np.ones(1), baseline=0)
        False
    """

    def __init__(self, guard: ConservativeGuard) -> None:
        self.guard = guard
        self.budget = 0.0

    def allows(self, p: F64, estimate: Estimate, prices: F64, *, baseline: int) -> bool:
        """Whether the policy may decide this request by `p`; either way the request is entered into the budget.

        Args:
            p: distribution over arms, shape (n_arms,). estimate: the policy's, in this context.
            prices: signed weights of the channels, shape (channels,). baseline: index of the baseline arm.
        """
        reference = self._upper(estimate, prices, baseline)
        if reference is None:
            return False
        lower = self._lower(estimate, prices)
        gained = float(p @ lower) - (1.0 - self.guard.slack) * reference
        allowed = self.budget + gained >= 0
        self.budget += gained if allowed else self.guard.slack * float(lower[baseline])
        return allowed

    def _upper(self, estimate: Estimate, prices: F64, arm: int) -> float | None:
        """Upper bound of one arm's utility over `lowest`; None where the policy has no estimate yet."""
        bound = float(utility(estimate.mean[arm], prices) + estimate.bonus[arm]) - self.guard.lowest
        return max(bound, 0.0) if math.isfinite(bound) else None

    def _lower(self, estimate: Estimate, prices: F64) -> F64:
        """Lower bounds of all utilities over `lowest`, 0 where the policy has no estimate yet; shape (n_arms,)."""
        bounds = utility(estimate.mean, prices) - estimate.bonus - self.guard.lowest
        return np.where(bounds > 0, bounds, 0.0)
