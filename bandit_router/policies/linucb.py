"""LinUCB with disjoint linear models."""

from __future__ import annotations

from bandit_router.declared import NOT_NEGATIVE, SHARE, setting
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


class LinUCB(LinearPolicy):
    """Play the arm whose optimistic utility is highest.

        index_a = prices . theta_a x + alpha * sqrt(x' A_a^-1 x) - penalty_a

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        alpha: width of the confidence bonus, in utility units per unit of sqrt(x' A^-1 x); 0 is greedy.
        floor: share of the traffic spread evenly over the eligible arms, so that every arm has a known, positive
            propensity; 0 gives the deterministic textbook rule. Exact ties share.

    Source: Li, Chu, Langford & Schapire 2010 (arXiv 1003.0146), Algorithm 1. Its theory sets alpha from a confidence
    level and a noise bound and has no floor; the floor adds at most floor * gap of regret per step. The bonus is
    that of one channel, so with several priced channels alpha stands for the noise of the whole utility.

    Example:
        >>> policy = LinUCB(n_arms=2, dim=1, floor=0.0)
        >>> policy.learn([1.0], arm=0, outcome=[1.0])
        >>> policy.probabilities([1.0]).tolist()
        [1.0, 0.0]
    """

    alpha: float = setting(default=0.3, check=NOT_NEGATIVE, unit="utility per width")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _start(self) -> None:
        super()._start()
        self._greedy = Rule("greedy", self.alpha, self.floor)  # made once: a decision takes microseconds

    def _rule(self, steps: int) -> Rule:
        return self._greedy
