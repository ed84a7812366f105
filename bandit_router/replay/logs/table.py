"""Delimited tables with a column map, and the Open Bandit Dataset as one of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from bandit_router.errors import InvalidInput
from bandit_router.reading.cells import BadCell
from bandit_router.reading.delimited import rows, separator_of
from bandit_router.replay.logs.columns import name_unused, plan_of, row_of_cells
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.lines import text_of
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import rows_of
from bandit_router.replay.logs.row import COLUMNS

_CELLS = tuple(name for name, kind in COLUMNS.items() if kind not in ("context", "distribution"))


def read_csv(
    path: Path, intake: Intake, *, arms: Sequence[str] | None = None, columns: Mapping[str, str] | None = None
) -> LoggedEvents:
    """Read a delimited file with a header, as spreadsheets, databases and data frames write it.

    The separator (comma, semicolon, tab, bar), the encoding, decimal commas, grouped thousands, percent signs and the
    order of day and month are told from the file; see `bandit_router.reading`. A cell that could mean two things is
    refused with its line. Columns that no field reads are named in a note.

    Args:
        columns: which column holds which field; default each field's own name. A number may be rescaled: "stars/5",
            "(stars-1)/4", "took:ms", "price:cents", "score:percent". "context" takes columns joined by "+", a prefix
            followed by "*", or one column of JSON; "labels" likewise, one-hot encoded. Lists of ids are separated by
            "|". Without an event id the line number is one. An empty cell is an unknown value.
    """
    return _read(path, intake, arms, columns or {})


def _read(
    path: Path, intake: Intake, arms: Sequence[str] | None, columns: Mapping[str, str], passed: str = ""
) -> LoggedEvents:
    file, assembler = str(path), Assembler(intake, arms=arms)
    text = text_of(path, intake)
    table = [(line, cells) for line, cells in rows(text)]
    names = next(([name.strip() for name in cells] for _, cells in table if not isinstance(cells, str)), [])
    if not any(names):
        raise intake.unusable(file)
    body = [(line, _fitted(cells, len(names))) for line, cells in table[1:]]
    whole = [cells for _, cells in body if not isinstance(cells, str)]
    samples = dict(zip(names, zip(*whole, strict=True), strict=False))
    plan = plan_of(file, names, columns, samples, separator=separator_of(text))
    name_unused(intake, [name for name in names if not passed or not name.startswith(passed)], plan.fields)
    for line, cells in body:
        intake.lines += 1
        if isinstance(cells, str):
            intake.reject(file, line, *cells.split(": ", 1))
            continue
        try:
            "".join(cells).encode()  # bytes that are no UTF-8 came in as surrogates and stop here
            row = row_of_cells(dict(zip(names, cells, strict=True)), plan, line)
        except (BadCell, UnicodeEncodeError, OverflowError) as error:
            intake.reject(file, line, "a cell cannot be read", str(error))
            continue
        assembler.add(file, line, row)
    return assembler.log(file)


def _fitted(cells: list[str] | str, width: int) -> list[str] | str:
    """A row as wide as the header, or why it is none; separators at the end of a line are no cells."""
    if isinstance(cells, str):
        return f"no CSV line: {cells}"
    if len(cells) < width or any(cells[width:]):
        return "another number of cells than the header"
    return cells[:width]


def write_csv(log: LoggedEvents, path: Path) -> None:
    """Write a CSV that `read_csv` reads without a map: contexts as f0, f1, ..., lists separated by "|".

    The whole logged distribution has no column and is left out.

    Raises:
        InvalidInput: an arm id holds the separator.
    """
    if any("|" in arm for arm in log.arms):
        raise InvalidInput("an arm id holds '|', which separates the ids of a list; write Parquet or JSON Lines")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_CELLS, *(f"f{j}" for j in range(len(log.features)))])
        for row in rows_of(log):
            writer.writerow([*(_cell(getattr(row, field)) for field in _CELLS), *map(repr, row.context)])


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "|".join(value) or "|"  # an empty cell would be an unknown list
    return "" if value is None else str(value)


OPEN_BANDIT = {
    "arm": "item_id",
    "timestamp_s": "timestamp",
    "propensity": "propensity_score",
    "quality": "click",
    "reward": "click",
    "labels": "user_feature_*+position",
}


def read_open_bandit(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read the Open Bandit Dataset's `all.csv`: items are arms, clicks quality, user features and position one-hot.

    The propensity is that of the item in its position, so the value is that of one slot. The user-item affinities,
    features of a pair and not of a request, are left out.
    """
    return _read(path, intake, arms, OPEN_BANDIT, passed="user-item_affinity")
