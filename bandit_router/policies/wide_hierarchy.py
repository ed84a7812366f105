"""The default policy's model in many dimensions: its scales move in slices, one bounded piece of work an outcome.

Maximising the evidence of `HierarchicalRidge` and solving at the new scales takes some thirty times N d^3 operations,
seconds at 8 arms and 512 dimensions. Here they are a state machine: each outcome does one slice, of at most about
2^26 operations, and where it stands is part of the state. Nothing depends on a clock, so a fold of the same outcomes
gives the same bytes wherever it is interrupted, saved and restored.

Evidence on a sketch. The sums of every arm are projected on `rank` directions W of the standardised context (each
column over the root of its unit), block by block: S_a -> W' S_a W. A prior with equal precisions stays one under
orthonormal W, so the sketched model has the same scales; what the other directions explain counts as noise. W spans
S W_0 with S the arms' sum and W_0 random with a fixed seed: the strongest directions of the contexts (randomised range
finder, Halko, Martinsson & Tropp 2011, SIAM Review 53(2)). The sketch is a `HierarchicalRidge` of its own.

New precisions for a few columns C of one arm, D their change, B = A_a^-1, M = L - L B L, Q = P^-1, G = Q M_C:

    B' = B - B_C (D^-1 + B_CC)^-1 B_C',     Q' = Q + G (E^-1 + M_CC - M_C' G)^-1 G',     E = 1/L' - 1/L,

by Woodbury's identity and M = (L^-1 + S_a^-1)^-1. The posterior is exact at every step, for the precisions reached.

A restart multiplies the sums of arm a by k_a. B / k_a is then exact at precisions k_a L, and Q / k for k = max k_a at
k L_0 if the arms' share in P is multiplied by k rather than by k_a. So it is: the rest, (k - k_a) M_a, stays behind as
prior knowledge of what arms share (`rest`), and the precisions move back to L and L_0 in slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.policies.base import F64
from bandit_router.policies.hierarchical import FIRST_FIT, LARGEST_VARIANCE, OWN_VARIANCE, TYPICAL_COST
from bandit_router.policies.hierarchical import HierarchicalRidge as Ridge

WIDE = 64  # dimensions up to which everything is solved at once
SKETCH_ARMS = 8  # arms that the evidence of the sketch is summed over
IDLE, SPAN, PROJECT, CLIMB, MOVE, WEIGH = range(6)
_SKETCHED = ("gram", "moment", "square", "count", "firmness", "kind", "scale", "shared_scale", "climbing")


class WideHierarchy(Ridge):
    """`HierarchicalRidge` for more than `WIDE` dimensions; see there for arguments and attributes.

    Attributes:
        stage: what the next slice does (`IDLE` to `WEIGH`), where in it, and the outcome from which to tune again.
        basis: the directions of the sketch, shape (dim + 1, rank). span: their images, while they are searched.
        rest_moment, rest: what restarts left behind: its part of q, of R and of the number of outcomes.
        cost_precision: precisions of the costs' regressions, shape (n_arms, dim + 1); none without costs.
    """

    OWN = ("stage", "basis", "span", "rest_moment", "rest", "cost_precision")

    def _begin(self) -> None:
        n_arms, d = self.centre.shape[0], self.centre.shape[2]
        rank, costs = min(64, max(8, 2**15 // d)), self.centre.shape[1] > 2
        self.chunk = max(1, 2**13 // d)
        self.sketch = Ridge(n_arms, rank - 1, 1)
        self.sketch.evidence_arms, self.sketch.climbing = SKETCH_ARMS, np.zeros(3)
        self.stage = np.array([IDLE, 0, FIRST_FIT])
        self.basis, self.span = np.zeros((d, rank)), np.zeros((d, rank))
        self.rest_moment, self.rest = np.zeros(d), np.zeros(2)
        self.precision, self.shared_precision = self._diagonals(self.scale, self.shared_scale)
        self.cost_precision = self._cost_diagonals()[: n_arms if costs else 0]
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
        slices[self.stage[0]]()

    def _next(self, stage: int) -> None:
        """The next arm of this stage, or the next stage."""
        self.stage[1] += 1
        if self.stage[1] == len(self.count):
            self.stage[:2] = stage, 0

    def _idle(self) -> None:
        if self.outcomes < self.stage[2]:
            return
        self._sort_columns()
        d, rank = self.basis.shape
        indicators, numbers = (self.kind == 1).sum(), (self.kind == 2).sum()
        few = min(indicators, max((rank - 1) // 2, rank - 1 - numbers))
        many = min(numbers, rank - 1 - few)
        self.sketch.kind = np.repeat([0, 1, 2, 0], [1, few, many, rank - 1 - few - many])
        self.sketch.unit = np.ones(rank)
        start = np.random.default_rng(0).standard_normal((d, rank))
        start[self.kind[:, None] != self.sketch.kind] = 0.0
        self.basis, self.span = start / np.sqrt(self.unit)[:, None], np.zeros((d, rank))
        self.stage = np.array([SPAN, 0, 2 * self.outcomes])

    def _span(self) -> None:
        self.span += self.gram[self.stage[1]] @ self.basis
        self._next(PROJECT)
        if self.stage[0] == PROJECT:
            self.basis = self._directions_of_context() / np.sqrt(self.unit)[:, None]

    def _directions_of_context(self) -> F64:
        """Orthonormal W: the level, then what the images span in each block."""
        root, w = np.sqrt(self.unit), np.zeros(self.basis.shape)
        level = np.where(self.kind == 0, self.low / root, 0.0)
        w[:, 0] = level / np.sqrt(level.dot(level))
        for block in (1, 2):
            rows, columns = self.kind == block, self.sketch.kind == block
            if columns.any():
                images = self.span[np.ix_(rows, columns)] / root[rows, None]
                w[np.ix_(rows, columns)] = np.linalg.qr(images)[0]
        return w

    def _project(self) -> None:
        arm, sketch, w = self.stage[1], self.sketch, self.basis
        gram = w.T @ (self.gram[arm] @ w)
        sketch.gram[arm] = (gram + gram.T) / 2
        sketch.moment[arm, 0] = self.moment[arm, 0] @ w
        sketch.square[arm], sketch.count[arm] = self.square[arm], self.count[arm]
        sketch.firmness[arm] = self.firmness[arm]
        self._next(CLIMB)
        if self.stage[0] == CLIMB:
            sketch.scale, sketch.shared_scale = self.scale, self.shared_scale
            sketch.begin_climb()

    def _climb(self) -> None:
        if not self.sketch.climb():
            self.scale, self.shared_scale = self.sketch.scale, self.sketch.shared_scale
            self.stage[:2] = MOVE, 0

    def _move(self) -> None:
        """A few columns of one arm, or of what arms share, to the precisions that the scales ask for."""
        own, shared = self._diagonals(self.scale, self.shared_scale)
        costs = self._cost_diagonals()[: len(self.cost_precision)]
        behind = np.vstack([self.precision != own, self.shared_precision != shared])
        behind[: len(costs)] |= self.cost_precision != costs
        if not behind.any():
            self.stage[:2] = WEIGH, 0
            return
        first = int(behind.any(axis=0).argmax()) // self.chunk * self.chunk
        some = slice(first, first + self.chunk)
        arm = int(behind[:, some].any(axis=1).argmax())
        if arm == len(own):
            change = shared[some] - self.shared_precision[some]
            _raise(self.shared_inverse, some, change, np.zeros((0, len(shared))))
            self.shared_precision[some] = shared[some]
        else:
            self._move_arm(arm, some, own[arm, some], costs[arm, some] if len(costs) else None)
        self._share()

    def _move_arm(self, arm: int, some: slice, precision: F64, cost_precision: F64 | None) -> None:
        inverse, now, theta, centre = self.inverse[arm], self.precision[arm], self.theta[arm], self.centre[arm]
        apart = -now[:, None] * inverse[:, some] * now[some]  # columns of M
        apart[some] += np.diag(now[some])
        wider = 1.0 / precision - 1.0 / now[some]
        towards = self.shared_inverse @ apart
        middle = _middle(wider, apart[some] - apart.T @ towards)
        self.shared_inverse += (towards @ middle) @ towards.T
        rows = slice(0, 1 if cost_precision is not None else len(theta))
        theta[rows] = centre[rows] + _raise(inverse, some, precision - now[some], theta[rows] - centre[rows])
        now[some] = precision
        if cost_precision is not None:
            change = cost_precision - self.cost_precision[arm, some]
            theta[1:] = centre[1:] + _raise(self.cost_inverse[arm], some, change, theta[1:] - centre[1:])
            self.cost_precision[arm, some] = cost_precision

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
        for name in ("gram", "moment", "square", "count"):
            sums = getattr(self.sketch, name)
            setattr(self.sketch, name, np.concatenate([sums, np.zeros_like(sums[:1])]))
        self.sketch.firmness = np.append(self.sketch.firmness, self.firmness[-1])
        self._settled()

    # -- state -----------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        sketched = {f"sketch_{name}": getattr(self.sketch, name) for name in _SKETCHED}
        return {**super().arrays(), **{name: getattr(self, name) for name in self.OWN}, **sketched}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:  # noqa: D102
        for name in self.OWN:
            setattr(self, name, arrays[name])
        for name in _SKETCHED:
            setattr(self.sketch, name, arrays[f"sketch_{name}"])
        self.sketch.unit = np.ones(len(self.sketch.kind))
        super().restore(arrays)


def _diagonal(precision: F64) -> F64:
    """Matrices with 1 / precision on their diagonals, shape (arms, d, d)."""
    return np.asarray((1.0 / precision)[:, :, None] * np.eye(precision.shape[1]))


def _middle(change: F64, block: F64) -> F64:
    """(change^-1 + block)^-1, also where a change is 0."""
    solved = np.linalg.solve(np.eye(len(change)) + change[:, None] * block, np.diag(change))
    return np.asarray((solved + solved.T) / 2)


def _raise(inverse: F64, some: slice, change: F64, own: F64) -> F64:
    """Add `change` to some diagonal entries of what `inverse` inverts, in place; returns `own` at the new one."""
    columns = inverse[:, some].copy()
    step = columns @ _middle(change, columns[some])
    moved = own - own[:, some] @ step.T
    inverse -= step @ columns.T
    return np.asarray(moved)
