"""The lines of a text file with their numbers, whatever its compression, encoding and line ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bandit_router.reading.files import read_text
from bandit_router.replay.logs.intake import Intake


def numbered(path: Path, intake: Intake) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, in UTF-8, with their numbers from 1."""
    text = text_of(path, intake)
    if "\n" not in text and "\r{" in text:  # lines end in CR alone
        text = text.replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            intake.lines += 1
            yield number, line.encode("utf-8", "surrogateescape")


def text_of(path: Path, intake: Intake) -> str:
    """A file's text; an encoding that was guessed is noted."""
    text, encoding = read_text(path)
    if encoding in ("Windows-1252", "Latin-1"):
        intake.notes[f"files that are not UTF-8, read as {encoding}"] += 1
    return text
