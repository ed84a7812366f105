"""UCB1 without context."""

from __future__ import annotations

import math

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.declared import NOT_NEGATIVE, SHARE, setting
from bandit_router.policies.distributions import greedy
from bandit_router.policies.means import MeanPolicy


class UCB1(MeanPolicy):
    """Play the arm with the highest upper confidence bound on its mean utility, untried arms first.

        index_a = mean_a + scale * sqrt(2 ln t / n_a) - penalty_a

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        scale: width of the range of the utility; 1 for utilities in [0, 1].
        floor: share of the traffic spread evenly over the eligible arms; 0 gives the textbook rule.

    Source: Auer, Cesa-Bianchi & Fischer 2002, Machine Learning 47, Figure 1. Their logarithmic bound has no floor.

    Example:
        >>> policy = UCB1(n_arms=2, dim=1, floor=0.0)
        >>> policy.learn([1.0], arm=0, outcome=[1.0])
        >>> policy.probabilities([1.0]).tolist()
        [0.0, 1.0]
    """

    scale: float = setting(default=1.0, check=NOT_NEGATIVE, unit="utility")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _bonus(self) -> F64:
        plays = self.counts[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):  # an untried arm's bonus is infinite; NaN when ln t = 0
            return self.scale * np.sqrt(2.0 * math.log(max(plays.sum(), 1.0)) / plays)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        plays = self.counts[arms, 0]
        if (plays == 0).any():
            return greedy(np.where(plays == 0, 1.0, 0.0), self.floor)
        return greedy((self.means() @ prices + self._bonus())[arms] - penalty, self.floor)
