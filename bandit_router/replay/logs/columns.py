"""Which column of a table holds which field of the event log, and a record of the log from its cells."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.reading import cells
from bandit_router.reading.cells import BadCell
from bandit_router.reading.expressions import Expression, parse_expression
from bandit_router.reading.unused import listed, unused_names
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.row import COLUMNS, Row
from bandit_router.replay.logs.values import loads

MAPPED = (*COLUMNS, "labels")
_SAMPLE = 100_000


class Plan(NamedTuple):
    """Fields with their columns; how the columns spell decimals and dates."""

    fields: dict[str, list[str]]
    scales: dict[str, Expression]
    decimals: dict[str, str]
    day_first: bool | None


def parse_columns(text: str) -> dict[str, str]:
    """A column map from "arm=model,propensity=p,quality=stars/5,context=f1+f2,labels=task".

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


def plan_of(
    file: str,
    names: Sequence[str],
    columns: Mapping[str, str],
    samples: Mapping[str, Sequence[object]],
    *,
    separator: str = "",
) -> Plan:
    """Which columns each field reads, and how they are spelled.

    Args:
        samples: cells by column. separator: of a delimited file; beside another one than the comma, 1,234 is 1.234.

    Raises:
        InvalidLog: no column for the arm, a column that is not there, one that is there twice, or odd arithmetic.
    """
    fields, scales = _default(names), {}
    for field, text in columns.items():
        if COLUMNS.get(field) in ("number", "whole"):
            scales[field] = _expression(file, field, text, names)
            fields[field] = [scales[field].column]
        else:
            parts = [text] if text in names else text.split("+")
            fields[field] = [found for part in parts for found in _expanded(file, part, names)]
    if "context" not in fields and "labels" not in fields:
        fields["context"] = [name for name in names if re.fullmatch(r"[fF]\d+", name)]
    if "arm" not in fields:
        raise InvalidLog(f"{file}: no column for the arm; map one with arm=COLUMN ({', '.join(names)})")
    used = {name for found in fields.values() for name in found}
    if twice := sorted(name for name in used if names.count(name) > 1):
        raise InvalidLog(f"{file}: the column {twice[0]!r} is there twice; rename one of the two")
    written = {name: [c for c in samples.get(name, ()) if isinstance(c, str)][:_SAMPLE] for name in used}
    plan = Plan(fields, scales, _signs(written, separator), None)
    if not fields.get("timestamp_s"):
        return plan
    name = fields["timestamp_s"][0]
    if not scales.get("timestamp_s", Expression(name)).steps:
        _refuse_serial(file, name, written[name], plan.decimals[name])
    return plan._replace(day_first=cells.day_first(written[name]))


def _default(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that bear a field's name: exactly, else but for case and spaces, else inside a nested record."""
    plain = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(names)}
    found = {field: [field if field in names else plain[field]] for field in MAPPED if field in {*names, *plain}}
    if "arm" not in found:
        nested = {field: [name for name in names if name.endswith(f".{field}")] for field in MAPPED}
        found |= {field: one for field, one in nested.items() if len(one) == 1 and field not in found}
    return found


def _expression(file: str, field: str, text: str, names: Sequence[str]) -> Expression:
    try:
        return parse_expression(text, names)
    except InvalidInput as error:
        raise InvalidLog(f"{file}: {field}: {error}") from None


def _expanded(file: str, part: str, names: Sequence[str]) -> list[str]:
    found = [name for name in names if name.startswith(part[:-1])] if part.endswith("*") else [part]
    if not found or any(name not in names for name in found):
        raise InvalidLog(f"{file}: no column {part!r}; there are {', '.join(names)}")
    return found


def _signs(written: Mapping[str, Sequence[str]], separator: str) -> dict[str, str]:
    """The decimal sign of each column: what it proves, else what the others prove, else what is usual."""
    proven = {name: cells.decimal_sign(column) for name, column in written.items()}
    known = set(proven.values()) - {None}
    rest = known.pop() if len(known) == 1 else None
    comma = separator not in ("", ",")
    usual = {name: "," if comma and any("," in cell for cell in column) else "." for name, column in written.items()}
    return {name: sign or rest or usual[name] for name, sign in proven.items()}


def _refuse_serial(file: str, name: str, times: Sequence[str], decimal: str) -> None:
    """Refuse times that may be days since 1899, as spreadsheets hold dates: all of them from 2000 to 2099 if so."""
    try:
        known = [time for cell in times if (time := cells.number(cell, decimal=decimal)) is not None]
    except BadCell:
        return
    if known and all(36_526 <= time < 73_051 for time in known):
        raise InvalidLog(
            f"{file}: {name!r} lies in {min(known):g}..{max(known):g}, a spreadsheet's days or seconds of 1970; say "
            f"which: --columns timestamp_s=({name}-25569)*86400 for days, timestamp_s={name}*1 for seconds"
        )


def name_unused(intake: Intake, names: Iterable[str], fields: Mapping[str, Sequence[str]]) -> None:
    """A note on the columns that no field reads, with the field that a misspelt one may mean."""
    used = {name for found in fields.values() for name in found}
    if unused := unused_names(names, used, free=[field for field in MAPPED if field not in fields]):
        intake.notes[f"columns not used: {listed(unused)}"] = len(unused)


def row_of_cells(record: Mapping[str, Any], plan: Plan, line: int) -> Row:
    """One record of the log; without an event id the line is one. Raises BadCell."""
    fields: dict[str, Any] = {}
    context: Any = {}
    for field, columns in plan.fields.items():
        if field == "labels":
            context.update({f"{name}={cells.text(record.get(name)) or ''}": 1.0 for name in columns})
        elif field == "context":
            context = _context(record, columns, plan)
        elif (value := record.get(columns[0])) is not None and (found := _value(field, value, columns[0], plan)) != "":
            fields[field] = found
    known = {field: value for field, value in fields.items() if value is not None}
    return Row(**{"event_id": str(line), "arm": "", **known, "context": context or [1.0]})


def _value(field: str, value: Any, column: str, plan: Plan) -> Any:
    kind, decimal = COLUMNS[field], plan.decimals.get(column, ".")
    try:
        if kind in ("text", "arm"):
            return "" if value == "" else cells.text(value)
        if kind == "ids":
            return _ids(value)
        if kind == "flag":
            return cells.truth(value)
        if kind == "distribution":
            return {str(arm): p for arm, p in _numbers(structure(value)).items()} if value != "" else None
        scale = plan.scales.get(field, Expression(column))
        if field == "timestamp_s" and not scale.steps:
            return cells.moment(value, day_first=plan.day_first, decimal=decimal)
        amount = cells.number(value, decimal=decimal)
    except BadCell as error:
        raise BadCell(f"{column}: {error}") from None
    amount = None if amount is None else scale(amount)
    return int(amount) if kind == "whole" and amount is not None else amount


def _context(record: Mapping[str, Any], columns: Sequence[str], plan: Plan) -> list[float] | dict[str, float]:
    whole = structure(record.get(columns[0])) if len(columns) == 1 else None
    if isinstance(whole, dict):
        return _numbers(whole)
    if isinstance(whole, list):
        return list(_numbers(dict(enumerate(whole))).values())
    found = {}
    for name in columns:
        try:
            amount = cells.number(record.get(name), decimal=plan.decimals.get(name, "."))
        except BadCell as error:
            raise BadCell(f"{name}: {error}") from None
        if amount is None:
            raise BadCell(f"{name}: expected a finite number, got {record.get(name)!r}")
        found[name] = amount
    return found


def _numbers(values: Any) -> dict[Any, float]:
    """Numbers by name; those that are null are left out."""
    if not isinstance(values, dict):
        raise BadCell(f"expected numbers by name, got {str(values)[:60]!r}")
    return {name: n for name, value in values.items() if (n := cells.number(value)) is not None}


def _ids(value: Any) -> list[str] | None:
    found = structure(value)
    if isinstance(found, str):
        return [arm for arm in found.split("|") if arm] if found else None
    if not isinstance(found, list):
        raise BadCell(f"expected ids, got {str(value)[:60]!r}")
    return [arm for item in found if (arm := cells.text(item)) is not None]


def structure(value: Any) -> Any:
    """A list or an object, also from its text as JSON or as Python prints it; anything else as it is."""
    if not (isinstance(value, str) and value.strip()[:1] in ("[", "{") and value.strip()):
        return value
    for read in (loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value
