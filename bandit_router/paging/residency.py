"""What is in fast memory: applies a controller's proposals, counts the paging, and prices what is not resident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.caching.base import Capacity

OnMiss = Literal["insert", "page_through"]


@dataclass
class PagingCounters:
    """Counts since the start. Milliseconds and bytes include both what misses and what reloads moved.

    `misses`: requests served by an arm that was not resident. `loads`: adapters that became resident, by a kept miss
    or by a reload. `reloads`: loads that no request was waiting for.
    """

    requests: int = 0
    misses: int = 0
    loads: int = 0
    reloads: int = 0
    evictions: int = 0
    paged_ms: float = 0.0
    paged_bytes: float = 0.0


class Residency:
    """The resident set.

    Args:
        capacity: sizes, slots and bytes, pinned adapters.
        costs: utility lost by paging each arm in, shape (arms,).
        on_miss: "insert": a missed adapter is in fast memory once it was paged in, so a controller may keep it at no
            further charge, as serving engines do; "page_through": it is dropped after the request, and keeping it
            is a load of its own.
        resident: the set before the first request, loaded at no charge; default what must always be there.
    """

    def __init__(
        self, *, capacity: Capacity, costs: F64, on_miss: OnMiss = "insert", resident: Bool | None = None
    ) -> None:
        if on_miss not in ("insert", "page_through"):
            raise InvalidInput(f"on_miss must be insert or page_through, got {on_miss!r}")
        self.capacity, self.costs, self.on_miss = capacity, costs, on_miss
        self.resident: Bool = capacity.floor.copy()
        self.counters = PagingCounters()
        if resident is not None:
            self.replace(resident)

    def penalty(self) -> F64:
        """What each arm would cost to serve now, in utility: its paging cost while it is not resident."""
        return np.where(self.resident, 0.0, self.costs)

    def serve(self, arm: int, load_ms: float) -> bool:
        """Count one served request, which waits `load_ms` if its arm is not resident; whether it was a miss."""
        self.counters.requests += 1
        miss = not self.resident[arm]
        if miss:
            self.counters.misses += 1
            self._paged(load_ms, float(self.capacity.sizes[arm]))
        return bool(miss)

    def apply(self, proposal: Bool, load_ms: F64, *, missed: int | None = None) -> F64:
        """Make a proposal the resident set, and charge its loads.

        Args:
            proposal: shape (arms,). load_ms: what loading each arm takes now, shape (arms,).
            missed: the arm that was just paged in by a miss; under "insert" keeping it is free.

        Returns:
            The arms that had to be reloaded, as a mask of 0 and 1, shape (arms,).

        Raises:
            InvalidInput: the proposal does not fit or drops what must stay; nothing has changed.
        """
        self._check(proposal)
        loaded = proposal & ~self.resident
        self.counters.loads += int(loaded.sum())
        self.counters.evictions += int((self.resident & ~proposal).sum())
        if missed is not None and self.on_miss == "insert":
            loaded[missed] = False
        for arm in np.flatnonzero(loaded):
            self.counters.reloads += 1
            self._paged(float(load_ms[arm]), float(self.capacity.sizes[arm]))
        self.resident = proposal.copy()
        return loaded.astype(np.float64)

    def replace(self, resident: Bool) -> None:
        """Take over a resident set that is there already: nothing is loaded, nothing is charged."""
        self._check(resident)
        self.resident = resident.copy()

    def _check(self, proposal: Bool) -> None:
        if not self.capacity.fits(proposal) or (self.capacity.floor & ~proposal).any():
            raise InvalidInput(f"resident set {np.flatnonzero(proposal).tolist()} does not fit or drops a pinned arm")

    def _paged(self, milliseconds: float, size: float) -> None:
        self.counters.paged_ms += milliseconds
        self.counters.paged_bytes += size
