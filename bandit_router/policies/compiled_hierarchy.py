"""The default policy's model on compiled kernels: the same arrays, padded to whole vectors, read and moved in one call.

Same interface and same numbers as `HierarchicalRidge`; what happens rarely (scales, restarts, new arms) is its code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.policies.compiled import LINE, _aligned, _round_up
from bandit_router.policies.hierarchical import HierarchicalRidge
from bandit_router.policies.native import kernels
from bandit_router.policies.wide_hierarchy import WIDE, WideHierarchy

PADDED = ("inverse", "theta", "shared_inverse", "shared_theta", "precision", "gram", "moment", "centre", "cost_inverse")
PLAIN = ("square", "count", "costs", "loudness", "low", "high", "loss", "total")


def hierarchical_ridge(n_arms: int, dim: int, channels: int) -> HierarchicalRidge:
    """The fastest form of `HierarchicalRidge` there is for these sizes."""
    module = kernels()
    fits = module is not None and _round_up(dim + 1, LINE // 8) <= module.MAX_DIM and channels < module.MAX_CHANNELS
    forms = (WideHierarchy, CompiledWideHierarchy) if dim > WIDE else (HierarchicalRidge, CompiledHierarchy)
    return forms[fits](n_arms, dim, channels)


class CompiledHierarchy(HierarchicalRidge):
    """`HierarchicalRidge` on compiled kernels; see there for arguments and attributes."""

    def odds(  # noqa: D102
        self, context: F64, arms: Index, prices: F64, penalty: F64, temper: float, floor: F64
    ) -> F64:
        out = np.empty(len(arms))
        some = arms if len(arms) < len(self.count) else None
        self._kernel.odds(context, some, prices, penalty, temper, floor, out)
        return out

    def _fold(self, arm: int, context: F64, y: F64, weight: float) -> tuple[float, float]:
        return self._kernel.learn(arm, context, y, weight)

    def _settled(self) -> None:
        from bandit_router.policies import _kernels  # absent where it was not built

        held = []
        for name in PADDED:
            values = getattr(self, name)
            d = values.shape[-1]
            room = _aligned((*values.shape[:-1], _round_up(d, LINE // 8)), 8)
            room[..., :d] = values
            setattr(self, name, room[..., :d])
            held.append(room)
        arrays = (*held, *(getattr(self, name) for name in PLAIN))
        n_arms, d = self.precision.shape
        self._kernel = _kernels.Hierarchy(arrays, n_arms, d, self.theta.shape[1] - 1)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settled()


class CompiledWideHierarchy(CompiledHierarchy, WideHierarchy):
    """`WideHierarchy` on compiled kernels."""
