"""Linear Thompson sampling with exact win probabilities."""

from __future__ import annotations

from bandit_router.declared import POSITIVE, setting
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


class LinTS(LinearPolicy):
    """Play each arm with the posterior probability that its utility is the highest.

        score_a ~ Normal(prices . theta_a x - penalty_a, (noise * sqrt(x' A_a^-1 x))^2), independent over arms
        p_a = P(score_a is the largest), by quadrature

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        noise: standard deviation of the utility around its mean, in utility units; it scales all posteriors.

    Source: Agrawal & Goyal 2013 (arXiv 1209.3352), Algorithm 1, with disjoint arms and without its inflation of the
    variance by d log t, which their regret bound needs and practice does not. For disjoint arms the scores of one
    context are independent normals, so drawing from p is drawing from the posterior.

    Example:
        >>> policy = LinTS(n_arms=2, dim=1, noise=0.5)
        >>> policy.probabilities([1.0]).round(6).tolist()
        [0.5, 0.5]
    """

    noise: float = setting(default=0.2, check=POSITIVE, unit="utility")

    def _rule(self, steps: int) -> Rule:
        return Rule("wins", self.noise)
