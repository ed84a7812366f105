"""Plain CSV with a column map, and the Open Bandit Dataset as one of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import rows_of
from bandit_router.replay.logs.row import COLUMNS, Row
from bandit_router.replay.logs.values import seconds

_CELLS = tuple(name for name, kind in COLUMNS.items() if kind not in ("context", "distribution"))
MAPPED = (*_CELLS, "context", "labels")


class _BadCell(ValueError):
    """A cell that cannot be read."""


def parse_columns(text: str) -> dict[str, str]:
    """A column map from "arm=model,propensity=p,context=f1+f2,labels=task".

    Raises:
        InvalidInput: a part is not field=column, or the field is unknown.
    """
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        field, _, column = part.partition("=")
        if field not in MAPPED or not column:
            raise InvalidInput(f"expected field=column with a field among {', '.join(MAPPED)}, got {part!r}")
        columns[field] = column
    return columns


def read_csv(
    path: Path, intake: Intake, *, arms: Sequence[str] | None = None, columns: Mapping[str, str] | None = None
) -> LoggedEvents:
    """Read a CSV file with a header.

    Args:
        columns: which column holds which field; default each field's own name. "context" takes columns joined by "+",
            or a prefix followed by "*"; "labels" likewise, one-hot encoded. Lists of ids are separated by "|". Without
            an event id the line number is one. An empty cell is an unknown value.
    """
    assembler = Assembler(intake, arms=arms)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = list(reader.fieldnames or ())
        except csv.Error as error:
            raise InvalidLog(f"{path}: expected a CSV header, got {error}") from None
        if not names:
            raise intake.unusable(str(path))
        plan = _plan(str(path), names, columns or {})
        for line, cells in _lines(reader, str(path), intake):
            try:
                row = _row(cells, plan, line)
            except (_BadCell, UnicodeEncodeError, OverflowError) as error:
                intake.reject(str(path), line, "a cell cannot be read", str(error))
                continue
            assembler.add(str(path), line, row)
    return assembler.log(str(path))


def _lines(reader: csv.DictReader[str], file: str, intake: Intake) -> Iterator[tuple[int, dict[str, str]]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            intake.lines += 1
            intake.reject(file, reader.line_num, "no CSV line", str(error))
            continue
        intake.lines += 1
        if None in cells or None in cells.values():
            intake.reject(file, reader.line_num, "another number of cells than the header")
            continue
        yield reader.line_num, cells


def _plan(file: str, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Which columns each field reads."""
    plan = {field: [field] for field in MAPPED if field in names}
    for field, text in columns.items():
        plan[field] = [column for part in text.split("+") for column in _expanded(file, part, names)]
    if "context" not in plan and "labels" not in plan:
        plan["context"] = [name for name in names if name[:1] == "f" and name[1:].isdigit()]
    if "arm" not in plan:
        raise InvalidLog(f"{file}: no column for the arm; map one with arm=COLUMN ({', '.join(names)})")
    return plan


def _expanded(file: str, part: str, names: Sequence[str]) -> list[str]:
    found = [name for name in names if name.startswith(part[:-1])] if part.endswith("*") else [part]
    if not found or any(name not in names for name in found):
        raise InvalidLog(f"{file}: no column {part!r}; there are {', '.join(names)}")
    return found


def _row(cells: Mapping[str, str], plan: Mapping[str, list[str]], line: int) -> Row:
    fields: dict[str, object] = {"event_id": str(line)}
    context: dict[str, float] = {}
    for field, columns in plan.items():
        text = cells[columns[0]] if columns else ""
        text.encode()  # bytes that are no UTF-8 came in as surrogates and stop here
        if field == "context":
            context.update({name: _number(name, cells[name]) for name in columns})
        elif field == "labels":
            context.update({f"{name}={cells[name]}": 1.0 for name in columns})
        elif text == "":
            continue
        else:
            fields[field] = _cell_value(field, text)
    return Row(**{"arm": "", **fields, "context": context or [1.0]})  # type: ignore[arg-type]


def _cell_value(field: str, text: str) -> object:
    kind = COLUMNS[field]
    if kind in ("text", "arm"):
        return text
    if kind == "ids":
        return [arm for arm in text.split("|") if arm]
    if kind == "flag":
        return _truth(field, text)
    if kind == "whole":
        return int(_number(field, text))
    return _time(text) if field == "timestamp_s" else _number(field, text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _BadCell(f"{name}: expected a finite number, got {text!r}")
    return value


def _time(text: str) -> float:
    try:
        return _number("timestamp_s", text)
    except _BadCell:
        value = seconds(text)
    if value is None:
        raise _BadCell(f"timestamp_s: expected seconds or ISO 8601, got {text!r}")
    return value


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise _BadCell(f"{name}: expected true or false, got {text!r}")
    return text.lower() in ("true", "1")


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
    """Read the Open Bandit Dataset's CSV: items are arms, clicks are quality, user features and position one-hot.

    The propensity is that of the item in its position, so the value is that of one slot. The user-item affinities,
    features of a pair and not of a request, are left out.
    """
    return read_csv(path, intake, arms=arms, columns=OPEN_BANDIT)
