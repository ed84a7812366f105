"""The event log as JSON Lines: one `Row` per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import Row, rows_of


def numbered(path: Path, intake: Intake) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                intake.lines += 1
                yield number, line


def read_jsonl(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read an event log in JSON Lines. Fields that `Row` does not have are ignored."""
    decoder = msgspec.json.Decoder(Row)
    assembler = Assembler(intake, arms=arms)
    for number, line in numbered(path, intake):
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            intake.reject(str(path), number, "no event record", str(error))
            continue
        assembler.add(str(path), number, row)
    return assembler.log(str(path))


def write_jsonl(log: LoggedEvents, path: Path) -> None:
    """Write an event log in JSON Lines; floats keep every bit."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for row in rows_of(log):
            file.write(encoder.encode(row) + b"\n")
