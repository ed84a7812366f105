"""SquareCB over linear models."""

from __future__ import annotations

from bandit_router.declared import POSITIVE, setting
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


class SquareCB(LinearPolicy):
    """Play every arm with probability inverse to its estimated gap.

        p_a = 1 / (K + gamma_t * (best - utility_a)) for all but the best, gamma_t = rate * sqrt(1 + t)

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        rate: scale of the learning rate, per unit of utility; larger explores less.

    Source: Foster & Rakhlin 2020 (arXiv 2002.04926), Algorithm 1; the schedule sqrt(t) is the one their Theorem 1
    implies for a finite-dimensional oracle. Their guarantee assumes that the linear model is right.

    Example:
        >>> policy = SquareCB(n_arms=2, dim=1, rate=10.0)
        >>> policy.learn([1.0], arm=0, outcome=[1.0])
        >>> bool(policy.probabilities([1.0])[0] > 0.8)
        True
    """

    rate: float = setting(default=20.0, check=POSITIVE, unit="per unit of utility")

    def _rule(self, steps: int) -> Rule:
        return Rule("inverse_gap", parameter=self.rate * (1.0 + steps) ** 0.5)
