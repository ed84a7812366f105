"""Eviction by a learned hazard of reuse."""

from __future__ import annotations

import sys

import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.policies.caching.base import CacheController, Served, Values

USES, GAPS = 8, 9  # octaves of the number of uses, and of the last gap between two uses
AGES: Index = np.append(np.arange(1, 8), (8 * 2.0 ** (np.arange(17) / 2)).astype(np.intp))  # each, then half octaves
START = 10.0  # exposures' worth of belief that the hazard is 1 / age
PRIOR = 2.0  # uses' worth of belief that a class is like all others of its age


class ReuseHazard(CacheController):
    """Evicts what the next request is least likely to name, by age since the last use, number of uses and last gap.

    Every request is an exposure of each adapter seen so far: it is named (an event) or not. With e events in n
    exposures of an age bin a and a class c (number of uses and last gap, in octaves), and e_a, n_a those of all
    classes of that age, the hazard of reuse is shrunk towards the age's own:

        h_ac = (e_ac + 2) / (n_ac + 2 / h_a),   h_a = (e_a + 10 / a) / (n_a + 10)

    A miss evicts the lowest h_ac * cost among the resident and the adapter itself, which is so not kept if it is the
    least likely to come back (bypassing); per byte where bytes bind. The prior 1 / a and ties that leave oldest
    first make the first evictions those of LRU.

    Args:
        capacity, costs: see `CacheController`.

    Step: O(N) additions. Source: ours, close to LHD (Beckmann, Chen & Cidon, NSDI 2018, section 3), which ranks by
    hits per expected lifetime; where the hazard falls with age, the next request's probability ranks nearly alike
    and needs no lifetime. No bound is proved: the classes share statistics between adapters that need not be alike,
    and the rule looks one request ahead, which misleads in strictly periodic streams (what is named at every other
    request looks worthless just after it was). It suits requests that name their adapter. Where a router chooses,
    what is resident changes what is asked for, and `ExchangeCredit` is the better choice.

    Example:
        >>> from bandit_router import Capacity
        >>> capacity = Capacity(np.array([0.0, 1.0, 1.0]), slots=1)
        >>> cache = ReuseHazard(capacity=capacity, costs=np.array([0.0, 0.2, 0.2]))
        >>> nothing = np.zeros(1)
        >>> cache.after(Served(0, nothing, 1, True), lambda contexts: (contexts, contexts)).tolist()
        [True, True, False]
    """

    wakes_on_miss = True

    def _start(self) -> None:
        super()._start()
        n = len(self.costs)
        self._uses, self._last, self._class = np.zeros(n), np.zeros(n, dtype=np.intp), np.full(n, -1)
        self._events, self._exposure = np.zeros((USES * GAPS, len(AGES))), np.zeros((USES * GAPS, len(AGES)))
        by_byte = self.capacity.limit_bytes is not None
        self._worth = self.costs / np.maximum(self.capacity.sizes, 1.0) if by_byte else self.costs

    def holds(self, step: int) -> int:
        """Until a miss."""
        return sys.maxsize

    def _after(self, served: Served, values: Values) -> Bool | None:
        if self.capacity.floor[served.arm]:
            return None
        self._learn(served.arm, served.step)
        if not served.miss or self.resident[served.arm]:
            return None
        return self._insert(served.arm, served.step + 1)

    def _learn(self, arm: int, step: int) -> None:
        seen = np.flatnonzero(self._class >= 0)
        cells = self._class[seen] * len(AGES) + _age(step - self._last[seen])
        self._exposure += np.bincount(cells, minlength=self._exposure.size).reshape(self._exposure.shape)
        gap = GAPS - 1
        if self._class[arm] >= 0:
            waited = step - self._last[arm]
            self._events[self._class[arm], _age(waited)] += 1
            gap = min(int(np.log2(waited)), GAPS - 1)
        self._uses[arm] += 1
        self._last[arm] = step
        self._class[arm] = min(int(np.log2(self._uses[arm])), USES - 1) * GAPS + gap

    def _hazard(self, arms: Index, step: int) -> F64:
        """Probability that request `step` names each of `arms`, which were all seen."""
        cls, age = self._class[arms], _age(step - self._last[arms])
        of_age = (self._events.sum(axis=0) + START / AGES) / (self._exposure.sum(axis=0) + START)
        return np.asarray((self._events[cls, age] + PRIOR) / (self._exposure[cls, age] + PRIOR / of_age[age]))

    def _insert(self, arm: int, step: int) -> Bool | None:
        resident = self.resident.copy()
        resident[arm] = True
        arms = np.flatnonzero(resident & ~self.capacity.floor)
        value = self._hazard(arms, step) * self._worth[arms]
        for victim in arms[np.lexsort((self._last[arms], value))]:
            if self.capacity.fits(resident):
                break
            resident[victim] = False
        return resident if resident[arm] else None


def _age(waited: Index) -> Index:
    """The bin of each age, all at least 1."""
    return np.asarray(AGES.searchsorted(waited, side="right") - 1)
