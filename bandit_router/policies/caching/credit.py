"""The house controller: exchange a resident adapter for another once the exchange would have paid for its load."""

from __future__ import annotations

import numpy as np

from bandit_router.policies.base import F64, Bool, Index
from bandit_router.policies.caching.base import CacheController, Capacity, Served, Values


class ExchangeCredit(CacheController):
    """Keeps, for every resident adapter i and outsider j, what exchanging them would have gained so far.

    With u(x) the optimistic utilities (mean plus the router's own bonus), g_S(x) the best that the resident set S
    allows (see `solve_cache`), and one credit per pair:

        credit_ij <- max(credit_ij + g_{S - i + j}(x) - g_S(x), -memory * c_j)
        exchange the pair of highest credit_ij - patience * c_j once that is positive, and start its credits anew

    A free slot is a resident adapter that is worth nothing. Under "insert" the adapter that a miss has just paged in
    needs no patience: keeping it is free.

    - Exploration needs no calendar and no forcing: an adapter that could be better looks better (its bonus), earns
      credit, is loaded once, and is then explored at no paging cost. Its bonus shrinks, and it stays only if it is
      good. Arms that could not enter the best set by any plausible estimate are never loaded.
    - A load is paid only after the lack of it has cost `patience` times as much (ski rental: a wrong exchange and the
      wait for a right one cost the same order).
    - Credits are bounded below, so that after a drift an exchange needs at most memory + patience loads' worth of
      evidence, however long the past.

    Args:
        capacity, costs: see `CacheController`.
        patience: loads' worth of evidence before a load between requests, greater than 0.
        memory: loads' worth of evidence against an exchange that are remembered, at least 0.
        free_insert: whether keeping a missed adapter is free, as under on_miss = "insert".

    Step: one estimate of all arms and O(K N) additions. Source: ours. Single exchanges reach a local optimum of the
    facility-location value, which is at least half of the best (Nemhauser, Wolsey & Fisher 1978); no regret bound is
    proved: the credits of a pair are not independent of what is resident, and the router's data depend on both. An
    adapter that only fits in place of two others is never loaded.
    """

    def __init__(
        self,
        *,
        capacity: Capacity,
        costs: F64,
        patience: float = 2.0,
        memory: float = 3.0,
        free_insert: bool = True,
    ) -> None:
        super().__init__(capacity=capacity, costs=costs)
        self.patience, self.memory, self.free_insert = patience, memory, free_insert
        n = len(costs)
        self._credit = np.zeros((n + 1, n))  # the last row is the free slot
        self._lowest = -memory * costs

    def _leaving(self) -> Index:
        """Rows of the adapters that may leave, and of the free slot."""
        return np.append(np.flatnonzero(self.resident & ~self.capacity.floor), len(self.costs))

    def _after(self, served: Served, values: Values) -> Bool | None:
        mean, bonus = values(served.context[None])
        rows = self._leaving()
        credit = self._earn(rows, mean[0] + bonus[0])
        threshold = np.where(self.resident, np.inf, self.patience * self.costs)
        if served.miss and self.free_insert:
            threshold[served.arm] = 0.0
        surplus = credit - threshold
        return self._exchange(rows, surplus) if surplus.max() > 0 else None

    def _earn(self, rows: Index, u: F64) -> F64:
        """Add this request's gains, shape (rows, arms)."""
        paged = float((u - self.costs).max())
        kept = np.where(self.resident, u, -np.inf)
        top = int(kept.argmax())
        best = max(float(kept[top]), paged)
        kept[top] = -np.inf
        without_top = max(float(kept.max()), paged)
        gain = np.maximum(u - best, 0.0)
        credit = self._credit[rows] + gain
        credit[rows == top] += np.maximum(u, without_top) - best - gain
        np.maximum(credit, self._lowest, out=credit)
        self._credit[rows] = credit
        return credit

    def _exchange(self, rows: Index, surplus: F64) -> Bool | None:
        """The best exchange that has room."""
        ready = np.argwhere(surplus > 0)
        for row, joining in sorted(ready.tolist(), key=lambda pair: -surplus[pair[0], pair[1]]):
            leaving = int(rows[row])
            proposal = self.resident.copy()
            if leaving < len(proposal):
                proposal[leaving] = False
            proposal[joining] = True
            if self.capacity.fits(proposal):
                self._restart(leaving, joining)
                return proposal
        return None

    def _restart(self, leaving: int, joining: int) -> None:
        for arm in (leaving, joining):
            if arm < len(self.costs):
                self._credit[arm] = 0.0
                self._credit[:, arm] = 0.0
