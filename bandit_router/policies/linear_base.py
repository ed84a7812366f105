"""What the linear policies share: one ridge model per arm and channel, priced at decision time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.linear import Rule


class LinearPolicy(Policy):
    """Base of the policies over `RidgeStatistics`; a subclass turns scores and widths into a distribution.

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        ridge: prior precision of every coefficient.
        forgetting: see `RidgeStatistics`; 1 never forgets.
        precision: bits of the stored inverses, 64 or 32; see `RidgeStatistics`.
    """

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        ridge: float = 1.0,
        forgetting: float = 1.0,
        precision: int = 64,
    ) -> None:
        super().__init__(n_arms=n_arms, dim=dim, channels=channels)
        self.ridge, self.forgetting, self.precision = ridge, forgetting, precision
        self.statistics = ridge_statistics(
            n_arms, dim, channels, ridge=ridge, forgetting=forgetting, precision=precision
        )

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        self.statistics.learn(arm, x, y, weight)

    @abstractmethod
    def _rule(self, steps: int) -> Rule:
        """The rule after `steps` outcomes; its parameter may move with the steps, but only one way."""

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return self.statistics.distribution(self._rule(self.steps), x, arms, prices, penalty)

    def _estimate(self, x: F64) -> Estimate:
        mean, width = self.statistics.predict(x)
        return Estimate(mean, self._rule(self.steps).alpha * width)

    def estimates(self, contexts: F64) -> tuple[F64, F64]:
        """See `Policy.estimates`."""
        mean, width = self.statistics.predict_many(contexts)
        return mean, self._rule(self.steps).alpha * width

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.statistics.add_arm(like, strength)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.statistics.arrays()

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.statistics.restore(arrays)
