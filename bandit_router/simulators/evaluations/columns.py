"""Which column of a file is what: one row an outcome, or one column a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from bandit_router.errors import InvalidInput
from bandit_router.reading.cells import BadCell, number
from bandit_router.reading.expressions import Expression, parse_expression, unknown_column
from bandit_router.reading.unused import unused_names
from bandit_router.records.outcomes import CHANNELS
from bandit_router.simulators.evaluations.files import Record, Source

LABELS = ("query", "arm", "task", "prompt")
AMOUNTS = (*CHANNELS, "input_tokens", "output_tokens")
FIELDS = (*LABELS, *AMOUNTS)
ARM = "{arm}"  # stands for the model's name in the columns of a wide file
_VERDICTS = {"yes": 1.0, "pass": 1.0, "passed": 1.0, "no": 0.0, "fail": 0.0, "failed": 0.0}


def parse_columns(text: str) -> dict[str, str]:
    """A map from "arm=model,quality=score,latency_s=time_ms/1000".

    Raises:
        InvalidInput: a part is not field=column, a field is unknown or stands twice.
    """
    columns: dict[str, str] = {}
    for part in filter(str.strip, text.split(",")):
        field, _, column = (piece.strip() for piece in part.partition("="))
        if field not in FIELDS or not column:
            raise InvalidInput(f"--columns: expected field=column with a field among {', '.join(FIELDS)}, got {part!r}")
        if field in columns:
            raise InvalidInput(f"--columns gives {field} twice; leave one of the two out")
        columns[field] = column
    return columns


def mapped(source: Source, columns: Mapping[str, str], arms: Sequence[str] = ()) -> list[Record]:
    """Rows with the fields of `FIELDS`, each with "where", the place in the file.

    Args:
        columns: field to column, or for an amount to an expression over one. "{arm}" in a column makes the file wide:
            one column a model, the name of the model in its place.
        arms: of a wide file, these models only.

    Raises:
        InvalidInput: a column is not there, a cell is no number, or there is no column for the arm or the quality.
    """
    names, wide = source.columns, any(ARM in text for text in columns.values())
    if arms and not wide:
        raise InvalidInput(f"--arms chooses among the columns of a wide file, which has quality={ARM}")
    for field in ("quality",) if wide else ("arm", "quality"):
        if field not in columns:
            raise InvalidInput(ask(source, field))
    named = "query" in columns or "prompt" in columns  # rows without a query are told apart by their prompt
    if not named and not wide:
        raise InvalidInput(ask(source, "query"))
    plans = [(arm, _plan(columns, names, arm)) for arm in (_arms(source, columns, arms) if wide else [None])]
    rows = []
    for position, record in zip(source.lines or count(1), source.records, strict=False):
        where = f"{source.path}, row {position}"
        for arm, plan in plans:
            row: Record = {"arm": arm, "where": where} | ({} if named else {"query": f"{source.path.stem}:{position}"})
            rows.append(row | {field: read(record, where, source.decimals) for field, read in plan.items()})
    return rows


def unused_columns(source: Source, columns: Mapping[str, str], arms: Sequence[str] = ()) -> list[str]:
    """The columns that `mapped` does not read, see `unused_names`; of nested objects the inner ones."""
    wide = any(ARM in text for text in columns.values())
    used = set()
    for arm in _arms(source, columns, arms) if wide else [""]:
        for field, text in columns.items():
            column = text.replace(ARM, arm)
            used.add(column if field in LABELS else parse_expression(column, source.columns).column)
    outer = {name for record in source.records[:100] for name, value in record.items() if isinstance(value, dict)}
    return unused_names(source.columns, used | outer, free=[field for field in FIELDS if field not in columns])


Read = Callable[[Record, str, Mapping[str, str]], Any]


def _plan(columns: Mapping[str, str], names: Sequence[str], arm: str | None) -> dict[str, Read]:
    plan: dict[str, Read] = {}
    for field, text in columns.items():
        column = text if arm is None else text.replace(ARM, arm)
        if field in LABELS:
            if column not in names:
                raise InvalidInput(f"{field}: {unknown_column(column, names)}")
            plan[field] = _label(column)
        else:
            try:
                plan[field] = _amount(field, parse_expression(column, names))
            except InvalidInput as error:
                raise InvalidInput(f"{field}: {error}") from None
    return plan


def _label(column: str) -> Read:
    return lambda record, _, __: record.get(column)


def _amount(field: str, expression: Expression) -> Read:
    def read(record: Record, where: str, decimals: Mapping[str, str]) -> float | None:
        try:
            amount = _score(record.get(expression.column), decimals.get(expression.column, "."))
        except BadCell as error:
            raise InvalidInput(f"{where}: {field}: {error}") from None
        return None if amount is None else expression(amount)

    return read


def _score(value: Any, decimal: str) -> float | None:
    """A cell as a number; a verdict is 1 or 0."""
    verdict = _VERDICTS.get(value.strip().lower()) if isinstance(value, str) else None
    return number(value, decimal=decimal) if verdict is None else verdict


def _arms(source: Source, columns: Mapping[str, str], arms: Sequence[str]) -> list[str]:
    """The models of a wide file: every name that makes a column of each of its patterns, in their order."""
    frames = [_frame(text) for text in columns.values() if ARM in text]
    names = [name for name in source.columns if name not in columns.values()]
    per = [[name[len(a) : len(name) - len(b)] for name in names if _fits(name, a, b)] for a, b in frames]
    found = [arm for arm in per[0] if all(arm in group for group in per)]
    if arms:
        unknown = [arm for arm in arms if arm not in found]
        if unknown:
            raise InvalidInput(f"--arms: {unknown_column(unknown[0], found)}")
        return list(arms)
    if frames == [("", "")]:  # any column could be a model: those that hold numbers are
        found = [name for name in found if numeric(source, name)]
    if not found:
        raise InvalidInput(f"{source.path}: no model has its columns; there are {', '.join(source.columns)}")
    return found


def _frame(pattern: str) -> tuple[str, str]:
    """What stands before and after the model's name in a column; arithmetic after it is not part of the name."""
    before, _, after = pattern.partition(ARM)
    operators = [after.find(sign) for sign in ("*", "/", "%", ")") if sign in after]
    return before.lstrip("("), after[: min(operators)].rstrip() if operators else after


def _fits(name: str, before: str, after: str) -> bool:
    return name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)


def numeric(source: Source, name: str) -> bool:
    """Whether a column holds numbers, or truths, and nothing else."""
    try:
        cells = [_score(record.get(name), source.decimals.get(name, ".")) for record in source.records]
    except BadCell:
        return False
    return any(cell is not None for cell in cells)


def ask(source: Source, field: str) -> str:
    """The sentence for a file whose columns nobody named."""
    example = f"--columns query=ID,arm=MODEL,quality=SCORE, or for one column a model --columns query=ID,quality={ARM}"
    return f"{source.path}: no column for the {field}; found {', '.join(source.columns)}. Name them, as in {example}"
