"""The default controller: exchange a resident adapter for another once the exchange would have paid for its load."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from bandit_router.arrays import F64, Bool, Index
from bandit_router.declared import NOT_NEGATIVE, POSITIVE, setting
from bandit_router.policies.caching.base import CacheController, Served, Values
from bandit_router.policies.caching.pooled import PooledEstimate

STRIDE = 16
OPTIMISM = 0.5


class ExchangeCredit(CacheController):
    """Keeps, for every resident adapter i and outsider j, what exchanging them would have gained so far.

    With u(x) what the adapters are plausibly worth (`PooledEstimate`) and g_S(x) the best that the resident set S
    allows (see `solve_cache`), one credit per pair:

        credit_ij <- max(credit_ij + E[g_{S - i + j}(x)] - g_S(x), -memory * c_j)
        exchange the pair of highest credit_ij - patience_j * c_j once that is positive, and start its credits anew

    A free slot is a resident adapter that is worth nothing. Under "insert" the adapter that a miss has just paged in
    costs no load: it takes a free slot at once, and another's place as if it were new. Not sooner, because what leaves
    may have to be paged in again: with no patience one slot changed hands at every other miss.

    - The expectation over u_j is an expected improvement, E[(u_j - u)^+] with half a standard deviation of optimism:
      what several unknown contexts may bring together. Exploration needs no calendar and no forcing.
    - Only where residency decides does uncertainty count: the router would play j if j were warm, and does not because
      j is cold. An arm that it would not play anyway, or tries in spite of the price, gains nothing from a load.
    - A load is paid only after the lack of it has cost `patience` times as much (ski rental: a wrong exchange and the
      wait for a right one cost the same order), and `again` times as much for an adapter that was resident before.
    - Credits are bounded below, so that after a drift an exchange needs at most memory + again loads' worth of
      evidence, however long the past.

    Args:
        capacity, costs: see `CacheController`.
        patience: loads' worth of evidence before the first load of an adapter between requests, greater than 0.
        again: the same for an adapter that was resident before.
        memory: loads' worth of evidence against an exchange that are remembered, at least 0.
        free_insert: whether keeping a missed adapter is free, as under on_miss = "insert".

    Credits are settled after every miss, and after 16 requests without one. Step: one estimate of all arms and O(N)
    additions; an exchange takes O(K N). Source: ours. Single exchanges reach a local optimum of the
    facility-location value, which is at least half of the best (Nemhauser, Wolsey & Fisher 1978); no regret bound is
    proved: the credits of a pair are not independent of what is resident, and the router's data depend on both. An
    adapter that only fits in place of two others is never loaded.
    """

    wakes_on_miss = True

    patience: float = setting(default=2.0, check=POSITIVE, unit="loads")
    again: float = setting(default=6.0, check=POSITIVE, unit="loads")
    memory: float = setting(default=3.0, check=NOT_NEGATIVE, unit="loads")
    free_insert: bool = setting(default=True)

    def _start(self) -> None:
        super()._start()
        n = len(self.costs)
        self._credit = np.zeros((n + 1, n))  # the last row is the free slot
        self._lowest = -self.memory * self.costs
        self._known: Bool = np.zeros(n, dtype=np.bool_)
        self._pool = PooledEstimate()
        self._pending: list[F64] = []

    def holds(self, step: int) -> int:
        """Until the credits are settled."""
        return STRIDE - len(self._pending)

    def _after(self, served: Served, values: Values) -> Bool | None:
        self._pending.append(served.context)
        if not served.miss and len(self._pending) < STRIDE:
            return None
        contexts, self._pending = np.array(self._pending), []
        rows = self._leaving()
        credit = self._settle(rows, contexts, *values(contexts))
        self._known |= self.resident
        surplus = credit - self._threshold(rows, served.arm if served.miss and self.free_insert else None)
        return self._exchange(rows, surplus) if surplus.max() > 0 else None

    def _threshold(self, rows: Index, paid: int | None) -> F64:
        """The credit that each exchange has to exceed, shape (rows, arms); the load of `paid` is paid already."""
        threshold = np.where(self._known, self.again, self.patience) * self.costs
        if paid is not None:
            threshold[paid] = self.patience * self.costs[paid]
        threshold[self.resident] = np.inf
        threshold = np.tile(threshold, (len(rows), 1))
        if paid is not None:
            threshold[-1, paid] = 0.0
        return threshold

    def _leaving(self) -> Index:
        """Rows of the adapters that may leave, and of the free slot."""
        return np.append(np.flatnonzero(self.resident & ~self.capacity.floor), len(self.costs))

    def _settle(self, rows: Index, contexts: F64, mean: F64, bonus: F64) -> F64:
        """Add these requests' gains to the credits; shape (rows, arms)."""
        u, deviation = self._pool(contexts, mean, bonus)
        deviation = np.where(self._decided_by_residency(mean + bonus), deviation, 0.0)
        held = _Held.of(u, self.resident, (u - self.costs).max(axis=1))
        u = u + OPTIMISM * deviation
        joining = _improvement(u - held.best, deviation)
        instead = held.without - held.best + _improvement(u - held.without, deviation) - joining
        credit: F64 = self._credit[rows] + joining.sum(axis=0)
        for place, row in enumerate(rows[:-1].tolist()):
            served = held.top == row
            if served.any():
                credit[place] += instead[served].sum(axis=0)
        np.maximum(credit, self._lowest, out=credit)
        self._credit[rows] = credit
        return credit

    def _decided_by_residency(self, index: F64) -> Bool:
        """Outsiders that the router would play if they were warm, and does not play because they are cold."""
        warm = np.where(self.resident, index, -np.inf).max(axis=1, keepdims=True)
        return np.asarray(~self.resident & (index > warm) & (index - self.costs <= warm))

    def _exchange(self, rows: Index, surplus: F64) -> Bool | None:
        """The best exchange that has room."""
        surplus = np.where(self.capacity.room_instead(self.resident, rows), surplus, -np.inf)
        row, joining = np.unravel_index(int(surplus.argmax()), surplus.shape)
        if surplus[row, joining] <= 0:
            return None
        leaving, proposal = int(rows[row]), np.append(self.resident, False)  # the last one is the free slot
        proposal[leaving], proposal[joining] = False, True
        self._restart(leaving, int(joining))
        return proposal[:-1]

    def _restart(self, leaving: int, joining: int) -> None:
        for arm in (leaving, joining):
            if arm < len(self.costs):
                self._credit[arm] = 0.0
                self._credit[:, arm] = 0.0


class _Held(NamedTuple):
    """What the resident set gives: the arm used, its value and the value without it, each per request."""

    top: Index
    best: F64
    without: F64

    @classmethod
    def of(cls, u: F64, resident: Bool, paged: F64) -> _Held:
        """The two best of the residents against paging anything in; values have shape (n, 1)."""
        kept = np.where(resident, u, -np.inf)
        rows, top = np.arange(len(u)), kept.argmax(axis=1)
        best = np.maximum(kept[rows, top], paged)
        kept[rows, top] = -np.inf
        return cls(top, best[:, None], np.maximum(kept.max(axis=1), paged)[:, None])


def _improvement(ahead: F64, deviation: F64) -> F64:
    """E[(Y)^+] of Y normal with mean `ahead` (Mockus 1975, expected improvement)."""
    z = ahead / np.maximum(deviation, 1e-12)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.where(deviation > 0, ahead * ndtr(z) + deviation * density, np.maximum(ahead, 0.0))
