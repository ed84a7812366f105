"""Arms and the catalogue that holds them: what can be served, and what may be served now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import cache
from numbers import Real
from typing import Any, Literal

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import check_id
from bandit_router.records.outcomes import MAX_SQUARED


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, or a LoRA adapter on a base model.

    Attributes:
        id: unique name; it is what logs and results carry.
        kind: "model" or "adapter".
        base_model: id of the base model that an adapter sits on.
        size_bytes: bytes that move when the arm is paged in; 0 for what is always resident.
        rank: LoRA rank, for adapters.
        input_usd_per_mtok, output_usd_per_mtok: list prices, US dollars per million tokens.
        tags: free labels, for allow-lists and reports.
    """

    id: str
    kind: Literal["model", "adapter"] = "model"
    base_model: str | None = None
    size_bytes: int = 0
    rank: int | None = None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in _field_types():
            value = getattr(self, name)
            if isinstance(value, np.generic):
                value = value.item()
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # 8e7 bytes
            try:
                msgspec.structs.force_setattr(self, name, msgspec.convert(value, kind))
            except msgspec.ValidationError as wrong:
                raise InvalidInput(f"arm {self.id!r}: {name}: {wrong}") from None
        check_id("an arm's id", self.id)
        if self.size_bytes < 0:
            raise InvalidInput(f"arm {self.id!r}: size_bytes must be at least 0, got {self.size_bytes}")


@cache
def _field_types() -> list[tuple[str, Any]]:
    return [(field.name, field.type) for field in msgspec.structs.fields(Arm)]


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key of ids and names that puts "2" before "10", and "f2" before "f10".

    Example:
        >>> sorted(["10", "2", "b", "a"], key=natural)
        ['2', '10', 'a', 'b']
    """
    parts = re.split(r"(\d{1,9})", name)
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]


class Status(Enum):
    """Whether an arm may be drawn: active arms only. Retired is final; a late reward is still accounted to it."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class Catalogue:
    """Ordered arms with their status. An arm's position never changes, so policies index by it.

    Example:
        >>> catalogue = Catalogue([Arm(id="small"), Arm(id="large")])
        >>> catalogue.pause("large")
        >>> catalogue.active().tolist()
        [True, False]
    """

    def __init__(self, arms: Iterable[Arm]) -> None:
        self._arms: list[Arm] = []
        self._index: dict[str, int] = {}
        self._active: Bool = np.zeros(0, dtype=np.bool_)
        self._all_active = True
        self._retired: set[str] = set()
        for arm in arms:
            self.add(arm)
        if not self._arms:
            raise InvalidInput("a catalogue needs at least one arm")

    def __len__(self) -> int:
        return len(self._arms)

    def __iter__(self) -> Iterator[Arm]:
        return iter(self._arms)

    def __getitem__(self, index: int) -> Arm:
        return self._arms[index]

    @property
    def ids(self) -> tuple[str, ...]:
        """Arm ids in order."""
        return tuple(self._index)

    def index(self, arm_id: str) -> int:
        """Position of an arm; raises InvalidInput for an unknown one."""
        try:
            return self._index[arm_id]
        except (KeyError, TypeError):  # TypeError: what cannot be hashed is no id
            raise InvalidInput(f"unknown arm {arm_id!r:.80}; the catalogue has {', '.join(self._index)}") from None

    def add(self, arm: Arm) -> int:
        """Append an arm, active at once. An id is never reused, not even after retirement."""
        if arm.id in self._index:
            raise InvalidInput(f"arm {arm.id!r} is in the catalogue already; give the new one another id")
        self._index[arm.id] = len(self._arms)
        self._arms.append(arm)
        self._active = np.append(self._active, True)
        return len(self._arms) - 1

    def status(self, arm_id: str) -> Status:
        """Active, paused or retired."""
        if self._active[self.index(arm_id)]:
            return Status.ACTIVE
        return Status.RETIRED if arm_id in self._retired else Status.PAUSED

    def pause(self, arm_id: str) -> None:
        """Take an arm out of the draw until `resume`."""
        self._switch(arm_id, active=False)

    def resume(self, arm_id: str) -> None:
        """Put a paused arm back into the draw."""
        self._switch(arm_id, active=True)

    def retire(self, arm_id: str) -> None:
        """Take an arm out of the draw for good."""
        self._switch(arm_id, active=False)
        self._retired.add(arm_id)

    def _switch(self, arm_id: str, *, active: bool) -> None:
        index = self.index(arm_id)
        if arm_id in self._retired:
            raise InvalidInput(f"arm {arm_id!r} is retired; add it again under another id")
        self._active[index] = active
        self._all_active = bool(self._active.all())

    def active(self) -> Bool:
        """Which arms may be drawn, shape (len,); a copy."""
        return self._active.copy()

    def penalties(self, by_arm: Mapping[str, float]) -> F64:
        """Known costs in utility units, shape (arms,); 0 for an arm that is not named."""
        if not isinstance(by_arm, Mapping):
            raise InvalidInput(f"penalty must be a mapping from arm ids to numbers, got {type(by_arm).__name__}")
        costs = np.zeros(len(self))
        for arm_id, value in by_arm.items():
            costs[self.index(arm_id)] = _cost(arm_id, value)
        return costs

    def mask(self, allowed: Iterable[str] | None) -> Bool | None:
        """Active arms among `allowed` ids (all if None); None when that is every arm, the common case."""
        if allowed is None:
            return None if self._all_active else self._active.copy()
        return self.flags(allowed) & self._active

    def flags(self, ids: Iterable[str]) -> Bool:
        """Which arms are among `ids`, shape (len,); raises InvalidInput for an unknown one."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidInput(f"expected a list of arm ids, got {ids!r:.60}")
        chosen = np.zeros(len(self._arms), dtype=np.bool_)
        chosen[[self.index(arm_id) for arm_id in ids]] = True
        return chosen


def _cost(arm_id: str, value: object) -> float:
    if isinstance(value, Real):
        with suppress(OverflowError):  # an int beyond every float
            cost = float(value)
            if abs(cost) <= MAX_SQUARED:
                return cost
    raise InvalidInput(f"penalty of {arm_id!r} must be a finite number in utility units, got {value!r:.60}")
