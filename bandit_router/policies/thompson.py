"""Thompson sampling without context: Beta and Gaussian posteriors, exact win probabilities."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import greedy
from bandit_router.policies.means import MeanPolicy
from bandit_router.policies.win_probabilities import beta_wins, gaussian_wins


class GaussianThompson(MeanPolicy):
    """Play each arm with the posterior probability that its mean utility is the highest.

        mean_a ~ Normal(sum_a / (n_a + prior), noise^2 / (n_a + prior))

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        noise: standard deviation of one utility, in utility units.
        prior: pseudo-observations of value 0 that each arm starts with.

    Source: Agrawal & Goyal 2013 (arXiv 1209.3353), Algorithm 2 (theirs has noise 1 and prior 1).

    Example:
        >>> GaussianThompson(n_arms=4, dim=1).probabilities([1.0]).round(6).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    noise: float = setting(default=0.3, check=POSITIVE, unit="utility")
    prior: float = setting(default=1.0, check=POSITIVE, unit="observations")

    def _bonus(self) -> F64:
        return np.asarray(self.noise / np.sqrt(self.counts[:, 0] + self.prior))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        posterior = self.sums / (self.counts + self.prior)
        return gaussian_wins((posterior @ prices)[arms] - penalty, self._bonus()[arms])


class BetaThompson(MeanPolicy):
    """The same with a Beta posterior on the quality, for qualities in [0, 1]; other channels enter by their mean.

        quality_a ~ Beta(prior + sum_a, prior + n_a - sum_a);  score_a = price * quality_a + priced means - penalty_a

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        prior: both parameters of the Beta prior; 1 is uniform.

    Raises:
        InvalidInput: a quality outside [0, 1], or a price of the quality that is not positive.

    Source: Thompson 1933; Agrawal & Goyal 2012 (arXiv 1111.1797), Algorithm 1. Fractional qualities are taken as
    fractional successes, which the analysis covers only after a Bernoulli draw.

    Example:
        >>> BetaThompson(n_arms=2, dim=1).probabilities([1.0]).round(6).tolist()
        [0.5, 0.5]
    """

    prior: float = setting(default=1.0, check=POSITIVE, unit="successes, and failures")

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        if not 0 <= y[0] <= 1:
            raise InvalidInput(f"BetaThompson needs a quality in [0, 1], got {y[0]}; rescale it or use Gaussian")
        super()._learn(x, arm, y, weight, propensity)

    def _bonus(self) -> F64:
        a = self.prior + self.sums[:, 0]
        n = 2 * self.prior + self.counts[:, 0]
        return np.asarray(np.sqrt(a * (n - a) / (n * n * (n + 1))))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        if not prices[0] >= 0:
            raise InvalidInput(f"BetaThompson needs a quality price of at least 0, got {prices[0]}")
        offset = (self.means()[:, 1:] @ prices[1:])[arms] - penalty
        if prices[0] == 0:
            return greedy(offset, 0.0)
        successes = self.sums[arms, 0]
        failures = self.counts[arms, 0] - successes
        return beta_wins(self.prior + successes, self.prior + failures, float(prices[0]), offset)
