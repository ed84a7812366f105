"""Baselines that every comparison should show: one fixed arm, uniform random, round robin."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import SEED, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy


class Fixed(Policy):
    """Always the same arm; uniform over the eligible ones while it is not eligible.

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        arm: the arm to play.

    Example:
        >>> Fixed(n_arms=3, dim=1, arm=2).probabilities([1.0]).tolist()
        [0.0, 0.0, 1.0]
    """

    contextual: ClassVar[bool] = False

    arm: int = setting(default=0, check=SEED, unit="index")

    def _start(self) -> None:
        super()._start()
        if self.arm >= self.n_arms:
            raise InvalidInput(f"arm must be in 0..{self.n_arms - 1}, got {self.arm}")

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        chosen = arms == self.arm
        return np.asarray(chosen / chosen.sum() if chosen.any() else np.full(len(arms), 1.0 / len(arms)))

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        pass


class UniformRandom(Policy):
    """Every eligible arm with the same probability: the log that any policy can be evaluated on.

    Args:
        n_arms, dim, channels: sizes; the context is ignored.

    Example:
        >>> UniformRandom(n_arms=2, dim=1).probabilities([1.0]).tolist()
        [0.5, 0.5]
    """

    contextual: ClassVar[bool] = False
    per_arm: ClassVar[tuple[str, ...] | None] = ()

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return np.full(len(arms), 1.0 / len(arms))

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        pass


class RoundRobin(Policy):
    """The eligible arm with the fewest outcomes so far, the lowest index first.

    Args:
        n_arms, dim, channels: sizes; the context is ignored.

    It advances when an outcome is learned, so with feedback outstanding it repeats an arm. An arm added later starts
    at the fewest plays of the others.

    Example:
        >>> policy = RoundRobin(n_arms=2, dim=1)
        >>> policy.learn([1.0], arm=0, outcome=[1.0])
        >>> policy.probabilities([1.0]).tolist()
        [0.0, 1.0]
    """

    contextual: ClassVar[bool] = False

    def _start(self) -> None:
        super()._start()
        self.plays = np.zeros(self.n_arms, dtype=np.int64)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        p = np.zeros(len(arms))
        p[self.plays[arms].argmin()] = 1.0
        return p

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        self.plays[arm] += 1

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.plays = np.append(self.plays, self.plays.min())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"plays": self.plays}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.plays = arrays["plays"].astype(np.int64)
