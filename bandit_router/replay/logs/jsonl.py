"""The event log as JSON Lines: one `Row` per line; read also indented, as an array, nested, or with other names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.reading.cells import EPOCHS, BadCell
from bandit_router.replay.logs.columns import Plan, name_unused, plan_of, row_of_cells
from bandit_router.replay.logs.documents import documents
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import Row, rows_of
from bandit_router.replay.logs.row import COLUMNS

_NONE = "no event record"
_WHOLE = ("context", "probabilities")  # objects that are one field


def read_jsonl(
    path: Path, intake: Intake, *, arms: Sequence[str] | None = None, columns: Mapping[str, str] | None = None
) -> LoggedEvents:
    """Read an event log in JSON, one record a line, indented or in an array. Other fields are named in a note.

    Numbers may be text, NaN is unknown, and a record without an event id has its line as one.

    Args:
        columns: which name holds which field, as for `read_csv`; a name inside another object is "outcome.score".
    """
    file, assembler = str(path), Assembler(intake, arms=arms)
    records = list(documents(path, intake))
    plan = _plan(file, [record for _, record in records if record is not None], columns or {}, intake)
    for line, record in records:
        if record is None:
            intake.reject(file, line, _NONE, "expected a JSON object")
            continue
        try:
            row = _row(record, plan, line)
        except (BadCell, OverflowError, UnicodeEncodeError) as error:
            intake.reject(file, line, _NONE, str(error))
            continue
        assembler.add(file, line, row)
    return assembler.log(file)


def _plan(file: str, records: Sequence[Mapping[str, Any]], columns: Mapping[str, str], intake: Intake) -> Plan | None:
    """How to read the records; None where they are `Row`s, or no record is one."""
    if not columns and all(name in COLUMNS for record in records for name in record):
        return None
    samples: dict[str, list[object]] = {}
    for record in records:
        for name, value in _flat(record):
            samples.setdefault(name, []).append(value)
    if not columns and not any(name.split(".")[-1].strip().lower() == "arm" for name in samples):
        return None
    plan = plan_of(file, list(samples), columns, samples)
    name_unused(intake, (name for name, found in samples.items() if not isinstance(found[0], dict)), plan.fields)
    return plan


def _row(record: dict[str, Any], plan: Plan | None, line: int) -> Row:
    if plan is None or _plain(record, plan):
        try:
            row = msgspec.convert(record, Row)
            numbers = [value for value in record.values() if isinstance(value, float)]
            if not any(map(math.isnan, numbers)) and abs(row.timestamp_s or 0.0) < EPOCHS[-1][0]:
                return row
        except (msgspec.ValidationError, UnicodeEncodeError):
            pass  # in another spelling
    same = {name: [name] for name in COLUMNS}
    row = row_of_cells(dict(_flat(record)), plan or Plan(same, {}, {}, None), line)
    if not row.arm and not _names_arm(record, plan):
        raise BadCell(f"expected an arm, got {', '.join(record) or 'nothing'}"[:120])
    return row


def _plain(record: Mapping[str, Any], plan: Plan) -> bool:
    """Whether the plan reads this record's fields under their own names and in their own units."""
    return not any(scale.steps for scale in plan.scales.values()) and all(
        plan.fields.get(name, [name]) == [name] for name in COLUMNS if name in record or name in plan.fields
    )


def _names_arm(record: Mapping[str, Any], plan: Plan | None) -> bool:
    return ("arm" if plan is None else plan.fields["arm"][0]) in dict(_flat(record))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the path to it, objects also as a whole."""
    for name, value in record.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict) and name not in _WHOLE:
            yield from _flat(value, f"{prefix}{name}.")


def write_jsonl(log: LoggedEvents, path: Path) -> None:
    """Write an event log in JSON Lines; floats keep every bit."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for row in rows_of(log):
            file.write(encoder.encode(row) + b"\n")
