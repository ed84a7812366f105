"""Formats whose decision, cost and reward come in separate records: collect by event, then make rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.row import COLUMNS, Row

FIELDS = tuple(name for name in COLUMNS if name != "event_id")
"""What a caller may put under `bandit_router` in a gateway's metadata, or as `bandit_router.*` span attributes."""


class Joiner:
    """Merges the parts of each event; a part that contradicts an earlier one is reported and not taken."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._parts: dict[str, dict[str, Any]] = {}
        self._from: dict[str, tuple[str, int]] = {}

    def add(self, file: str, line: int, event_id: str, part: Mapping[str, Any]) -> None:
        """Fold the known fields of one record into its event."""
        known = {name: value for name, value in part.items() if name in FIELDS and value is not None}
        event = self._parts.setdefault(event_id, {})
        clash = [name for name, value in known.items() if name in event and event[name] != value]
        if clash:
            self.intake.reject(file, line, "contradicts an earlier record of the event", f"{event_id}: {clash[0]}")
            return
        event.update(known)
        if "arm" in known:
            self._from[event_id] = (file, line)
        else:
            self._from.setdefault(event_id, (file, line))

    def assemble(self, assembler: Assembler) -> None:
        """Hand every event over as a row; one that never named an arm is reported."""
        for event_id, part in self._parts.items():
            file, line = self._from[event_id]
            if "arm" not in part:
                self.intake.reject(file, line, "no decision for this reward or cost", event_id)
                continue
            try:
                row = msgspec.convert({"event_id": event_id, **part}, Row)
            except msgspec.ValidationError as error:
                self.intake.reject(file, line, "a field has the wrong type", f"{event_id}: {error}")
                continue
            assembler.add(file, line, row)


def seconds(value: object) -> float | None:
    """A time as seconds since 1970: a number, or ISO 8601 (UTC unless it says otherwise); None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e300 else None
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def number(value: object) -> float | None:
    """A finite number, or None: text, booleans, NaN and what is absent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def first(source: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of several spellings that is present and not None."""
    return next((source[name] for name in names if source.get(name) is not None), None)


def mapping(value: object) -> dict[str, Any]:
    """The value if it is an object, or text that holds one; otherwise an empty object."""
    if isinstance(value, (str, bytes)):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def decoded(line: bytes) -> dict[str, Any] | str:
    """One JSON object, or why it is none."""
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return document if isinstance(document, dict) else f"expected an object, got {type(document).__name__}"
