"""POLAR and POLAR+: epochs of cache-aware routing, with the resident set solved anew between them.

Both are reconstructions. POLAR (arXiv 2604.16583) is known to us by its abstract and one reader's notes: a cache-aware
LinUCB router (quality bound minus a cold penalty over the whole library), fixed epochs in the first variant; epoch
doubling, forced exploration and a better cache optimiser in the second. The bonus, the context sample, the amount
of forced exploration and the hysteresis below are ours. Its theory assumes an exact SolveCache and IID contexts with a
separated hot set; nothing here inherits its bounds.
"""

from __future__ import annotations

import math

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.declared import COUNT, NOT_NEGATIVE, SEED, setting
from bandit_router.policies.caching.base import CacheController, Served, Values
from bandit_router.policies.caching.solve import gains, solve_cache, value

SAMPLE = 512


class _Contexts:
    """A sample of contexts: the last ones (a window), or a uniform sample of all (a reservoir)."""

    def __init__(self, *, window: bool, seed: int) -> None:
        self.window, self.seen = window, 0
        self._rows: list[F64] = []
        self._rng = np.random.default_rng(seed)

    def add(self, x: F64) -> None:
        self.seen += 1
        if len(self._rows) < SAMPLE:
            self._rows.append(x)
            return
        slot = self.seen % SAMPLE if self.window else int(self._rng.integers(self.seen))
        if slot < SAMPLE:
            self._rows[slot] = x

    def array(self) -> F64:
        return np.array(self._rows)


class Polar(CacheController):
    """POLAR, reconstructed: every `epoch` requests solve the cache on a window of contexts with optimistic utilities.

        S = argmax mean_x max(M(x), max_{i in S} u_i(x)) - (reload / epoch) * sum_{i newly in S} c_i,   u = UCB

    Args:
        capacity, costs: see `CacheController`.
        epoch: requests between two solutions (the paper's experiment is reported with 200).
        reload: how much of its paging cost a load between requests is charged.
    """

    epoch: int = setting(default=200, check=COUNT, unit="requests")
    reload: float = setting(default=1.0, check=NOT_NEGATIVE, unit="loads")

    def _start(self) -> None:
        super()._start()
        self._contexts = _Contexts(window=True, seed=0)

    def holds(self, step: int) -> int:
        """Until the end of the epoch."""
        return self.epoch - step % self.epoch

    def _after(self, served: Served, values: Values) -> Bool | None:
        self._contexts.add(served.context)
        if (served.step + 1) % self.epoch:
            return None
        mean, bonus = values(self._contexts.array())
        charge = np.where(self.resident, 0.0, self.reload * self.costs / self.epoch)
        return solve_cache(gains(mean + bonus, self.costs), self.capacity, charge)


class PolarPlus(CacheController):
    """POLAR+, reconstructed: doubling epochs, forced exploration, SolveCache on posterior means with hysteresis.

    Epoch e has first * 2^e requests. Its first ceil(forcing * sqrt(K * length)) requests, at most half of them, play
    the adapters in turn whatever the router thinks. At its end the cache is solved on means over a sample of all
    contexts; it changes only when the gain over the next epoch exceeds the loads.

    Args:
        capacity, costs: see `CacheController`.
        first: length of the first epoch. forcing: factor of forced exploration; 0 turns it off.
        reload: how much of its paging cost a load between requests is charged. seed: of the context sample.
    """

    first: int = setting(default=200, check=COUNT, unit="requests")
    forcing: float = setting(default=1.0, check=NOT_NEGATIVE)
    reload: float = setting(default=1.0, check=NOT_NEGATIVE, unit="loads")
    seed: int = setting(default=0, check=SEED)

    def _start(self) -> None:
        super()._start()
        self._contexts = _Contexts(window=False, seed=self.seed)
        self._begin, self._length, self._turn = 0, self.first, 0

    @property
    def _forced_steps(self) -> int:
        slots = len(self.costs) if self.capacity.slots is None else self.capacity.slots
        return min(math.ceil(self.forcing * math.sqrt(slots * self._length)), self._length // 2)

    def forced(self, step: int) -> int | None:
        """The adapters in turn during the first part of an epoch."""
        if step - self._begin >= self._forced_steps:
            return None
        self._turn = (self._turn + 1) % len(self.costs)
        return self._turn

    def holds(self, step: int) -> int:
        """Until the end of the epoch, once its forced part is over."""
        return max(1, self._begin + self._length - step) if step - self._begin >= self._forced_steps else 1

    def _after(self, served: Served, values: Values) -> Bool | None:
        self._contexts.add(served.context)
        if served.step + 1 < self._begin + self._length:
            return None
        self._begin, self._length = served.step + 1, 2 * self._length
        mean, _ = values(self._contexts.array())
        gain = gains(mean, self.costs)
        proposal = solve_cache(gain, self.capacity)
        loads = self.reload * float(self.costs[proposal & ~self.resident].sum())
        worth = (value(gain, proposal) - value(gain, self.resident)) * self._length
        return proposal if worth > loads else None
