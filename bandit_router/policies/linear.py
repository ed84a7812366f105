"""Ridge statistics of all arms, kept in one place: every linear policy reads and writes these.

Per arm a, with weights w and outcome vectors y (one target column per channel):

    A_a = ridge * I + sum w x x'        b_a = sum w y x'        theta_a = A_a^-1 b_a

The inverse and theta are maintained by rank-one updates (Sherman & Morrison 1950); A and b are kept beside them, so
that the inverse can be rebuilt when rounding has made it drift, and so that statistics of replicas can be added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from bandit_router.policies.base import F64, InvalidInput

CHECK_EVERY = 64
DRIFT = 1e-10


class RidgeStatistics:
    """Sufficient statistics of one ridge regression per arm and channel.

    Args:
        n_arms, dim, channels: sizes.
        ridge: prior precision, greater than 0.
        forgetting: factor in (0, 1] by which an arm's evidence shrinks each time the arm learns. What the ridge loses
            is put back one coordinate a step, around the current estimate, so the update stays rank-one and no
            direction's variance grows past about 1 / ridge.

    Attributes:
        gram: A, shape (n_arms, dim, dim). inverse: A^-1, same shape.
        moment: b, shape (n_arms, channels, dim). theta: A^-1 b, same shape.
        counts: updates per arm, shape (n_arms,).
        refreshes: how often an inverse was rebuilt because it had drifted.
    """

    def __init__(self, n_arms: int, dim: int, channels: int, *, ridge: float, forgetting: float = 1.0) -> None:
        if not (ridge > 0 and math.isfinite(ridge)):
            raise InvalidInput(f"ridge must be finite and greater than 0, got {ridge}")
        if not 0 < forgetting <= 1:
            raise InvalidInput(f"forgetting must be in (0, 1], got {forgetting}")
        self.ridge, self.forgetting = ridge, forgetting
        self.gram = np.tile(ridge * np.eye(dim), (n_arms, 1, 1))
        self.inverse = np.tile(np.eye(dim) / ridge, (n_arms, 1, 1))
        self.moment = np.zeros((n_arms, channels, dim))
        self.theta = np.zeros((n_arms, channels, dim))
        self.counts = np.zeros(n_arms, dtype=np.int64)
        self.refreshes = 0

    def predict(self, x: F64) -> tuple[F64, F64]:
        """Expected outcomes, shape (n_arms, channels), and widths sqrt(x' A^-1 x), shape (n_arms,)."""
        variance = (self.inverse @ x) @ x
        return self.theta @ x, np.sqrt(np.maximum(variance, 0.0))

    def predict_many(self, contexts: F64) -> tuple[F64, F64]:
        """`predict` of many contexts: (n, dim) -> (n, n_arms, channels) and (n, n_arms)."""
        means = np.einsum("acd,nd->nac", self.theta, contexts)
        variance = np.stack([((contexts @ inverse) * contexts).sum(axis=1) for inverse in self.inverse], axis=1)
        return means, np.sqrt(np.maximum(variance, 0.0))

    def learn(self, arm: int, x: F64, y: F64, weight: float) -> None:
        """Fold one observation in. NaN channels are imputed by their prediction, which leaves theta as it is."""
        if self.forgetting < 1.0:
            self._forget(arm)
        self._fold(arm, x, np.where(np.isnan(y), self.theta[arm] @ x, y), weight)
        self.counts[arm] += 1
        if self.counts[arm] % CHECK_EVERY == 0:
            self._check(arm, x)

    def _fold(self, arm: int, x: F64, y: F64, weight: float) -> None:
        v = self.inverse[arm] @ x
        gain = weight / (1.0 + weight * x.dot(v))
        self.theta[arm] += np.multiply.outer(gain * (y - self.theta[arm] @ x), v)
        self.inverse[arm] -= np.multiply.outer(gain * v, v)  # Sherman-Morrison
        self.gram[arm] += np.multiply.outer(weight * x, x)
        self.moment[arm] += np.multiply.outer(weight * y, x)

    def _forget(self, arm: int) -> None:
        keep, dim = self.forgetting, self.gram.shape[1]
        self.gram[arm] *= keep
        self.moment[arm] *= keep
        self.inverse[arm] /= keep
        axis = np.zeros(dim)
        axis[self.counts[arm] % dim] = 1.0
        self._fold(arm, axis, self.theta[arm] @ axis, (1.0 - keep) * self.ridge * dim)

    def _check(self, arm: int, x: F64) -> None:
        """Rebuild the inverse when A (A^-1 x) is no longer x."""
        residual = self.gram[arm] @ (self.inverse[arm] @ x) - x
        if not np.abs(residual).max() <= DRIFT * max(1.0, float(np.abs(x).max())):
            self.refresh(arm)

    def refresh(self, arm: int) -> None:
        """Recompute A^-1 and theta of one arm from A and b by Cholesky factorisation."""
        factor = cho_factor(self.gram[arm], lower=True)
        inverse = cho_solve(factor, np.eye(self.gram.shape[1]))
        self.inverse[arm] = (inverse + inverse.T) / 2
        self.theta[arm] = cho_solve(factor, self.moment[arm].T).T
        self.refreshes += 1

    def add_arm(self, like: int | None, strength: float) -> None:
        """Append an arm at the prior, or centred on another arm's estimate with `strength` times the ridge."""
        dim = self.gram.shape[1]
        theta = np.zeros_like(self.theta[0]) if like is None else self.theta[like].copy()
        precision = self.ridge * (1.0 if like is None else strength)
        self.gram = np.concatenate([self.gram, precision * np.eye(dim)[None]])
        self.inverse = np.concatenate([self.inverse, np.eye(dim)[None] / precision])
        self.moment = np.concatenate([self.moment, precision * theta[None]])
        self.theta = np.concatenate([self.theta, theta[None]])
        self.counts = np.append(self.counts, 0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The statistics by name; the inverse is saved too, so that a reload chooses exactly as before."""
        return {
            "gram": self.gram,
            "inverse": self.inverse,
            "moment": self.moment,
            "theta": self.theta,
            "counts": self.counts,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved statistics."""
        self.gram, self.inverse = arrays["gram"], arrays["inverse"]
        self.moment, self.theta = arrays["moment"], arrays["theta"]
        self.counts = arrays["counts"].astype(np.int64)

    def delta(self, since: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What was learned since the saved statistics `since`, as sums that `merge` adds (no forgetting)."""
        return {name: self.arrays()[name] - since[name] for name in ("gram", "moment", "counts")}

    def merge(self, delta: Mapping[str, NDArray[Any]]) -> None:
        """Add another replica's delta. Sums commute, so the order of merges does not matter beyond rounding."""
        if self.forgetting < 1.0:
            raise InvalidInput("statistics that forget are not sums and cannot be merged; use forgetting=1")
        self.gram += delta["gram"]
        self.moment += delta["moment"]
        self.counts += delta["counts"]
        for arm in np.flatnonzero(delta["counts"]):
            self.refresh(int(arm))
