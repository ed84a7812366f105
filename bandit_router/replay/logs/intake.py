"""From the lines of a file to the canonical log: every line is either taken or reported, with its reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidLog
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import Row

KEEP = 10_000


class BadLine(msgspec.Struct, frozen=True, kw_only=True):
    """One refused line: file, line (1-based; the row for Parquet), reason."""

    file: str
    line: int
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class Intake:
    """Counts what was read and remembers what was refused.

    Args:
        strict: raise InvalidLog at the first bad line instead of going on.

    Attributes:
        lines: lines seen. taken: lines that became a row. reasons: refused lines by reason, all of them.
        bad: the first 10,000 refused lines. notes: what the reader wants the user to know, with counts.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.lines = self.taken = 0
        self.bad: list[BadLine] = []
        self.reasons: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        """Another file follows."""
        self._before = self.lines, self.reasons.copy()

    @property
    def refused(self) -> int:
        """Number of refused lines."""
        return self.reasons.total()

    def reject(self, file: str, line: int, reason: str, detail: str = "") -> None:
        """Report one bad line."""
        bad = BadLine(file=file, line=line, reason=reason, detail=detail[:200])
        if self.strict:
            raise InvalidLog(str(bad))
        self.reasons[reason] += 1
        if len(self.bad) < KEEP:
            self.bad.append(bad)

    def unusable(self, file: str) -> InvalidLog:
        """The error of a file without a usable line."""
        lines, reasons = self.lines - self._before[0], self.reasons - self._before[1]
        if not lines:
            return InvalidLog(f"{file}: no usable line, the file is empty")
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return InvalidLog(f"{file}: no usable line among {lines}: {counts or 'none is a decision'}")

    def summary(self) -> dict[str, Any]:
        """Counts for a report."""
        return {
            "lines": self.lines,
            "taken": self.taken,
            "refused": self.refused,
            "reasons": dict(self.reasons),
            "notes": dict(self.notes),
        }


class Assembler:
    """Collects checked rows and makes the log of them.

    Args:
        intake: where bad lines go.
        arms: catalogue order, so that a saved policy state fits; default the ids found, sorted.
    """

    def __init__(self, intake: Intake, *, arms: Sequence[str] | None = None) -> None:
        self.intake = intake
        self.arms = None if arms is None else dict.fromkeys(arms)
        self.rows: list[Row] = []
        self._seen: set[str] = set()
        self._shape: int | str | None = None

    def add(self, file: str, line: int, row: Row) -> bool:
        """Take one row or report it; whether it was taken."""
        reason = row.problem() or self._clash(row)
        if reason is not None:
            self.intake.reject(file, line, reason, f"event {row.event_id}")
            return False
        self._seen.add(row.event_id)
        self.rows.append(row)
        self.intake.taken += 1
        return True

    def _clash(self, row: Row) -> str | None:
        if row.event_id in self._seen:
            return "duplicate event id"
        if self.arms is not None and not _named(row) <= self.arms.keys():
            return "arm not in the given catalogue"
        shape = "named" if isinstance(row.context, dict) else len(row.context)
        if self._shape is None:
            self._shape = shape
        return None if shape == self._shape else "context has another length than the first row's"

    def log(self, file: str) -> LoggedEvents:
        """The log of all rows taken so far. Raises InvalidLog, naming the file, when there is none."""
        rows = self.rows
        for name in ("resident", "probabilities"):
            if 0 < (present := sum(getattr(row, name) is not None for row in rows)) < len(rows):
                self.intake.notes[f"rows with {name}, left out because others have none"] = present
        if not rows:
            raise self.intake.unusable(file)
        arms = tuple(sorted(set[str]().union(*map(_named, rows))) if self.arms is None else self.arms)
        place = {arm: i for i, arm in enumerate(arms)}
        features, contexts = _contexts(rows)
        return LoggedEvents(
            arms=arms,
            features=features,
            contexts=contexts,
            event_id=_text(row.event_id for row in rows),
            timestamp_s=_numbers(row.timestamp_s for row in rows),
            arm=np.array([place[row.arm] for row in rows], dtype=np.intp),
            propensity=_numbers(row.propensity for row in rows),
            outcomes=np.stack([_numbers(getattr(row, name) for row in rows) for name in CHANNELS], axis=1),
            reward=_numbers(row.reward for row in rows),
            policy=_text(row.policy for row in rows),
            state_version=np.array([row.state_version for row in rows], dtype=np.int64),
            mode=_text(row.mode for row in rows),
            degraded=np.array([row.degraded for row in rows], dtype=np.bool_),
            weight=_numbers(row.weight for row in rows),
            eligible=_masks([row.eligible for row in rows], place, unknown=True),
            resident=_masks([row.resident for row in rows], place, unknown=None),
            probabilities=_distributions(rows, place),
        )


def _named(row: Row) -> set[str]:
    """Every arm id that the row mentions."""
    return {row.arm, *(row.eligible or ()), *(row.resident or ()), *(row.probabilities or ())}


def _text(values: Iterable[str]) -> Any:
    return np.array([*values, None], dtype=object)[:-1]


def _numbers(values: Iterable[float | None]) -> F64:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _masks(lists: Sequence[list[str] | None], place: dict[str, int], *, unknown: bool | None) -> Bool | None:
    """Lists of arm ids as a mask; a missing list means all arms (eligible) or no mask at all (resident)."""
    missing = sum(ids is None for ids in lists)
    if missing == len(lists) or (missing and unknown is None):
        return None
    mask = np.zeros((len(lists), len(place)), dtype=np.bool_)
    for i, ids in enumerate(lists):
        mask[i, slice(None) if ids is None else [place[arm] for arm in ids]] = True
    return mask


def _distributions(rows: Sequence[Row], place: dict[str, int]) -> F64 | None:
    if any(row.probabilities is None for row in rows):
        return None
    p = np.zeros((len(rows), len(place)))
    for i, row in enumerate(rows):
        for arm, value in (row.probabilities or {}).items():
            p[i, place[arm]] = value
    return p


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts f2 before f10."""
    parts = re.split(r"(\d{1,9})", name)
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]


def _contexts(rows: Sequence[Row]) -> tuple[tuple[str, ...], F64]:
    if isinstance(rows[0].context, dict):
        named = [row.context for row in rows if isinstance(row.context, dict)]
        names = sorted({name for context in named for name in context}, key=_natural)
        column = {name: j for j, name in enumerate(names)}
        x = np.zeros((len(rows), len(names)))
        for i, context in enumerate(named):
            for name, value in context.items():
                x[i, column[name]] = value
        return tuple(names), x
    table = np.array([row.context or [1.0] for row in rows], dtype=np.float64)
    return tuple(f"f{j}" for j in range(table.shape[1])), table
