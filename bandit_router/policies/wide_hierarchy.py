"""The default policy's model in many dimensions: its scales move in slices, one bounded piece of work an outcome.

Maximising the evidence of `HierarchicalRidge` and solving at the new scales takes some thirty times N d^3 operations,
seconds at 8 arms and 512 dimensions. Here they are a state machine: each outcome does one slice, or several that
together are within `BUDGET` operations, and where it stands is part of the state. Nothing depends on a clock, so a fold
of the same outcomes gives the same bytes wherever it is interrupted, saved and restored. The next search for scales
begins when the outcomes have doubled since the last one began, and not before that one is done.

The evidence is that of a sketch of the sums (`SketchedEvidence`), exact up to 256 columns.

New precisions for a few columns C of one arm, D their change, B = A_a^-1, M = L - L B L, Q = P^-1, G = Q M_C:

    B' = B - B_C (D^-1 + B_CC)^-1 B_C',     Q' = Q + G (E^-1 + M_CC - M_C' G)^-1 G',     E = 1/L' - 1/L,

by Woodbury's identity and M = (L^-1 + S_a^-1)^-1. The posterior is exact at every step, for the precisions reached.

A restart multiplies the sums of arm a by k_a. B / k_a is then exact at precisions k_a L, and Q / k for k = max k_a at
k L_0 if the arms' share in P is multiplied by k rather than by k_a. So it is: the rest, (k - k_a) M_a, stays behind as
prior knowledge of what arms share (`rest`), and the precisions move back to L and L_0 in slices. Where set-aside
evidence returns, what stayed behind would count twice: one arm's B and then Q are solved once from the sums, O(d^3) as
rarely as an alarm, and the rest is empty again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri

from bandit_router.arrays import F64
from bandit_router.policies.hierarchical import (
    FIRST_FIT,
    LARGEST_VARIANCE,
    OWN_VARIANCE,
    TYPICAL_COST,
    HierarchicalRidge,
)
from bandit_router.policies.sketched_evidence import SketchedEvidence

WIDE = 64  # dimensions up to which everything is solved at once
BUDGET = 2**25  # operations an outcome may spend on tuning, if more than one slice fits
OVERHEAD = 2**20  # of an arm in an evaluation of the evidence, in operations
ROWS = 64  # of a matrix that are changed at a time, so that the change stays in the cache
IDLE, SPAN, PROJECT, CLIMB, MOVE, WEIGH = range(6)


class WideHierarchy(HierarchicalRidge):
    """`HierarchicalRidge` for more than `WIDE` dimensions; see there for arguments and attributes.

    Attributes:
        stage: what the next slice does (`IDLE` to `WEIGH`), where in it, and the outcome from which to tune again.
        sketch: where the search for scales stands.
        rest_moment, rest: what restarts left behind: its part of q, of R and of the number of outcomes.
        cost_precision: precisions of the costs' regressions, shape (n_arms, dim + 1); none without costs.
    """

    OWN = ("stage", "rest_moment", "rest", "cost_precision")

    def _begin(self) -> None:
        n_arms, d = self.centre.shape[0], self.centre.shape[2]
        self.chunk = max(1, 2**13 // d)
        self.sketch = SketchedEvidence(n_arms, d)
        self.stage = np.array([IDLE, 0, FIRST_FIT])
        self.rest_moment, self.rest = np.zeros(d), np.zeros(2)
        self.precision, self.shared_precision = self._diagonals(self.scale, self.shared_scale)
        self.cost_precision = self._cost_diagonals()[: n_arms if self.centre.shape[1] > 2 else 0]
        self.inverse, self.cost_inverse = _diagonal(self.precision), _diagonal(self.cost_precision)
        self.shared_inverse, self.shared_theta = np.diag(1.0 / self.shared_precision), np.zeros(d)
        self.theta, self.loudness = self.centre.copy(), np.ones(n_arms)
        self.loss, self.total = np.array(LARGEST_VARIANCE), np.array(0.0)
        self._settled()

    def _cost_diagonals(self) -> F64:
        return self._diagonals(TYPICAL_COST**-2, self.shared_scale)[0]

    # -- slices ----------------------------------------------------------------------------------------------

    def _tune(self) -> None:
        slices = (self._idle, self._span, self._project, self._climb, self._move, self._weigh)
        left = BUDGET
        while left == BUDGET or self.operations() <= left:
            left -= self.operations()
            slices[self.stage[0]]()
            if self.stage[0] == IDLE:
                return

    def operations(self) -> int:
        """About how many floating-point operations the next slice takes."""
        d, rank = self.sketch.basis.shape
        arms = min(self.sketch.stretch, len(self.count))
        squares = (1, 2 * rank, 2 * rank, 0, 6 * self.chunk, 4)[self.stage[0]]
        return int(squares * d**2 + (arms * (2 * rank**3 + OVERHEAD) if self.stage[0] == CLIMB else 0))

    def _next(self, stage: int) -> None:
        """The next arm of this stage, or the next stage."""
        self.stage[1] += 1
        if self.stage[1] == len(self.count):
            self.stage[:2] = stage, 0

    def _idle(self) -> None:
        if self.outcomes < self.stage[2]:
            return
        self._sort_columns()
        self.sketch.begin(self)
        self.stage = np.array([SPAN, 0, 2 * self.outcomes])

    def _span(self) -> None:
        self.sketch.add_images(self, int(self.stage[1]))
        self._next(PROJECT)
        if self.stage[0] == PROJECT:
            self.sketch.orthogonalise(self)

    def _project(self) -> None:
        self.sketch.project(self, int(self.stage[1]))
        self._next(CLIMB)
        if self.stage[0] == CLIMB:
            self.sketch.scale, self.sketch.shared_scale = self.scale, self.shared_scale
            self.sketch.begin_climb()

    def _climb(self) -> None:
        if not self.sketch.advance():
            self.scale, self.shared_scale = self.sketch.scales()
            self.stage[:2] = MOVE, 0

    def _move(self) -> None:
        """A few columns of one arm, or of what arms share, to the precisions that the scales ask for."""
        own, shared = self._diagonals(self.scale, self.shared_scale)
        costs = self._cost_diagonals()[: len(self.cost_precision)]
        target = np.vstack([own, shared, costs])
        behind = np.vstack([self.precision, self.shared_precision, self.cost_precision]) != target
        if not behind.any():
            self.stage[:2] = WEIGH, 0
            return
        first = int(behind.any(axis=0).argmax()) // self.chunk * self.chunk
        some = slice(first, first + self.chunk)
        row = int(behind[:, some].any(axis=1).argmax())
        arm = row - len(own) - 1
        if row < len(own):
            self._move_arm(row, some, target[row, some])
        elif arm < 0:
            _raise(self.shared_inverse, self.shared_precision, some, target[row, some])
        else:
            theta, centre = self.theta[arm, 1:], self.centre[arm, 1:]
            moved = _raise(self.cost_inverse[arm], self.cost_precision[arm], some, target[row, some], theta - centre)
            theta[:] = centre + moved
        self._share()

    def _move_arm(self, arm: int, some: slice, precision: F64) -> None:
        inverse, now = self.inverse[arm], self.precision[arm]
        apart = -now[:, None] * inverse[:, some] * now[some]  # columns of M
        apart[some] += np.diag(now[some])
        towards = self.shared_inverse @ apart
        middle = _middle(1.0 / precision - 1.0 / now[some], apart[some] - apart.T @ towards)
        _add_product(self.shared_inverse, towards @ middle, towards)
        rows = slice(1 if len(self.cost_precision) else None)
        theta, centre = self.theta[arm, rows], self.centre[arm, rows]
        theta[:] = centre + _raise(inverse, now, some, precision, theta - centre)

    def _share(self) -> None:
        """What arms share and the noise, from the arms' own estimates."""
        own = self.theta[:, 0] - self.centre[:, 0]
        q = self.rest_moment + (self.precision * own).sum(axis=0)
        self.shared_theta[:] = self.shared_inverse @ q
        explained = (self.moment[:, 0] * own).sum() + q.dot(self.shared_theta)
        self.loss[...] = max(LARGEST_VARIANCE + self.rest[0] + self.square.sum() - explained, 1e-12)
        self.total[...] = self.count.sum() + self.rest[1]

    def _weigh(self) -> None:
        """The loudness of one arm."""
        arm = self.stage[1]
        self._next(IDLE)
        moment, precision = self.moment[arm, 0], self.precision[arm]
        whole = self.theta[arm, 0] - self.centre[arm, 0] + self.inverse[arm] @ (precision * self.shared_theta)
        residual = self.square[arm] - 2 * whole.dot(moment) + whole.dot(self.gram[arm] @ whole)
        if self.count[arm] > 0:
            residual += ((whole - self.shared_theta) ** 2).dot(precision)
        variance = (OWN_VARIANCE * self.noise + max(residual, 0.0)) / (OWN_VARIANCE + self.count[arm])
        self.loudness[arm] = variance / self.noise

    # -- restarts and arms -----------------------------------------------------------------------------------

    def _refit(self, kept: F64) -> None:
        most = kept.max()
        left = most - kept
        for per_arm in (self.inverse, self.cost_inverse):
            per_arm /= kept[: len(per_arm), None, None]
        own = np.asarray(self.moment[:, 0, None] @ self.inverse)[:, 0]
        self.theta[:, 0] = own + self.centre[:, 0]
        self.rest_moment = most * self.rest_moment + ((left[:, None] * self.precision) * own).sum(axis=0)
        residual = self.square - (self.moment[:, 0] * own).sum(axis=1)
        self.rest = most * self.rest + np.array([left / kept @ residual, left / kept @ self.count])
        self.precision *= kept[:, None]
        self.cost_precision *= kept[: len(self.cost_precision), None]
        self.shared_inverse /= most
        self.shared_precision *= most
        self._share()
        if self.stage[0] in (IDLE, WEIGH):
            self.stage[:2] = MOVE, 0

    def _replaced(self, arm: int, returned: F64) -> None:
        for per_arm in (self.inverse, self.cost_inverse):
            per_arm /= returned[: len(per_arm), None, None]
        self.precision *= returned[:, None]
        self.cost_precision *= returned[: len(self.cost_precision), None]
        self.precision[arm] = self._diagonals(self.scale, self.shared_scale)[0][arm]
        self.inverse[arm] = _inverse(self.gram[arm] + np.diag(self.precision[arm]))
        own = self.moment[arm] @ self.inverse[arm]
        if len(self.cost_precision):
            self.cost_precision[arm] = self._cost_diagonals()[arm]
            self.cost_inverse[arm] = _inverse(self.gram[arm] + np.diag(self.cost_precision[arm]))
            own[1:] = self.moment[arm, 1:] @ self.cost_inverse[arm]
        self.theta[arm] = own + self.centre[arm]
        told = np.diag(self.shared_precision + self.precision.sum(axis=0))
        for inverse, precision in zip(self.inverse, self.precision, strict=True):  # without copies of them all
            told -= precision[:, None] * inverse * precision
        self.shared_inverse[:] = _inverse(told)
        self.rest_moment, self.rest = np.zeros_like(self.rest_moment), np.zeros(2)
        self._share()
        if self.stage[0] in (IDLE, WEIGH):
            self.stage[:2] = MOVE, 0

    def _grown(self) -> None:
        precision = self._diagonals(self.scale, self.shared_scale)[0][-1:]
        self.precision = np.concatenate([self.precision, precision])
        self.inverse = np.concatenate([self.inverse, _diagonal(precision)])
        self.theta = np.concatenate([self.theta, self.centre[-1:]])
        self.loudness = np.append(self.loudness, 1.0)
        if len(self.cost_precision):
            precision = self._cost_diagonals()[-1:]
            self.cost_precision = np.concatenate([self.cost_precision, precision])
            self.cost_inverse = np.concatenate([self.cost_inverse, _diagonal(precision)])
        self.sketch.append()
        self._settled()

    # -- state -----------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {**super().arrays(), **{name: getattr(self, name) for name in self.OWN}, **self.sketch.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:  # noqa: D102
        for name in self.OWN:
            setattr(self, name, arrays[name])
        self.sketch.restore(arrays)
        super().restore(arrays)


def _diagonal(precision: F64) -> F64:
    """Matrices with 1 / precision on their diagonals, shape (arms, d, d)."""
    return np.asarray((1.0 / precision)[:, :, None] * np.eye(precision.shape[1]))


def _inverse(matrix: F64) -> F64:
    """Inverse of a positive definite matrix, by its Cholesky factor."""
    factor, failed = dpotrf(matrix, lower=1)
    lower, _ = dpotri(factor, lower=1)
    if failed:
        return np.asarray(np.linalg.inv(matrix))
    lower = np.tril(lower)
    return np.asarray(lower + np.tril(lower, -1).T)


def _middle(change: F64, block: F64) -> F64:
    """(change^-1 + block)^-1, also where a change is 0."""
    solved = np.linalg.solve(np.eye(len(change)) + change[:, None] * block, np.diag(change))
    return np.asarray((solved + solved.T) / 2)


def _raise(inverse: F64, now: F64, some: slice, precision: F64, own: F64 | None = None) -> F64:
    """Some prior precisions from `now` to `precision`, both arrays in place; returns the estimates `own` after it."""
    columns = inverse[:, some].copy()
    step = columns @ _middle(precision - now[some], columns[some])
    _add_product(inverse, -step, columns)
    now[some] = precision
    return np.zeros(0) if own is None else np.asarray(own - own[:, some] @ step.T)


def _add_product(matrix: F64, left: F64, right: F64) -> None:
    """matrix += left right', some rows at a time so that the product stays in the cache."""
    for first in range(0, len(matrix), ROWS):
        matrix[first : first + ROWS] += left[first : first + ROWS] @ right.T
