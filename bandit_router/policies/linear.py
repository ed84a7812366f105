"""Ridge statistics of all arms, kept in one place: every linear policy reads and writes these.

Per arm a, with weights w and outcome vectors y (one target column per channel):

    A_a = ridge * I + sum w x x'        b_a = sum w y x'        theta_a = A_a^-1 b_a

The inverse and theta are maintained by rank-one updates (Sherman & Morrison 1950); A and b are kept beside them, so
that the inverse can be rebuilt when rounding has made it drift, and so that statistics of replicas can be added.
`compiled.py` has the same statistics at a quarter of the memory and a tenth of the time; this form is the one to read,
the fallback where no compiler was present, and the oracle of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import greedy, inverse_gap, softmax
from bandit_router.policies.win_probabilities import gaussian_wins

CHECK_EVERY = 64
DRIFT = {64: 1e-10, 32: 1e-4}
LONGEST_32 = 1e5
_OF_SCORES = {"greedy": greedy, "softmax": softmax, "inverse_gap": inverse_gap}


class Rule(NamedTuple):
    """How a policy turns estimates and widths into a distribution, by the function of distributions.py it uses.

    Attributes:
        name: "wins" for `gaussian_wins`, which takes alpha * width as standard deviation; the others take the index.
        alpha: factor of the width. parameter: floor, temperature or learning rate; "wins" reads none.
    """

    name: Literal["greedy", "softmax", "inverse_gap", "wins"]
    alpha: float = 0.0
    parameter: float = 0.0


class RidgeStatistics:
    """Sufficient statistics of one ridge regression per arm and channel.

    Args:
        n_arms, dim, channels: sizes.
        ridge: prior precision, greater than 0.
        forgetting: factor in (0, 1] by which an arm's evidence shrinks each time the arm learns. What the ridge loses
            is put back one coordinate a step, around the current estimate, so the update stays rank-one and no
            direction's variance grows past about 1 / ridge.
        precision: bits of the stored inverse, 64 or 32; theta always has 64. With 32, an outcome whose context has a
            squared length over 1e5 ridge counts as that much less: the digits do not suffice for its full weight.

    Attributes:
        gram: A, shape (n_arms, dim, dim). inverse: A^-1, same shape.
        moment: b, shape (n_arms, channels, dim). theta: A^-1 b, same shape.
        counts: updates per arm, shape (n_arms,).
        refreshes: how often an inverse was repaired because rounding had spoilt it.
    """

    gram: F64
    inverse: NDArray[np.floating[Any]]
    moment: F64
    theta: F64

    def __init__(
        self, n_arms: int, dim: int, channels: int, *, ridge: float, forgetting: float = 1.0, precision: int = 64
    ) -> None:
        if not (ridge > 0 and math.isfinite(ridge)):
            raise InvalidInput(f"ridge must be finite and greater than 0, got {ridge}")
        if not 0 < forgetting <= 1:
            raise InvalidInput(f"forgetting must be in (0, 1], got {forgetting}")
        if precision not in DRIFT:
            raise InvalidInput(f"precision must be 64 or 32 bits, got {precision}")
        self.ridge, self.forgetting, self.precision = ridge, forgetting, precision
        self.dim, self.channels = dim, channels
        self.counts = np.zeros(n_arms, dtype=np.int64)
        self.refreshes = 0
        self._start()

    def _start(self) -> None:
        n_arms, identity = len(self.counts), np.eye(self.dim)
        self.gram = np.tile(self.ridge * identity, (n_arms, 1, 1))
        self.inverse = np.tile(identity / self.ridge, (n_arms, 1, 1)).astype(f"f{self.precision // 8}")
        self.moment = np.zeros((n_arms, self.channels, self.dim))
        self.theta = np.zeros((n_arms, self.channels, self.dim))

    # -- what a policy reads ------------------------------------------------------------------------------------

    def predict(self, x: F64) -> tuple[F64, F64]:
        """Expected outcomes, shape (n_arms, channels), and widths sqrt(x' A^-1 x), shape (n_arms,)."""
        variance = (self.inverse @ x) @ x
        return self.theta @ x, np.sqrt(np.maximum(variance, 0.0))

    def predict_many(self, contexts: F64) -> tuple[F64, F64]:
        """`predict` of many contexts: (n, dim) -> (n, n_arms, channels) and (n, n_arms)."""
        means = np.einsum("acd,nd->nac", self.theta, contexts)
        variance = np.stack([((contexts @ inverse) * contexts).sum(axis=1) for inverse in self.inverse], axis=1)
        return means, np.sqrt(np.maximum(variance, 0.0))

    def solve(self, x: F64) -> F64:
        """A_a^-1 x of every arm, shape (n_arms, dim)."""
        return np.asarray(self.inverse @ x, dtype=np.float64)

    def solve_arm(self, arm: int, x: F64) -> F64:
        """A_a^-1 x of one arm, shape (dim,)."""
        return np.asarray(self.inverse[arm] @ x, dtype=np.float64)

    def index(self, x: F64, prices: F64, alpha: float) -> F64:
        """Utility plus bonus, prices . theta_a x + alpha * sqrt(x' A_a^-1 x), shape (n_arms,)."""
        utility: F64 = self.theta @ x @ prices
        return utility + alpha * self.predict(x)[1] if alpha else utility

    def select(self, x: F64, prices: F64, alpha: float) -> int:
        """The arm with the highest index, the first of several."""
        return int(self.index(x, prices, alpha).argmax())

    def distribution(self, rule: Rule, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        """The rule's distribution over `arms`, shape (len(arms),); `penalty` is theirs alone."""
        if rule.name == "wins":
            mean, width = self.predict(x)
            return gaussian_wins((mean @ prices)[arms] - penalty, rule.alpha * width[arms])
        return _OF_SCORES[rule.name](self.index(x, prices, rule.alpha)[arms] - penalty, rule.parameter)

    # -- learning -----------------------------------------------------------------------------------------------

    def learn(self, arm: int, x: F64, y: F64, weight: float) -> None:
        """Fold one observation in. NaN channels are imputed by their prediction, which leaves theta as it is."""
        if self.forgetting < 1.0:
            self._forget(arm)
        if self.precision == 32:
            weight *= min(1.0, LONGEST_32 * self.ridge / max(float(x @ x), 1.0))
        self._fold(arm, x, np.where(np.isnan(y), self.theta[arm] @ x, y), weight)
        self.counts[arm] += 1
        if self.counts[arm] % CHECK_EVERY == 0:
            self._check(arm, x)

    def _fold(self, arm: int, x: F64, y: F64, weight: float) -> None:
        v = self.inverse[arm] @ x
        gain = weight / (1.0 + weight * x.dot(v))
        self.theta[arm] += np.multiply.outer(gain * (y - self.theta[arm] @ x), v)
        root = math.sqrt(gain) * v
        self.inverse[arm] -= np.multiply.outer(root, root)  # Sherman-Morrison, symmetric to the bit
        self.gram[arm] += np.multiply.outer(weight * x, x)
        self.moment[arm] += np.multiply.outer(weight * y, x)

    def _forget(self, arm: int) -> None:
        keep = self.forgetting
        self.gram[arm] *= keep
        self.moment[arm] *= keep
        self.inverse[arm] /= keep
        axis = np.zeros(self.dim)
        axis[self.counts[arm] % self.dim] = 1.0
        self._fold(arm, axis, self.theta[arm] @ axis, (1.0 - keep) * self.ridge * self.dim)

    def _check(self, arm: int, x: F64) -> None:
        """Rebuild the inverse when A (A^-1 x) is no longer x."""
        residual = self.gram[arm] @ (self.inverse[arm] @ x) - x
        if not np.abs(residual).max() <= DRIFT[self.precision] * max(1.0, float(np.abs(x).max())):
            self.refresh(arm)

    def refresh(self, arm: int) -> None:
        """Recompute A^-1 and theta of one arm from A and b by Cholesky factorisation."""
        factor = cho_factor(self.gram[arm], lower=True)
        self.inverse[arm] = invert(self.gram[arm])
        self.theta[arm] = cho_solve(factor, self.moment[arm].T).T
        self.refreshes += 1

    def add_arm(self, like: int | None, strength: float) -> None:
        """Append an arm at the prior, or centred on another arm's estimate with `strength` times the ridge."""
        theta = np.zeros((self.channels, self.dim)) if like is None else self.theta[like].copy()
        precision = self.ridge * (1.0 if like is None else strength)
        self.counts = np.append(self.counts, 0)
        self._append(precision, theta)

    def _append(self, precision: float, theta: F64) -> None:
        identity = np.eye(self.dim)[None]
        self.gram = np.concatenate([self.gram, precision * identity])
        self.inverse = np.concatenate([self.inverse, (identity / precision).astype(self.inverse.dtype)])
        self.moment = np.concatenate([self.moment, precision * theta[None]])
        self.theta = np.concatenate([self.theta, theta[None]])

    def widen(self, arm: int, keep: float) -> None:
        """Keep a share of one arm's evidence around its present estimate: A = keep * A + (1 - keep) * ridge * I."""
        arrays = {name: array.copy() for name, array in self.arrays().items()}
        shrunk = invert(keep * self.sums()["gram"][arm] + (1.0 - keep) * self.ridge * np.eye(self.dim))
        arrays["inverse"][arm] = pack(shrunk[None])[0]
        self.restore(arrays)

    # -- state --------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The statistics by name, the same in every form, so that a reload chooses exactly as before.

        The lower half of each inverse by rows, shape (n_arms, dim * (dim + 1) / 2); theta; counts. A and b follow.
        """
        return {"inverse": pack(self.inverse), "theta": self.theta, "counts": self.counts}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved statistics."""
        self.inverse = unpack(arrays["inverse"], self.dim).astype(f"f{self.precision // 8}")
        self.theta = np.array(arrays["theta"], dtype=np.float64)
        self.counts = arrays["counts"].astype(np.int64)
        self.gram, self.moment = sums_of(self.inverse, self.theta)

    def sums(self) -> dict[str, NDArray[Any]]:
        """What replicas can add: gram (A), moment (b) and counts, as copies."""
        return {"gram": self.gram.copy(), "moment": self.moment.copy(), "counts": self.counts.copy()}

    def delta(self, since: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What was learned since `since`, an earlier result of `sums`; `merge` adds it elsewhere (no forgetting)."""
        return {name: now - since[name] for name, now in self.sums().items()}

    def merge(self, delta: Mapping[str, NDArray[Any]]) -> None:
        """Add another replica's delta. Sums commute, so the order of merges does not matter beyond rounding."""
        if self.forgetting < 1.0:
            raise InvalidInput("statistics that forget are not sums and cannot be merged; use forgetting=1")
        self._merge(delta)
        self.counts += delta["counts"]

    def _merge(self, delta: Mapping[str, NDArray[Any]]) -> None:
        self.gram += delta["gram"]
        self.moment += delta["moment"]
        for arm in np.flatnonzero(delta["counts"]):
            self.refresh(int(arm))


def pack(matrices: NDArray[Any]) -> NDArray[Any]:
    """The lower halves of symmetric matrices by rows: (n, d, d) to (n, d * (d + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[:, rows, columns])


def unpack(halves: NDArray[Any], dim: int) -> NDArray[Any]:
    """The symmetric matrices of packed lower halves."""
    rows, columns = np.tril_indices(dim)
    matrices = np.empty((len(halves), dim, dim), dtype=halves.dtype)
    matrices[:, rows, columns] = matrices[:, columns, rows] = halves
    return matrices


def invert(matrix: NDArray[Any]) -> F64:
    """Inverse of one symmetric positive definite matrix by Cholesky factorisation, exactly symmetric."""
    inverse = cho_solve(cho_factor(matrix.astype(np.float64), lower=True), np.eye(len(matrix)))
    return np.asarray((inverse + inverse.T) / 2)


def sums_of(inverse: NDArray[Any], theta: F64) -> tuple[F64, F64]:
    """A and b of statistics that keep only A^-1 and theta: A by inversion, b = A theta."""
    gram = np.stack([invert(matrix) for matrix in inverse])
    return gram, theta @ gram
