"""Softmax (Boltzmann) exploration over linear models."""

from __future__ import annotations

from bandit_router.declared import POSITIVE, setting
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy


class Softmax(LinearPolicy):
    """Play arms in proportion to exp(utility / temperature).

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        temperature: in utility units; small is greedy, large is uniform.

    Source: Boltzmann exploration, Sutton & Barto, Reinforcement Learning, section 2.8. A constant temperature explores
    by gap alone and never by uncertainty, so no sublinear regret bound holds (Cesa-Bianchi et al. 2017, arXiv
    1705.10257).

    Example:
        >>> Softmax(n_arms=4, dim=1).probabilities([1.0]).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    temperature: float = setting(default=0.02, check=POSITIVE, unit="utility")

    def _rule(self, steps: int) -> Rule:
        return Rule("softmax", parameter=self.temperature)
