"""Ridge statistics on compiled kernels: half of each inverse as one stream, and nothing else of that size.

Same interface and same numbers as `RidgeStatistics`. A is not stored: the inverse is its own record, A is recovered by
inversion when replicas exchange sums. Greedy rules over many arms read the widths of those arms alone that can win:
width <= sqrt(largest eigenvalue of A^-1) * |x|, with a proven bound of that eigenvalue kept per arm. The packed update
keeps the inverse exactly symmetric, and a variance that rounding has made negative is repaired on the spot by lifting
the diagonal (counted in `refreshes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.policies.linear import RidgeStatistics, Rule, invert, pack, sums_of, unpack
from bandit_router.policies.native import kernels

RULES = {"greedy": 0, "softmax": 1, "inverse_gap": 2, "wins": 3}  # as in _distributions.h
LINE = 64  # bytes; arms start on a cache line


def ridge_statistics(n_arms: int, dim: int, channels: int, **settings: Any) -> RidgeStatistics:
    """The fastest form of `RidgeStatistics` there is for these sizes; `settings` are its keyword arguments."""
    module = kernels()
    fits = module is not None and dim <= module.MAX_DIM and channels <= module.MAX_CHANNELS
    return (CompiledRidge if fits else RidgeStatistics)(n_arms, dim, channels, **settings)


class CompiledRidge(RidgeStatistics):
    """`RidgeStatistics` on compiled kernels; see there for arguments and errors.

    Memory per arm: dim * (dim + 1) / 2 numbers in the chosen precision and channels * dim float64, each padded to
    whole cache lines. Measured at dim 32 on one arm (`python -m benchmarks.kernels --drift 10000000`): after 10^7
    updates widths are within 3e-14 of a direct solve and theta within 2e-14; with 32 bits within 0.8 % and 2e-6.
    """

    def _start(self) -> None:
        self._packed, self._theta = self._room(len(self.counts))
        self._packed[:, _diagonal(self.dim)] = 1.0 / self.ridge
        self._bind()

    def _room(self, n_arms: int) -> tuple[NDArray[Any], F64]:
        """Zeroed arrays for that many arms, rows padded to whole lines."""
        item = self.precision // 8
        line, half = LINE // item, self.dim * (self.dim + 1) // 2
        width = _round_up(self.dim, LINE // 8)
        return _aligned((n_arms, _round_up(half, line)), item), _aligned((n_arms, self.channels, width), 8)

    def _bind(self) -> None:
        """Hand the arrays to the kernels, which also bound each inverse there: again after any write from here."""
        from bandit_router.policies import _kernels  # absent where it was not built

        self._ridge = _kernels.Ridge(self._packed, self._theta, self.counts, self.dim)

    # -- what a policy reads ------------------------------------------------------------------------------------

    def predict(self, x: F64) -> tuple[F64, F64]:  # noqa: D102
        mean, width = np.empty((len(self.counts), self.channels)), np.empty(len(self.counts))
        self._ridge.predict(x, mean, width)
        return mean, width

    def predict_many(self, contexts: F64) -> tuple[F64, F64]:  # noqa: D102
        mean = np.empty((len(contexts), len(self.counts), self.channels))
        width = np.empty((len(contexts), len(self.counts)))
        self._ridge.predict_many(np.ascontiguousarray(contexts, dtype=np.float64), mean, width)
        return mean, width

    def solve(self, x: F64) -> F64:  # noqa: D102
        out = np.empty((len(self.counts), self.dim))
        self._ridge.solve(x, 0, out)
        return out

    def solve_arm(self, arm: int, x: F64) -> F64:  # noqa: D102
        out = np.empty(self.dim)
        self._ridge.solve(x, arm, out)
        return out

    def index(self, x: F64, prices: F64, alpha: float) -> F64:  # noqa: D102
        out = np.empty(len(self.counts))
        self._ridge.index(x, prices, alpha, out)
        return out

    def select(self, x: F64, prices: F64, alpha: float) -> int:  # noqa: D102
        return int(self._ridge.select(x, prices, alpha))

    def distribution(self, rule: Rule, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:  # noqa: D102
        count = len(arms)
        out = np.empty(count)
        some = arms if count < len(self.counts) else None
        self._ridge.probabilities(x, some, prices, penalty, RULES[rule.name], rule.alpha, rule.parameter, out)
        return out

    # -- learning -----------------------------------------------------------------------------------------------

    def learn(self, arm: int, x: F64, y: F64, weight: float) -> None:  # noqa: D102
        self.refreshes += self._ridge.learn(arm, x, y, weight, self.forgetting, self.ridge)

    def play(self, rule: Rule, parameters: F64, inputs: tuple[NDArray[Any], ...], outputs: tuple[Any, Any]) -> int:
        """`play.play` in one call as far as it goes; `parameters[t]` is the one after t steps. Returns the count."""
        how = (RULES[rule.name], rule.alpha, parameters, self.forgetting, self.ridge)
        steps, repairs = self._ridge.play(*inputs, *how, *outputs)
        self.refreshes += repairs
        return int(steps)

    def follow(self, rule: Rule, parameters: F64, inputs: tuple[Any, ...], outputs: tuple[Any, Any]) -> tuple[int, int]:
        """`play.follow` in one call, as far as it goes. Returns the rows done and how many of them were learned."""
        how = (RULES[rule.name], rule.alpha, parameters, self.forgetting, self.ridge)
        rows, learned, repairs = self._ridge.follow(*inputs, *how, *outputs)
        self.refreshes += repairs
        return int(rows), int(learned)

    def refresh(self, arm: int) -> None:
        """Invert one arm's statistics there and back; fails when they are not positive definite."""
        self._set_inverse(arm, invert(invert(self._matrix(arm))))
        self._bind()
        self.refreshes += 1

    def _append(self, precision: float, theta: F64) -> None:
        packed, thetas = self._room(len(self.counts))
        packed[:-1], thetas[:-1] = self._packed, self._theta
        packed[-1, _diagonal(self.dim)] = 1.0 / precision
        thetas[-1, :, : self.dim] = theta
        self._packed, self._theta = packed, thetas
        self._bind()

    # -- state --------------------------------------------------------------------------------------------------

    @property
    def theta(self) -> F64:  # type: ignore[override]
        """Shape (n_arms, channels, dim), a view."""
        return self._theta[:, :, : self.dim]

    @property
    def inverse(self) -> NDArray[np.floating[Any]]:  # type: ignore[override]
        """A^-1, shape (n_arms, dim, dim), unpacked."""
        return unpack(self.arrays()["inverse"], self.dim)

    @property
    def gram(self) -> F64:  # type: ignore[override]
        """A by inversion, shape (n_arms, dim, dim)."""
        return sums_of(self.inverse, self.theta)[0]

    @property
    def moment(self) -> F64:  # type: ignore[override]
        """b = A theta, shape (n_arms, channels, dim)."""
        return sums_of(self.inverse, self.theta)[1]

    def arrays(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        half = self._packed[:, : self.dim * (self.dim + 1) // 2]
        return {"inverse": half, "theta": self.theta, "counts": self.counts}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:  # noqa: D102
        saved = arrays["inverse"]
        self.counts = arrays["counts"].astype(np.int64)
        self._packed, self._theta = self._room(len(self.counts))
        self._packed[:, : saved.shape[1]] = saved
        self._theta[:, :, : self.dim] = arrays["theta"]
        self._bind()

    def sums(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        gram, moment = sums_of(self.inverse, self.theta)
        return {"gram": gram, "moment": moment, "counts": self.counts.copy()}

    def _merge(self, delta: Mapping[str, NDArray[Any]]) -> None:
        for arm in map(int, np.flatnonzero(delta["counts"])):
            gram = invert(self._matrix(arm))
            moment = self.theta[arm] @ gram + delta["moment"][arm]
            inverse = invert(gram + delta["gram"][arm])
            self._set_inverse(arm, inverse)
            self._theta[arm, :, : self.dim] = moment @ inverse
        self._bind()

    def _matrix(self, arm: int) -> F64:
        return np.asarray(unpack(self.arrays()["inverse"][arm : arm + 1], self.dim)[0], dtype=np.float64)

    def _set_inverse(self, arm: int, inverse: F64) -> None:
        self.arrays()["inverse"][arm] = pack(inverse[None])[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_ridge"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()


def _diagonal(dim: int) -> NDArray[np.intp]:
    """Where the diagonal lies in a packed lower half."""
    rows = np.arange(dim)
    return rows * (rows + 3) // 2


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _aligned(shape: tuple[int, ...], item: int) -> NDArray[Any]:
    """Zeros that start on a cache line."""
    size = int(np.prod(shape)) * item
    memory = np.zeros(size + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(f"f{item}").reshape(shape)
