"""The contract of the slow timescale: a controller sees every served request and proposes what stays resident."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.declared import Declared, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import utility

Values = Callable[[F64], tuple[F64, F64]]
"""Contexts (n, dim) -> expected utility and exploration bonus of every arm in each, both (n, arms) and finite."""


def beliefs(mean: F64, bonus: F64, weights: F64) -> tuple[F64, F64]:
    """Utility and bonus (..., arms) of a router's estimates (..., arms, channels) at signed weights of the channels.

    An unpriced channel counts nothing, metered or not. An arm without an estimate (NaN) may be worth anything from 0
    to 1: mean 0, bonus 1.
    """
    worth = utility(mean, weights)
    known = ~np.isnan(worth)
    return np.where(known, worth, 0.0), np.where(known, bonus, 1.0)


@dataclass(frozen=True)
class Capacity:
    """What fits in fast memory.

    Args:
        sizes: bytes of each arm, shape (arms,); 0 for what is always resident (the base model): it takes no slot.
        slots: how many adapters fit, None for no limit. limit_bytes: how many bytes fit, None for no limit.
        pinned: arms that stay resident always and take their room, shape (arms,); default none.
    """

    sizes: F64
    slots: int | None = None
    limit_bytes: float | None = None
    pinned: Bool | None = None

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 0:
            raise InvalidInput(f"slots must be at least 0, got {self.slots}")
        if not self.fits(self.floor):
            raise InvalidInput("the pinned adapters alone do not fit; pin fewer or give more room")

    @property
    def free(self) -> Bool:
        """Arms that are always resident and take no room."""
        return np.asarray(self.sizes == 0)

    @property
    def floor(self) -> Bool:
        """The smallest resident set: what is always there, and what is pinned."""
        return self.free if self.pinned is None else self.free | self.pinned

    @property
    def choices(self) -> Index:
        """Arms that a controller may load or evict."""
        return np.flatnonzero(~self.floor)

    def fits(self, resident: Bool) -> bool:
        """Whether a resident set has room."""
        if self.slots is not None and int((resident & ~self.free).sum()) > self.slots:
            return False
        return self.limit_bytes is None or float(self.sizes[resident].sum()) <= self.limit_bytes

    def room_for(self, resident: Bool, arm: int) -> bool:
        """Whether `arm` can join `resident`."""
        with_arm = resident.copy()
        with_arm[arm] = True
        return self.fits(with_arm)

    def room_instead(self, resident: Bool, leaving: Index) -> Bool:
        """Whether each arm has room once one has left, shape (leaving, arms); an index past the arms: nobody leaves."""
        slot, size = np.append(~self.free, False), np.append(self.sizes, 0.0)
        slots = np.inf if self.slots is None else self.slots
        limit = np.inf if self.limit_bytes is None else self.limit_bytes
        used, stored = (resident & ~self.free).sum(), self.sizes[resident].sum()
        joins, weighs = np.where(resident, 0, ~self.free), np.where(resident, 0.0, self.sizes)
        return np.asarray(
            (used - slot[leaving][:, None] + joins <= slots) & (stored - size[leaving][:, None] + weighs <= limit)
        )


class Served(NamedTuple):
    """One served request, as a controller sees it. `miss`: the arm was paged in for it."""

    step: int
    context: F64
    arm: int
    miss: bool


class CacheController(Declared, ABC):
    """Base of the controllers.

    Args:
        capacity: which resident sets fit.
        costs: utility lost when an arm has to be paged in, shape (arms,); 0 for what is always resident.

    Class attribute `wakes_on_miss`: it may propose after any miss, whatever `holds` says. Simulations run whole spans
    of requests at once: as many as `holds` says, or until a miss where that wakes it.

    A subclass declares its settings (`bandit_router.declared`), prepares itself in `_start`, implements `_after`. A
    controller proposes; `Residency` applies the proposal and charges the loads. Nothing is loaded at the start.
    """

    wakes_on_miss: ClassVar[bool] = False

    capacity: Capacity = setting(kind=Capacity, given=True)
    costs: F64 = setting(kind=np.ndarray, given=True, unit="utility")

    def _start(self) -> None:
        capacity, costs = self.capacity, self.costs
        if costs.shape != capacity.sizes.shape or not (np.isfinite(costs).all() and (costs >= 0).all()):
            raise InvalidInput(f"costs must be at least 0 with shape {capacity.sizes.shape}, got {costs.tolist()}")
        self.resident: Bool = capacity.floor.copy()

    def initial(self) -> Bool:
        """The resident set before the first request."""
        return self.resident.copy()

    def holds(self, step: int) -> int:
        """How many requests from `step` on, at least 1, end before it can propose (but for a miss) or force again."""
        return 1

    def forced(self, step: int) -> int | None:
        """An arm that this step must play whatever the router thinks, or None."""
        return None

    def after(self, served: Served, values: Values) -> Bool | None:
        """Take note of a served request; a new resident set, or None to leave it."""
        proposal = self._after(served, values)
        if proposal is not None:
            self.resident = proposal.copy()
        return proposal

    @abstractmethod
    def _after(self, served: Served, values: Values) -> Bool | None:
        """The proposal; `self.resident` is what is resident now."""
