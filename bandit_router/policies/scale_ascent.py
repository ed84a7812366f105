"""Coordinate ascent over the scales of a hierarchical model by factors of 2, one evaluation at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64

LIMITS = (1e-3, 1e6)  # of a block's precision: beyond these it is free, or off
TOLERANCE = 1e-3  # in log evidence


class ScaleAscent:
    """What is being climbed, and where the climb stands.

    Attributes:
        scale, shared_scale: the best scales so far, by block. kind: block of each column.
        climbing: the direction to try next (-1: none yet), the best evidence, and that of a round ago.
    """

    scale: F64
    shared_scale: F64
    kind: NDArray[np.intp]
    climbing: F64

    def begin_climb(self) -> None:
        """Start at the present scales."""
        self.climbing = np.array([-1.0, 0.0, 0.0])

    def candidate(self) -> tuple[F64, F64]:
        """The scales whose evidence is to be compared next."""
        turn = int(self.climbing[0])
        if turn < 0:
            return self.scale, self.shared_scale
        factor = np.exp2(list(self._directions())[turn])
        return np.clip(self.scale * factor[0], *LIMITS), np.clip(self.shared_scale * factor[1], *LIMITS)

    def consider(self, scales: tuple[F64, F64], value: float) -> bool:
        """Keep to a direction while the evidence grows, then try the next one; whether there is more to try."""
        turn, best, before = self.climbing.tolist()
        if turn < 0:
            self.climbing = np.array([0.0, value, value])
            return True
        if value > best + TOLERANCE:
            self.scale, self.shared_scale = scales
            self.climbing[1] = value
            return True
        if turn + 1 < len(list(self._directions())):
            self.climbing[0] = turn + 1
            return True
        self.climbing = np.array([0.0, best, best])
        return bool(best > before)

    def _directions(self) -> Iterator[F64]:
        """One scale up or down, those of L first; only scales of blocks that have columns."""
        for shared in (False, True):
            for block in np.unique(self.kind):
                if block or not shared:
                    for sign in (1.0, -1.0):
                        yield sign * np.eye(2)[int(shared)][:, None] * np.eye(3)[block]
