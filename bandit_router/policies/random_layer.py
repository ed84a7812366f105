"""Linear Thompson sampling on a fixed random layer: curved value functions at the price of a longer context."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate
from bandit_router.policies.compiled import ridge_statistics
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        ridge: float = 1.0,
        forgetting: float = 1.0,
        precision: int = 64,
        noise: float = 0.2,
        width: int = 32,
        seed: int = 0,
    ) -> None:
        if width < 1 or seed < 0:
            raise InvalidInput(f"width must be at least 1 and seed at least 0, got {width} and {seed}")
        super().__init__(
            n_arms=n_arms,
            dim=dim,
            channels=channels,
            ridge=ridge,
            forgetting=forgetting,
            precision=precision,
            noise=noise,
        )
        self.width, self.seed = width, seed
        rng = np.random.Generator(np.random.Philox(key=seed))
        self._layer = rng.normal(size=(width, dim)) / np.sqrt(dim)
        self._bias = rng.normal(size=width)
        self.statistics = ridge_statistics(
            n_arms, dim + width, channels, ridge=ridge, forgetting=forgetting, precision=precision
        )

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
