"""LinUCB for contexts of hundreds of dimensions: full statistics inside a sketched subspace, one number outside it.

    A_a ~ V' A_a^V V + s_a (I - V' V),     V: (rank, dim) orthonormal, the strongest directions of the contexts

Text embeddings have most of their energy in a few dozen directions. There an arm keeps the same ridge regression as
LinUCB, so that a decision reads rank^2 / 2 numbers an arm instead of dim^2 / 2; in what is left of the context it keeps
a coefficient vector, but a single precision for all directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, setting
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.distributions import greedy
from bandit_router.policies.linear import invert, pack
from bandit_router.policies.state import Form


class SketchedLinUCB(Policy):
    """Play the arm whose optimistic utility is highest, by statistics of low rank plus a multiple of the identity.

        index_a = prices . mean_a + alpha * sqrt(z' (A_a^V)^-1 z + |x - V' z|^2 / s_a) - penalty_a,   z = V x

    An outcome moves the coefficients inside the subspace first, then those outside by what is left of the error. The
    subspace is that of Frequent Directions over the contexts: it is renewed from the newest 2 * rank of them after
    2 * rank, 4 * rank, 8 * rank, ... outcomes, and every arm's estimates and precisions are carried over. A rank of at
    least dim makes this LinUCB, number for number. Memory is n_arms * (rank^2 / 2 + channels * dim) + 3 * rank * dim.

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        ridge: prior precision of every coefficient.
        rank: dimensions of the subspace, at least 1.
        alpha: width of the confidence bonus, in utility units.
        floor: share of the traffic spread evenly over the eligible arms.

    Source: Kuzborskij, Cella & Cesa-Bianchi 2019, Efficient linear bandits through matrix sketching (arXiv 1809.11033),
    who sketch each arm's matrix; Liberty 2013 (arXiv 1206.0594), Algorithm 1, for the sketch, which is shared here as
    arms see the same kind of contexts. Their regret bound, which grows with the energy outside the sketch, is not
    proven for this form.

    Example:
        >>> policy = SketchedLinUCB(n_arms=2, dim=384, rank=16, floor=0.0)
        >>> policy.learn(np.ones(384), arm=0, outcome=[1.0])
        >>> policy.probabilities(np.ones(384)).tolist()
        [0.0, 1.0]
    """

    order_free: ClassVar[bool] = False
    has_estimates: ClassVar[bool] = True
    per_arm: ClassVar[tuple[str, ...] | None] = (
        *("inside.inverse", "inside.theta", "inside.counts"),
        *("outside", "precision"),
    )
    forms: ClassVar[Mapping[str, Form]] = {"inside.inverse": "packed"}

    ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")
    rank: int = setting(default=32, check=COUNT, unit="dimensions")
    alpha: float = setting(default=0.3, check=NOT_NEGATIVE, unit="utility per width")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _start(self) -> None:
        super()._start()
        size = min(self.rank, self.dim)
        self.inside = ridge_statistics(self.n_arms, size, self.channels, ridge=self.ridge)
        self.outside = np.zeros((self.n_arms, self.channels, self.dim))
        self.precision = np.full(self.n_arms, self.ridge)
        self.basis, self.energy = np.eye(size, self.dim), np.zeros(size)
        self.recent = np.zeros((2 * size if size < self.dim else 0, self.dim))

    def _predict(self, x: F64) -> tuple[F64, F64]:
        """Means (n_arms, channels) and widths (n_arms,)."""
        z = self.basis @ x
        mean, width = self.inside.predict(z)
        rest = max(float(x.dot(x) - z.dot(z)), 0.0)
        return mean + self.outside @ x, np.sqrt(width**2 + rest / self.precision)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        mean, width = self._predict(x)
        return greedy((mean @ prices + self.alpha * width)[arms] - penalty, self.floor)

    def _estimate(self, x: F64) -> Estimate:
        mean, width = self._predict(x)
        return Estimate(mean, self.alpha * width)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        z = self.basis @ x
        target = y - self.outside[arm] @ x
        self.inside.learn(arm, z, target, weight)
        if not len(self.recent):
            return
        rest = x - z @ self.basis
        error = np.nan_to_num(target - self.inside.theta[arm] @ z)
        squares = rest.dot(rest)
        self.outside[arm] += np.multiply.outer(weight / (self.precision[arm] + weight * squares) * error, rest)
        self.precision[arm] += weight * squares / (self.dim - len(z))
        self.recent[self.steps % len(self.recent)] = x
        rounds, partial = divmod(self.steps + 1, len(self.recent))
        if not partial and not rounds & (rounds - 1):
            self._turn()

    def _turn(self) -> None:
        """Renew the subspace and express what is known in the new one; the trace of every precision is kept."""
        size, free = len(self.basis), self.dim - len(self.basis)
        rows = np.concatenate([np.sqrt(self.energy)[:, None] * self.basis, self.recent])
        _, strength, directions = np.linalg.svd(rows, full_matrices=False)
        theta = self.outside + self.inside.theta @ self.basis
        turn, gram = directions[:size] @ self.basis.T, self.inside.sums()["gram"]
        new = turn @ gram @ turn.T + self.precision[:, None, None] * (np.eye(size) - turn @ turn.T)
        self.precision += np.trace(gram - new, axis1=1, axis2=2) / free
        self.energy = strength[:size] ** 2 - strength[size] ** 2  # Liberty 2013, Algorithm 1
        self.basis = directions[:size].copy()
        inverse = pack(np.stack([invert(each) for each in new]))
        self.inside.restore({"inverse": inverse, "theta": theta @ self.basis.T, "counts": self.inside.counts})
        self.outside = theta - self.inside.theta @ self.basis

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.inside.add_arm(like, strength)
        start = np.zeros_like(self.outside[0]) if like is None else self.outside[like]
        self.outside = np.concatenate([self.outside, start[None]])
        self.precision = np.append(self.precision, self.ridge * (1.0 if like is None else strength))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        inside = {f"inside.{name}": array for name, array in self.inside.arrays().items()}
        names = ("outside", "precision", "basis", "energy", "recent")
        return {**inside, **{name: getattr(self, name) for name in names}}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.inside.restore({name: arrays.pop(f"inside.{name}") for name in self.inside.arrays()})
        for name, array in arrays.items():
            setattr(self, name, array)
