"""Demand caches: every miss is kept, and the resident adapter of lowest priority makes room."""

from __future__ import annotations

import sys
from abc import abstractmethod

import numpy as np

from bandit_router.arrays import Bool
from bandit_router.policies.caching.base import CacheController, Served, Values


class DemandCache(CacheController):
    """Base of LRU, LFU and GDSF: a subclass keeps a priority per arm, and the lowest leaves first."""

    wakes_on_miss = True

    def _start(self) -> None:
        super()._start()
        self.priority = np.zeros(len(self.costs))

    def holds(self, step: int) -> int:
        """Until a miss."""
        return sys.maxsize

    @abstractmethod
    def _touch(self, arm: int, step: int) -> None:
        """Raise the priority of an arm that was served."""

    def _evicted(self, arm: int) -> None:
        """Take note of an eviction."""

    def _after(self, served: Served, values: Values) -> Bool | None:
        self._touch(served.arm, served.step)
        if not served.miss or self.resident[served.arm]:
            return None
        return self._insert(served.arm)

    def _insert(self, arm: int) -> Bool | None:
        resident, floor = self.resident.copy(), self.capacity.floor
        victims = []
        while not self.capacity.room_for(resident, arm):
            candidates = np.flatnonzero(resident & ~floor)
            if not len(candidates):
                return None  # it does not fit even alone
            victims.append(int(candidates[self.priority[candidates].argmin()]))
            resident[victims[-1]] = False
        for victim in victims:
            self._evicted(victim)
        resident[arm] = True
        return resident


class LRU(DemandCache):
    """Evict what was used longest ago."""

    def _touch(self, arm: int, step: int) -> None:
        self.priority[arm] = step


class LFU(DemandCache):
    """Evict what was used least often since the start."""

    def _touch(self, arm: int, step: int) -> None:
        self.priority[arm] += 1


class GDSF(DemandCache):
    """Evict the lowest age + frequency * cost / size; the age rises to the last victim's priority.

    Source: Cherkasova 1998, HP Labs HPL-98-69, Greedy-Dual-Size-Frequency; the cost is the paging cost.
    """

    def _start(self) -> None:
        super()._start()
        self.uses = np.zeros(len(self.costs))
        self.age = 0.0
        self.worth = self.costs / np.maximum(self.capacity.sizes, 1.0)
        self.worth = self.worth / max(float(self.worth.max()), np.finfo(np.float64).tiny)

    def _touch(self, arm: int, step: int) -> None:
        self.uses[arm] += 1
        self.priority[arm] = self.age + self.uses[arm] * self.worth[arm]

    def _evicted(self, arm: int) -> None:
        self.age = max(self.age, float(self.priority[arm]))
        self.uses[arm] = 0


CACHES: dict[str, type[DemandCache]] = {cache.__name__: cache for cache in (LRU, LFU, GDSF)}
