"""Epsilon-greedy over linear models."""

from __future__ import annotations

from bandit_router.declared import SHARE, setting
from bandit_router.policies.epsilon_greedy import EpsilonSchedule
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


class LinEpsilonGreedy(LinearPolicy):
    """Play the best estimate; with probability epsilon_t any eligible arm.

        epsilon_t = max(minimum, epsilon * decay^t), t the number of outcomes learned

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        epsilon: initial exploration share. decay: factor per outcome learned. minimum: where the share stops.

    Source: the contextual epsilon-greedy of GreenServ (arXiv 2601.17551) has ridge 0.25, epsilon 1, decay 0.985 and
    minimum 0.01. A constant epsilon has linear regret in T.

    Example:
        >>> policy = LinEpsilonGreedy(n_arms=2, dim=1, epsilon=0.2)
        >>> policy.learn([1.0], arm=1, outcome=[1.0])
        >>> policy.probabilities([1.0]).tolist()
        [0.1, 0.9]
    """

    epsilon: float = setting(default=0.1, check=SHARE, unit="share of the traffic")
    decay: float = setting(default=1.0, check=SHARE, unit="factor per outcome")
    minimum: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _start(self) -> None:
        super()._start()
        self._schedule = EpsilonSchedule(self.epsilon, self.decay, self.minimum)

    def _rule(self, steps: int) -> Rule:
        return Rule("greedy", parameter=self._schedule(steps))
