"""Linear Thompson sampling on a fixed random layer: curved value functions at the price of a longer context."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.declared import COUNT, SEED, setting
from bandit_router.policies.base import Estimate, Merges
from bandit_router.policies.lints import LinTS


class RandomLayerTS(LinTS):
    """LinTS on the context and a layer of random rectified units, which is never trained.

        features(x) = [x, max(0, W x + b) * sqrt(2 / width)],   W_ij ~ Normal(0, 1 / dim),   b_i ~ Normal(0, 1)

    Args:
        n_arms, dim, channels, ridge, forgetting, precision, noise: see `LinTS`.
        width: number of random units.
        seed: of W and b.

    This is the last layer of a neural-linear bandit over a network at its random initialisation: what makes the model
    linear in its parameters, and keeps updates exact and cheap, is that the layer does not learn. It pays where
    qualities bend with the context and there is data for `dim + width` coefficients an arm.

    Source: random features (Rahimi & Recht 2008, Weighted sums of random kitchen sinks); neural-linear Thompson
    sampling with a trained layer is Riquelme, Tucker & Snoek 2018 (arXiv 1802.09127). LinTS's theory holds for the
    features.

    Example:
        >>> RandomLayerTS(n_arms=2, dim=3, width=8).probabilities([1.0, 0.5, -0.5]).round(6).tolist()
        [0.5, 0.5]
    """

    merges: ClassVar[Merges] = None  # its sums are of features, not of contexts

    width: int = setting(default=32, check=COUNT, unit="units")
    seed: int = setting(default=0, check=SEED)

    def _start(self) -> None:
        super()._start()
        rng = np.random.Generator(np.random.Philox(key=self.seed))
        self._layer = rng.normal(size=(self.width, self.dim)) / np.sqrt(self.dim)
        self._bias = rng.normal(size=self.width)
        self.statistics = self._statistics(self.dim + self.width)

    def features(self, x: F64) -> F64:
        """What the linear model sees, shape (..., dim) -> (..., dim + width)."""
        units = np.maximum(x @ self._layer.T + self._bias, 0.0) * np.sqrt(2.0 / self.width)
        return np.concatenate([x, units], axis=-1)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return super()._distribution(self.features(x), arms, prices, penalty)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        super()._learn(self.features(x), arm, y, weight, propensity)

    def _estimate(self, x: F64) -> Estimate:
        return super()._estimate(self.features(x))

    def estimates(self, contexts: F64) -> tuple[F64, F64]:
        """See `Policy.estimates`."""
        return super().estimates(self.features(contexts))
