"""One cell of a table, typed or as text: numbers, truth, times and what stands for nothing, in any spelling."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime

NOTHING = frozenset({"", "na", "n/a", "n.a.", "#n/a", "#na", "nan", "-nan", "null", "none", "nil", "-", "--", "\\n"})
"""What stands for an unknown number, in lower case."""
_NO_TEXT = frozenset({"", "\\N", "#N/A", "NULL", "null"})
_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0", "wahr", "vrai", "vero", "verdadero", "verdadeiro", "waar"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "falsch", "faux", "falso", "onwaar"})
_WORDS = (_TRUE - {"t", "yes", "y", "1", "1.0"}, _FALSE - {"f", "no", "n", "0", "0.0"})
_GAPS = " \u00a0\u202f\u2009'’"
_GROUPED = {s: re.compile(rf"[+-]?\d{{1,3}}(?:[{_GAPS}{s}]\d{{3}})+(?![\d{s}])") for s in ",."}
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_CLOCK = re.compile(r"[ T](\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*([AaPp])?\.?[Mm]?\.?\s*(?:Z|UTC|GMT)?$")
_DAY = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})")
_ZONE = re.compile(r"\s*(?:UTC|GMT)$")
EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # nanoseconds, microseconds, milliseconds since 1970
LATEST = 253_402_300_800.0  # the end of the year 9999


class BadCell(ValueError):
    """A cell that cannot be read; its text says what was expected and what came."""


def nothing(value: object) -> bool:
    """Whether a cell holds no number: empty, null, NaN, or a word for it."""
    if isinstance(value, str):
        return value.strip().lower() in NOTHING
    return value is None or (isinstance(value, (float, Decimal)) and math.isnan(value))


def text(value: object) -> str | None:
    """A cell as text, None where there is none; whole numbers have no decimals, as ids that went through a float."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (str, int, float, Decimal)):
        return None if value in _NO_TEXT else str(value)
    raise BadCell(f"expected text, got {_shown(value)}")


def number(value: object, *, decimal: str = ".") -> float | None:
    """A cell as a finite number, None where there is none.

    Takes grouped thousands, a percent sign (45 % is 0.45), a dollar sign and the words for true and false.

    Args:
        decimal: the sign before the decimals, "." or ","; the other one groups thousands.

    Raises:
        BadCell: anything else.
    """
    if nothing(value):
        return None
    result = math.nan
    if isinstance(value, str):
        result = _written(value.strip(), decimal)
    elif isinstance(value, (bool, int, float, Decimal)):
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
    if not math.isfinite(result):
        raise BadCell(f"expected a finite number, got {_shown(value)}")
    return result


def _written(word: str, decimal: str) -> float:
    for words, truth in zip(_WORDS, (1.0, 0.0), strict=True):
        if word.lower() in words:
            return truth
    bare = word.replace("\u2212", "-").strip("$ \u00a0")
    scale = 0.01 if bare.endswith("%") else 1.0
    bare = bare.rstrip("%").strip()
    thousands = "," if decimal == "." else "."
    if found := _GROUPED[thousands].match(bare):
        bare = found[0].replace(thousands, "").translate(str.maketrans("", "", _GAPS)) + bare[found.end() :]
    if thousands in bare:
        return math.nan
    bare = bare.replace(decimal, ".")
    return float(bare) * scale if _PLAIN.fullmatch(bare) else math.nan


def decimal_sign(cells: Iterable[str]) -> str | None:
    """The sign before the decimals that these cells prove, "." or ","; None where they prove none or both."""
    found = set()
    for cell in cells:
        bare = cell.strip().rstrip("% ").lstrip("+-$\u2212 ")
        last = max(bare.rfind("."), bare.rfind(","))
        if last < 0 or not re.fullmatch(r"[\d.,'’ \u00a0\u202f]*(?:[eE][+-]?\d+)?", bare):
            continue
        sign, other = bare[last], "," if bare[last] == "." else "."
        tail = re.split(r"[eE]", bare[last + 1 :])[0]
        if bare.count(sign) > 1:
            found.add(other)
        elif other in bare or re.search("[eE]", bare) or len(tail) != 3 or not 1 <= last <= 3 or bare.startswith("0"):
            found.add(sign)
    return found.pop() if len(found) == 1 else None


def truth(value: object) -> bool | None:
    """A cell as true or false, None where there is neither. Raises BadCell."""
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    if nothing(value):
        return None
    raise BadCell(f"expected true or false, got {_shown(value)}")


def epoch(value: float) -> float:
    """Seconds since 1970 from seconds, milliseconds, microseconds or nanoseconds, told apart by their size."""
    return next((value / unit for least, unit in EPOCHS if abs(value) >= least), value)


def moment(value: object, *, day_first: bool | None = None, decimal: str = ".") -> float | None:
    """A cell as seconds since 1970, None where there is none: a number, ISO 8601, a mail date, or a spreadsheet's date.

    UTC unless the cell says otherwise.

    Args:
        day_first: whether 03/04/2026 is in April; None where nothing tells, then such a date is refused.
    """
    if nothing(value):
        return None
    if isinstance(value, (datetime, date)):
        return _seconds(value if isinstance(value, datetime) else datetime(value.year, value.month, value.day))
    result: float | None = None
    if isinstance(value, str) and not _PLAIN.fullmatch(value.strip()):
        bare = value.strip()
        day = _DAY.match(bare)
        result = _dated(day, day_first) if day else _iso(bare)
        if result is None and re.fullmatch(r"\d+,\d+", bare):
            result = number(bare, decimal=decimal)
    elif not isinstance(value, bool):
        result = number(value)
    if result is None:
        raise BadCell(f"expected seconds or ISO 8601, got {_shown(value)}")
    return epoch(result)


def day_first(cells: Iterable[str]) -> bool | None:
    """Whether the dates of a column begin with the day; None where no date tells."""
    found = set()
    for cell in cells:
        if day := _DAY.match(cell.strip()):
            first, sign, second = int(day[1]), day[2], int(day[3])
            if sign == "." or first > 12:
                found.add(True)
            elif second > 12:
                found.add(False)
    return found.pop() if len(found) == 1 else None


def _iso(word: str) -> float | None:
    bare = _ZONE.sub("+00:00", word.replace("/", "-"))
    bare = re.sub(r"(\d) ?([+-]\d\d:?\d\d)$", r"\1\2", bare)
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return _seconds(read(bare if read is not parsedate_to_datetime else word))
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _dated(day: re.Match[str], first: bool | None) -> float | None:
    """A date as spreadsheets show it, with or without a time of day."""
    word = day.string
    a, sign, b, year = int(day[1]), day[2], int(day[3]), int(day[4])
    if first is None:
        first = True if sign == "." or a > 12 else False if b > 12 or a == b else None
    if first is None:
        raise BadCell(f"expected a date that tells day from month, such as 2026-04-03, got {word!r}")
    clock = _CLOCK.match(word, day.end())
    if clock is None and word[day.end() :].strip():
        return None
    hour, minute, second = (int(clock[i] or 0) for i in (1, 2, 3)) if clock else (0, 0, 0)
    if clock and clock[5]:
        hour = hour % 12 + (12 if clock[5] in "pP" else 0)
    fraction = float(f"0.{clock[4]}") if clock and clock[4] else 0.0
    try:
        return _seconds(datetime(year, b if first else a, a if first else b, hour, minute, second)) + fraction
    except ValueError:
        return None


def _seconds(value: datetime) -> float:
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _shown(value: object) -> str:
    return repr(value)[:60]
