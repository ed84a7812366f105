"""Running means of all arms, for the policies that ignore the context."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.policies.base import Estimate, Policy


class MeanPolicy(Policy):
    """Base of the context-free policies: a weighted mean per arm and channel, priced at decision time.

    Args:
        n_arms, dim, channels: sizes; the context is checked and ignored.
    """

    contextual: ClassVar[bool] = False
    has_estimates: ClassVar[bool] = True
    per_arm: ClassVar[tuple[str, ...] | None] = ("counts", "sums")

    def _start(self) -> None:
        super()._start()
        self.counts = np.zeros((self.n_arms, self.channels))
        self.sums = np.zeros((self.n_arms, self.channels))

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        metered = ~np.isnan(y)
        self.counts[arm, metered] += weight
        self.sums[arm, metered] += weight * y[metered]

    def means(self) -> F64:
        """Mean outcome per arm and channel, 0 where nothing was seen; shape (n_arms, channels)."""
        return np.asarray(self.sums / np.maximum(self.counts, np.finfo(np.float64).tiny))

    def _bonus(self) -> F64:
        """What exploration adds to each arm's utility."""
        return np.zeros(self.n_arms)

    def _estimate(self, x: F64) -> Estimate:
        return Estimate(np.where(self.counts > 0, self.means(), np.nan), self._bonus())

    def _add_arm(self, like: int | None, strength: float) -> None:
        row = np.zeros((1, self.channels)) if like is None else np.where(self.counts[[like]] > 0, strength, 0.0)
        self.sums = np.concatenate([self.sums, row * (0.0 if like is None else self.means()[like])])
        self.counts = np.concatenate([self.counts, row])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"counts": self.counts, "sums": self.sums}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.counts, self.sums = arrays["counts"], arrays["sums"]
