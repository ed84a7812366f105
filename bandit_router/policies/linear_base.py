"""What the linear policies share: one ridge model per arm and channel, priced at decision time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, POSITIVE_SHARE, one_of, setting
from bandit_router.policies.base import Estimate, Merges, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.linear import RidgeStatistics, Rule
from bandit_router.policies.state import Form


class LinearPolicy(Policy):
    """Base of the policies over `RidgeStatistics`; a subclass turns scores and widths into a distribution.

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        ridge: prior precision of every coefficient.
        forgetting: see `RidgeStatistics`; 1 never forgets.
        precision: bits of the stored inverses, 64 or 32; see `RidgeStatistics`.
    """

    has_estimates: ClassVar[bool] = True
    widens: ClassVar[bool] = True
    merges: ClassVar[Merges] = "sums"
    per_arm: ClassVar[tuple[str, ...] | None] = ("inverse", "theta", "counts")
    forms: ClassVar[Mapping[str, Form]] = {"inverse": "packed"}
    rule_only: ClassVar[bool] = True

    ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")
    forgetting: float = setting(default=1.0, check=POSITIVE_SHARE, unit="factor per outcome")
    precision: int = setting(default=64, check=one_of(64, 32), unit="bits")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.rule_only = cls.rule_only and not vars(cls).keys() & {"probabilities", "learn", "_distribution", "_learn"}

    def _start(self) -> None:
        super()._start()
        self.statistics = self._statistics(self.dim)

    def _statistics(self, columns: int) -> RidgeStatistics:
        sizes = (self.n_arms, columns, self.channels)
        return ridge_statistics(*sizes, ridge=self.ridge, forgetting=self.forgetting, precision=self.precision)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        self.statistics.learn(arm, x, y, weight)

    def _widen(self, arm: int, keep: float) -> None:
        self.statistics.widen(arm, keep)

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
