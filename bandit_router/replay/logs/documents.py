"""JSON records as files hold them: one a line, indented over several lines, or as the elements of an array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.lines import numbered
from bandit_router.replay.logs.values import loads

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?')
_BLANK = b" \t\r\n\xef\xbb\xbf"  # the byte order mark that some editors put first
_OPENING, _CLOSING = b"[," + _BLANK, b"," + _BLANK


def documents(path: Path, intake: Intake) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The records of a file with the line each starts on; None for a line that belongs to no JSON object.

    `intake.lines` counts one for every record, however many lines it takes, and one for every line without one.
    """
    held: list[tuple[int, bytes]] = []
    depth = 0
    for number, line in numbered(path, intake):
        if held and line.startswith(b"{") and any(_records(line) or ()):  # what is held was cut short
            yield from ((start, None) for start, _ in held)
            held, depth = [], 0
        if not held:
            if not line.strip(_OPENING + b"]"):  # the brackets of the array
                intake.lines -= 1
                continue
            records = _records(line)
            if records is not None or _depth(line.lstrip(_OPENING)) <= 0:
                yield from _counted(records, [(number, line)], intake)
                continue
            line = line.lstrip(_OPENING)
        held.append((number, line))
        depth += _depth(line)
        if depth <= 0:
            yield from _counted(_records(b"".join(part for _, part in held)), held, intake)
            held, depth = [], 0
    yield from ((start, None) for start, _ in held)


def _counted(
    records: list[dict[str, Any]] | None, lines: list[tuple[int, bytes]], intake: Intake
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    if records is None:
        yield from ((number, None) for number, _ in lines)
        return
    intake.lines += len(records) - len(lines)
    yield from ((lines[0][0], record) for record in records)


def _records(text: bytes) -> list[dict[str, Any]] | None:
    """The objects that a piece of a file holds, one or several with commas between, or None."""
    inner = text.lstrip(_OPENING).rstrip(_CLOSING)
    for body in (inner, inner[:-1] if inner.endswith(b"]") else inner):
        try:
            found = loads(b"[" + body.rstrip(_CLOSING) + b"]")
        except (ValueError, RecursionError):
            continue
        return found if all(isinstance(record, dict) for record in found) else None
    return None


def _depth(text: bytes) -> int:
    """How many brackets a line opens more than it closes; no JSON string goes over a line's end."""
    bare = _STRING.sub(b"", text)
    return sum(map(bare.count, (b"{", b"["))) - sum(map(bare.count, (b"}", b"]")))
