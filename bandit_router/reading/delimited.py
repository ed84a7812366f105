"""Delimited text as spreadsheets, databases and data frames write it: separators, quotes, line ends."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_LARGEST = 2**31 - 1


def separator_of(text: str) -> str:
    """The separator of a table's header: the one that stands there most often, a comma where none does."""
    header = next((line for line in _QUOTED.sub("q", text[:100_000]).splitlines() if line.strip(" ,;\t|")), "")
    return max(SEPARATORS, key=header.count)


def rows(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of a table, the header first, with the line that each ends on; what is wrong with one instead of it.

    Blank lines and Excel's first line `sep=;` are passed over; a quote may be written twice or after a backslash.
    """
    skipped = 0
    if found := re.match(r'"?sep=(.)"?[ \t]*(?:\r\n|\n|\r)', text):
        text, skipped = text[found.end() :], 1
    options: dict[str, Any] = {"delimiter": found[1] if found else separator_of(text), "strict": True}
    if '""' not in text and re.search(r'\\"[^,;\t|\r\n]', text):
        options |= {"escapechar": "\\", "doublequote": False}
    before = csv.field_size_limit(_LARGEST)  # a long prompt in a column that nobody reads
    try:
        reader = csv.reader(io.StringIO(text, newline=""), **options)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num + skipped, str(error)
                continue
            if cells:
                yield reader.line_num + skipped, cells
    finally:
        csv.field_size_limit(before)
