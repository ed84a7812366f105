"""From the lines of a file to the canonical log: every line is either taken or reported, with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidLog
from bandit_router.records.arms import natural
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.row import COLUMNS, Kind, Row
from bandit_router.replay.logs.rules import LENGTH, PROPENSITY, TWICE, certain, named, of_row

KEEP = 10_000
_PLAIN = {name: kind for name, kind in COLUMNS.items() if kind in ("arm", "text", "number", "whole", "flag")}


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
        hint = "; percentages need --columns propensity=COLUMN/100" if PROPENSITY in reasons else ""
        return InvalidLog(f"{file}: no usable line among {lines}: {counts or 'none is a decision'}{hint}")

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
        arms: catalogue order, so that a saved policy state fits; default the ids found, numbers in them by value.
    """

    def __init__(self, intake: Intake, *, arms: Sequence[str] | None = None) -> None:
        self.intake = intake
        self.arms = None if arms is None else dict.fromkeys(arms)
        self.rows: list[Row] = []
        self._seen: set[str] = set()
        self._shape: int | str | None = None

    def add(self, file: str, line: int, row: Row) -> bool:
        """Take one row or report it; whether it was taken."""
        if row.propensity is not None and row.propensity > 1:
            row = msgspec.structs.replace(row, propensity=certain(row.propensity))
        reason = of_row(row, arms=None if self.arms is None else self.arms.keys()) or self._clash(row)
        if reason is not None:
            self.intake.reject(file, line, reason, f"event {row.event_id}")
            return False
        self._seen.add(row.event_id)
        self.rows.append(row)
        self.intake.taken += 1
        return True

    def _clash(self, row: Row) -> str | None:
        shape = "named" if isinstance(row.context, dict) else len(row.context)
        if self._shape not in (None, shape):
            return LENGTH
        if row.event_id in self._seen:
            return TWICE
        self._shape = shape
        return None

    def log(self, file: str) -> LoggedEvents:
        """The log of all rows taken so far. Raises InvalidLog, naming the file, when there is none."""
        rows = self.rows
        for name in ("resident", "probabilities"):
            if 0 < (present := sum(getattr(row, name) is not None for row in rows)) < len(rows):
                self.intake.notes[f"rows with {name}, left out because others have none"] = present
        if not rows:
            raise self.intake.unusable(file)
        arms = tuple(sorted(set[str]().union(*map(named, rows)), key=natural) if self.arms is None else self.arms)
        place = {arm: i for i, arm in enumerate(arms)}
        features, contexts = _contexts(rows)
        columns = {name: _column([getattr(row, name) for row in rows], kind, place) for name, kind in _PLAIN.items()}
        return LoggedEvents(
            arms=arms,
            features=features,
            contexts=contexts,
            outcomes=np.stack([columns.pop(name) for name in CHANNELS], axis=1),
            **columns,
            eligible=_masks([row.eligible for row in rows], place, unknown=True),
            resident=_masks([row.resident for row in rows], place, unknown=None),
            unhealthy=_masks([row.unhealthy for row in rows], place, unknown=False),
            probabilities=_distributions(rows, place),
        )


def _column(values: list[Any], kind: Kind, place: Mapping[str, int]) -> Any:
    """One plain column of the log."""
    if kind == "arm":
        return np.array([place[arm] for arm in values], dtype=np.intp)
    if kind == "text":
        return np.array([*values, None], dtype=object)[:-1]
    if kind == "number":
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values, dtype=np.bool_ if kind == "flag" else np.int64)


def _masks(lists: Sequence[list[str] | None], place: dict[str, int], *, unknown: bool | None) -> Bool | None:
    """Lists of arm ids as a mask; a missing list means `unknown` for every arm, or with None no mask at all."""
    missing = sum(ids is None for ids in lists)
    if missing == len(lists) or (missing and unknown is None):
        return None
    mask = np.zeros((len(lists), len(place)), dtype=np.bool_)
    for i, ids in enumerate(lists):
        mask[i, slice(None) if ids is None else [place[arm] for arm in ids]] = ids is not None or unknown
    return mask


def _distributions(rows: Sequence[Row], place: dict[str, int]) -> F64 | None:
    if any(row.probabilities is None for row in rows):
        return None
    p = np.zeros((len(rows), len(place)))
    for i, row in enumerate(rows):
        for arm, value in (row.probabilities or {}).items():
            p[i, place[arm]] = value
    return p


def _contexts(rows: Sequence[Row]) -> tuple[tuple[str, ...], F64]:
    if isinstance(rows[0].context, dict):
        named = [row.context for row in rows if isinstance(row.context, dict)]
        names = sorted({name for context in named for name in context}, key=natural)
        column = {name: j for j, name in enumerate(names)}
        x = np.zeros((len(rows), len(names)))
        for i, context in enumerate(named):
            for name, value in context.items():
                x[i, column[name]] = value
        return tuple(names), x
    table = np.array([row.context or [1.0] for row in rows], dtype=np.float64)
    return tuple(f"f{j}" for j in range(table.shape[1])), table
