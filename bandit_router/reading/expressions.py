"""A number computed from one column of somebody's file: "time/1000", "time:ms", "acc%", "(stars-1)/4", "1-error"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput

Numbers = TypeVar("Numbers", float, F64)

UNITS = {"ms": 1e3, "us": 1e6, "cents": 100.0, "percent": 100.0}  # how many make one
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_LAST = re.compile(rf"(.+?)\s*([*/+-])\s*({_NUMBER})")
_FROM = re.compile(rf"({_NUMBER})\s*-\s*(.+)")


@dataclass(frozen=True)
class Expression:
    """One column and what is done with its numbers, step by step.

    Attributes:
        column: the name. steps: operators with their number, in order; "from" is the number minus the value.
    """

    column: str
    steps: tuple[tuple[str, float], ...] = ()

    def __call__(self, value: Numbers) -> Numbers:
        """The result for one number of the column, or for an array of them, which is left as it is."""
        for operator, number in self.steps:
            if operator == "*":
                value = value * number
            elif operator == "/":
                value = value / number
            elif operator == "from":
                value = number - value
            else:
                value = value + (number if operator == "+" else -number)
        return value


def parse_expression(text: str, columns: Sequence[str] | None) -> Expression:
    """Read an expression over the columns of a file; a column's exact name always wins over arithmetic.

    Args:
        columns: their names; None where nobody knows them, then the column is what is left without arithmetic.

    Raises:
        InvalidInput: it names no column, or mixes sums and products without brackets.

    Example:
        >>> parse_expression("(stars-1)/4", ["stars"])(3.0)
        0.5
        >>> parse_expression("gpt-4", ["gpt-4"]).steps
        ()
    """
    found = _parsed(text.strip(), None if columns is None else set(columns))
    if found is None:
        raise InvalidInput(unknown_column(text, columns or ()))
    return found


def unknown_column(text: str, columns: Sequence[str]) -> str:
    """The sentence for a column that is not there, with the nearest one that is."""
    folded = {name.lower(): name for name in columns}
    bare = re.split(r"[*/%()]", text.strip().strip("("))[0].strip().lower()
    near = difflib.get_close_matches(bare, folded, n=1, cutoff=0.6)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return f"no column {text!r}{hint} there are {', '.join(columns)}"


def _parsed(text: str, columns: Collection[str] | None) -> Expression | None:
    """Undo the operation that is done last, and read the rest."""
    if columns is not None and text in columns:
        return Expression(text)
    first = _FROM.fullmatch(text)
    if first is not None:
        inner = _parsed(first[2].strip(), columns)
        if inner is not None and (_bracketed(first[2]) or not _is_sum(inner)):
            return _then(inner, ("from", float(first[1])), text)
    last = _LAST.fullmatch(text)
    if last is not None:
        return _then(_parsed(last[1].strip(), columns), (last[2], float(last[3])), text, _bracketed(last[1]))
    column, _, unit = text.rpartition(":")
    if unit in UNITS:
        return _then(_parsed(column.strip(), columns), ("/", UNITS[unit]), text, _bracketed(column))
    if text.endswith("%"):
        return _then(_parsed(text[:-1].strip(), columns), ("/", 100.0), text, _bracketed(text[:-1]))
    if _bracketed(text) and text.startswith("("):
        return _parsed(text[1:-1].strip(), columns)
    return Expression(text) if columns is None and text else None


def _bracketed(text: str) -> bool:
    return text.rstrip().endswith(")")


def _is_sum(expression: Expression) -> bool:
    return bool(expression.steps) and expression.steps[-1][0] not in "*/"


def _then(inner: Expression | None, step: tuple[str, float], text: str, bracketed: bool = True) -> Expression | None:
    if inner is None:
        return None
    if step == ("/", 0.0):
        raise InvalidInput(f"{text!r} divides by 0")
    if step[0] in "*/" and _is_sum(inner) and not bracketed:
        raise InvalidInput(f"{text!r} mixes sums and products; put what comes first in brackets, as in (stars-1)/4")
    return Expression(inner.column, (*inner.steps, step))
