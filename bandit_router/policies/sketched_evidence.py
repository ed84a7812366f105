"""The evidence of a hierarchical model on a sketch of its sums, computed and climbed in slices.

The sums of every arm are projected on `rank` directions W of the standardised context (each column over the root of
its unit), block by block: S_a -> W' S_a W. A prior with equal precisions stays one under orthonormal W, so the sketched
model has the same scales. W spans S W_0 with S the arms' sum and W_0 random with a fixed seed: the strongest directions
of the contexts (randomised range finder, Halko, Martinsson & Tropp 2011, SIAM Review 53(2)). Up to 256 columns W keeps
them all and the evidence is exact.

What the other directions explain looks like noise to the sketch. A block adds s (1/L + 1/L_0) to the variance of a
typical request, and the sketch leaves out a known share o of the block's mean square, so the noise is
s = s_sketch (1 - sum o (1/L + 1/L_0)) and precisions, which are in units of it, shrink by the same factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from bandit_router.arrays import F64
from bandit_router.policies.hierarchical import LARGEST_VARIANCE, HierarchicalRidge

ARMS = 16  # arms that the evidence is summed over
SMALLEST_SHARE = 0.1  # of the sketch's noise that is left as the model's


class SketchedEvidence(HierarchicalRidge):
    """A small `HierarchicalRidge` whose sums are projections; only its sums and scales are used.

    Args:
        n_arms: arms. d: columns of the model, the level included.

    Attributes:
        basis: W over the roots of the units, shape (d, rank). span: its images, while it is searched.
        summed, q, parts: sums over the arms of one evaluation: L A^-1 L; L t; log determinants, R and outcomes.
        turn: the next arm of the evaluation under way.
    """

    KEPT = (
        *("gram", "moment", "square", "count", "firmness", "kind", "scale", "shared_scale", "climbing"),
        *("basis", "span", "summed", "q", "parts", "turn"),
    )

    def __init__(self, n_arms: int, d: int) -> None:
        rank = min(d, max(8, 2**16 // d))
        super().__init__(n_arms, rank - 1, 1)
        self.unit, self.whole = np.ones(rank), rank == d
        self.basis, self.span = np.zeros((d, rank)), np.zeros((d, rank))
        self.summed, self.q, self.parts = np.zeros((rank, rank)), np.zeros(rank), np.zeros(3)
        self.turn = np.array(0)
        self.climbing = np.zeros(3)
        self.stretch = max(1, 2**24 // rank**3)

    def _begin(self) -> None:
        """No posterior is kept."""

    # -- projection ------------------------------------------------------------------------------------------

    def begin(self, model: HierarchicalRidge) -> None:
        """Divide the directions among the blocks, and start from random ones."""
        d, rank = self.basis.shape
        root = np.sqrt(model.unit)[:, None]
        if self.whole:
            self.kind, self.basis = model.kind.copy(), np.eye(d) / root
            return
        indicators, numbers = int((model.kind == 1).sum()), int((model.kind == 2).sum())
        few = min(indicators, max((rank - 1) // 2, rank - 1 - numbers))
        many = min(numbers, rank - 1 - few)
        self.kind = np.repeat([0, 1, 2, 0], [1, few, many, rank - 1 - few - many])
        start = np.random.default_rng(0).standard_normal((d, rank))
        start[model.kind[:, None] != self.kind] = 0.0
        self.basis, self.span = start / root, np.zeros((d, rank))

    def add_images(self, model: HierarchicalRidge, arm: int) -> None:
        """What one arm's outcomes say of the strongest directions."""
        if not self.whole:
            self.span += model.gram[arm] @ self.basis

    def orthogonalise(self, model: HierarchicalRidge) -> None:
        """Orthonormal W: the level, then what the images span in each block."""
        if self.whole:
            return
        root, w = np.sqrt(model.unit), np.zeros(self.basis.shape)
        level = np.where(model.kind == 0, model.low / root, 0.0)
        w[:, 0] = level / np.sqrt(level.dot(level))
        for block in (1, 2):
            rows, columns = model.kind == block, self.kind == block
            if columns.any():
                w[np.ix_(rows, columns)] = np.linalg.qr(self.span[np.ix_(rows, columns)] / root[rows, None])[0]
        self.basis = w / root[:, None]

    def project(self, model: HierarchicalRidge, arm: int) -> None:
        """The sums of one arm."""
        w = self.basis
        if self.whole:
            self.gram[arm] = model.gram[arm] * w.diagonal() * w.diagonal()[:, None]
        else:
            self.gram[arm] = w.T @ (model.gram[arm] @ w)
        self.moment[arm, 0] = model.moment[arm, 0] @ w
        self.square[arm], self.count[arm], self.firmness[arm] = model.square[arm], model.count[arm], model.firmness[arm]

    # -- climbing --------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Some arms of one evaluation, or its end; whether there is more to climb."""
        arms = np.arange(len(self.count))[:: -(-len(self.count) // ARMS)]
        scales = self.candidate()
        precision, shared_precision = self._diagonals(*scales)
        if self.turn == 0:
            self.summed, self.q, self.parts = np.diag(shared_precision), np.zeros(len(self.q)), np.zeros(3)
        some = arms[self.turn : self.turn + self.stretch]
        for arm in some:
            self._add(int(arm), precision[arm])
        self.turn += len(some)
        if self.turn < len(arms):
            return True
        self.turn[...] = 0
        _, logs, explained = _solved(self.summed, self.q, inverse=False)
        loss = max(LARGEST_VARIANCE + self.parts[1] - explained, 1e-12)
        logs = self.parts[0] + np.log(shared_precision).sum() - logs
        value = logs / 2 + self._prior(*scales) - (self.parts[2] + 1.0) / 2 * np.log(loss)
        return self.consider(scales, float(value))

    def _add(self, arm: int, precision: F64) -> None:
        """One arm's part of (4)."""
        inverse, logs, explained = _solved(self.gram[arm] + np.diag(precision), self.moment[arm, 0])
        self.summed += np.diag(precision) - precision[:, None] * inverse * precision
        self.q += precision * (inverse @ self.moment[arm, 0])
        self.parts += np.array([np.log(precision).sum() - logs, self.square[arm] - explained, self.count[arm]])

    def scales(self) -> tuple[F64, F64]:
        """The scales found, in units of the model's noise."""
        if self.whole:
            return self.scale, self.shared_scale
        size = np.einsum("aii->i", self.gram) / max(1.0, float(self.count.sum()))
        kept = np.bincount(self.kind, weights=size, minlength=3)
        omitted = np.where([False, kept[1] > 0, kept[2] > 0], np.maximum(1.0 - kept, 0.0), 0.0)
        share = 1.0 - omitted @ (1.0 / self.scale + 1.0 / self.shared_scale)
        factor = np.array([1.0, *[max(share, SMALLEST_SHARE)] * 2])
        return self.scale * factor[1], self.shared_scale * factor

    # -- arms and state --------------------------------------------------------------------------------------

    def append(self) -> None:
        """An arm without outcomes."""
        for name in ("gram", "moment", "square", "count"):
            sums = getattr(self, name)
            setattr(self, name, np.concatenate([sums, np.zeros_like(sums[:1])]))
        self.firmness = np.append(self.firmness, 1.0)
        self.turn[...] = 0
        self.begin_climb()  # anew: it may be summed over other arms now

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Where the search stands."""
        return {f"sketch_{name}": getattr(self, name) for name in self.KEPT}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over saved arrays."""
        for name in self.KEPT:
            setattr(self, name, arrays[f"sketch_{name}"])


def _solved(matrix: F64, vector: F64, inverse: bool = True) -> tuple[F64, float, float]:
    """Inverse (its factor, where that is not wanted), log determinant and quadratic form of its inverse."""
    factor, _ = lapack.dpotrf(matrix, lower=1)
    logs = 2.0 * float(np.log(factor.diagonal()).sum())
    solution, _ = lapack.dpotrs(factor, vector, lower=1)
    if inverse:
        factor, _ = lapack.dpotri(factor, lower=1)
        factor = np.tril(factor) + np.tril(factor, -1).T
    return factor, logs, float(vector.dot(solution))
