"""Caches that never change, and the clairvoyant one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.caching.base import CacheController, Capacity, Served, Values


class Static(CacheController):
    """A fixed resident set: none, everything, random, most popular, or best in hindsight, as the caller chose it.

    Args:
        capacity, costs: see `CacheController`.
        resident: the set, shape (arms,); default nothing beyond the floor. It must fit, unless `unlimited`.
    """

    def __init__(self, *, capacity: Capacity, costs: F64, resident: Bool | None = None) -> None:
        super().__init__(capacity=capacity, costs=costs)
        if resident is not None:
            self.resident = capacity.floor | resident
            if not capacity.fits(self.resident):
                raise InvalidInput(f"the static set {np.flatnonzero(resident).tolist()} does not fit")

    def holds(self, step: int) -> int:
        """For good."""
        return sys.maxsize

    def _after(self, served: Served, values: Values) -> Bool | None:
        return None


class Belady(CacheController):
    """Evict what is needed again last: the clairvoyant optimum for equal sizes and costs when requests name adapters.

    Args:
        capacity, costs: see `CacheController`.
        future: the arm that each step will ask for, shape (steps,). Where a router chooses, this is a forecast (for
            instance the arm that is truly best), and the result is no longer a bound.

    A missed adapter that is needed again later than everything resident is not kept.

    Source: Belady 1966, IBM Systems Journal 5; with bypassing, as page_through allows.
    """

    wakes_on_miss = True

    def __init__(self, *, capacity: Capacity, costs: F64, future: Sequence[int]) -> None:
        super().__init__(capacity=capacity, costs=costs)
        self._next = _next_use(np.asarray(future, dtype=np.intp), len(costs))
        self._due = np.full(len(costs), np.inf)
        for arm in range(len(costs)):
            first = np.flatnonzero(np.asarray(future) == arm)
            self._due[arm] = first[0] if len(first) else np.inf

    def holds(self, step: int) -> int:
        """Until a miss."""
        return sys.maxsize

    def _after(self, served: Served, values: Values) -> Bool | None:
        if served.step < len(self._next):
            asked, due = self._next[served.step]
            self._due[int(asked)] = due
        if not served.miss:
            return None
        resident = self.resident.copy()
        resident[served.arm] = True
        while not self.capacity.fits(resident):
            candidates = np.flatnonzero(resident & ~self.capacity.floor)
            resident[candidates[self._due[candidates].argmax()]] = False
        return resident if resident[served.arm] else None


def _next_use(future: np.ndarray[tuple[int], np.dtype[np.intp]], arms: int) -> F64:
    """For every step the arm asked for and the step at which it is asked for next, shape (steps, 2)."""
    table = np.empty((len(future), 2))
    upcoming = np.full(arms, np.inf)
    for step in range(len(future) - 1, -1, -1):
        table[step] = future[step], upcoming[future[step]]
        upcoming[future[step]] = step
    return table
