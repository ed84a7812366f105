"""Caches that never change, and the clairvoyant one."""

from __future__ import annotations

import sys

import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.declared import setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.caching.base import CacheController, Served, Values


class Static(CacheController):
    """A fixed resident set: none, everything, random, most popular, or best in hindsight, as the caller chose it.

    Args:
        capacity, costs: see `CacheController`.
        resident: the set, shape (arms,); default nothing beyond the floor. It must fit, unless `unlimited`.
    """

    resident: Bool = setting(default=np.zeros(0, dtype=np.bool_), given=True)

    def _start(self) -> None:
        chosen = self.resident
        super()._start()
        if len(chosen):
            self.resident |= chosen
            if not self.capacity.fits(self.resident):
                raise InvalidInput(f"the static set {np.flatnonzero(chosen).tolist()} does not fit")

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

    future: Index = setting(kind=np.ndarray, given=True, unit="arms")

    def _start(self) -> None:
        super()._start()
        arms = len(self.costs)
        self._next = _next_use(self.future, arms)
        self._due = np.full(arms, np.inf)
        for arm in range(arms):
            first = np.flatnonzero(self.future == arm)
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


def _next_use(future: Index, arms: int) -> F64:
    """For every step the arm asked for and the step at which it is asked for next, shape (steps, 2)."""
    table = np.empty((len(future), 2))
    upcoming = np.full(arms, np.inf)
    for step in range(len(future) - 1, -1, -1):
        table[step] = future[step], upcoming[future[step]]
        upcoming[future[step]] = step
    return table
