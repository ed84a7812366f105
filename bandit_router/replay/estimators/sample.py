"""What every estimator takes: the logged rows, one reward column, and the target policy's probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.errors import InvalidInput, Unanswerable


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """n logged rows with one reward column and a target policy.

    Attributes:
        arm: served arm, shape (n,). propensity: the probability it was drawn with, in (0, 1].
        reward: shape (n,), finite. target: the target policy's distribution, shape (n, K).
        predictions: expected reward of every arm, shape (n, K); None for estimators without a model.
        logging: the whole logged distribution, shape (n, K); only marginalised weights read it.
        contexts: shape (n, d); only balanced weights read it.
        groups: group of each arm, shape (K,), for instance its base model; only marginalised weights read it.
        kept: rows that a learning policy took for its own history; None lets rejection replay draw them.
        seed: of the draws that rejection replay makes.

    Raises:
        InvalidInput: shapes disagree, or a reward is not finite.
        Unanswerable: a propensity is missing.
    """

    arm: Index
    propensity: F64
    reward: F64
    target: F64
    predictions: F64 | None = None
    logging: F64 | None = None
    contexts: F64 | None = None
    groups: Index | None = None
    kept: Bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        n = len(self.arm)
        if self.target.ndim != 2 or not n:
            raise InvalidInput(f"target must have shape (n, K) with n > 0, got {self.target.shape}")
        for name in ("propensity", "reward"):
            if getattr(self, name).shape != (n,):
                raise InvalidInput(f"{name} must have shape ({n},), got {getattr(self, name).shape}")
        for name in ("target", "predictions", "logging"):
            value = getattr(self, name)
            if value is not None and value.shape != (n, self.target.shape[1]):
                raise InvalidInput(f"{name} must have shape ({n}, {self.target.shape[1]}), got {value.shape}")
        if not np.isfinite(self.reward).all():
            raise InvalidInput("rewards must be finite; leave out the rows that were not joined")
        missing = np.isnan(self.propensity).sum()
        if missing:
            raise Unanswerable(f"{missing} of {n} rows carry no propensity; log it with each decision")

    @cached_property
    def weight(self) -> F64:
        """Importance weights target / propensity of the served arms, shape (n,)."""
        return np.asarray(self.of_served(self.target) / self.propensity)

    def of_served(self, table: F64) -> F64:
        """A (n, K) table at the served arms, shape (n,)."""
        return np.asarray(table[np.arange(len(self.arm)), self.arm])

    @property
    def model(self) -> F64:
        """The predictions; raises InvalidInput when there are none."""
        if self.predictions is None:
            raise InvalidInput("this estimator needs predictions; see regression.crossfit")
        return self.predictions

    @cached_property
    def direct(self) -> F64:
        """The model's value of the target policy at each row, shape (n,)."""
        return np.asarray(np.einsum("ij,ij->i", self.target, self.model))

    @cached_property
    def residual(self) -> F64:
        """Reward minus the model's prediction at the served arm, shape (n,)."""
        return np.asarray(self.reward - self.of_served(self.model))


def effective_size(weight: F64) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965); 0 where no weight is above 0."""
    square = float((weight * weight).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


Estimator = Callable[[Sample], F64]
"""Scores of shape (n,): their mean is the estimate, their standard deviation / sqrt(n) its standard error."""


def ratio_scores(numerator: F64, denominator: F64) -> F64:
    """Scores of sum(numerator) / sum(denominator): linearised at the ratio, so that their mean is it exactly.

    Raises Unanswerable when the denominator sums to 0.
    """
    mean = denominator.mean()
    if not mean > 0:
        raise Unanswerable("the target policy never plays what was served; no row of the log speaks of it")
    ratio = numerator.mean() / mean
    return np.asarray(ratio + (numerator - ratio * denominator) / mean)
