"""Epsilon-greedy without context."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.declared import SHARE, setting
from bandit_router.policies.distributions import greedy
from bandit_router.policies.means import MeanPolicy


class EpsilonSchedule(NamedTuple):
    """Exploration share after a number of outcomes: max(minimum, epsilon * decay^steps)."""

    epsilon: float
    decay: float
    minimum: float

    def __call__(self, steps: int) -> float:
        """The share after `steps` outcomes; a minimum above epsilon does not raise it."""
        return max(min(self.minimum, self.epsilon), self.epsilon * self.decay**steps)


class EpsilonGreedy(MeanPolicy):
    """Play the best mean, untried arms first; with probability epsilon_t any eligible arm.

        epsilon_t = max(minimum, epsilon * decay^t), t the number of outcomes learned

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        epsilon: initial exploration share. decay: factor per outcome learned. minimum: where the share stops.

    Source: Sutton & Barto, Reinforcement Learning, section 2.2. A constant epsilon has linear regret in T.

    Example:
        >>> policy = EpsilonGreedy(n_arms=2, dim=1, epsilon=0.2)
        >>> for arm, quality in ((0, 0.5), (1, 1.0)):
        ...     policy.learn([1.0], arm=arm, outcome=[quality])
        >>> policy.probabilities([1.0]).tolist()
        [0.1, 0.9]
    """

    epsilon: float = setting(default=0.1, check=SHARE, unit="share of the traffic")
    decay: float = setting(default=1.0, check=SHARE, unit="factor per outcome")
    minimum: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        utility = (self.means() @ prices)[arms] - penalty
        untried = self.counts[arms, 0] == 0
        share = EpsilonSchedule(self.epsilon, self.decay, self.minimum)(self.steps)
        return greedy(np.where(untried, np.inf, utility), share)
