"""What producers write for a number, a time, an object or a model's name, read alike."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

_VERSION = re.compile(r"[-@:](latest|\d{4}-\d{2}-\d{2}|\d{3,4}|\d{6}|\d{8})$")


def seconds(value: object) -> float | None:
    """A time as seconds since 1970: a number, or ISO 8601 (UTC unless it says otherwise); None for anything else."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    result = number(value)
    return result if result is not None and abs(result) < 1e300 else None


def number(value: object) -> float | None:
    """A finite number, also as text, or None: other text, booleans, NaN and what is absent."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or (isinstance(value, str) and "_" in value):
        return None
    try:
        result = float(value)
    except (OverflowError, ValueError):
        return None
    return result if math.isfinite(result) else None


def known_sum(counts: Sequence[float | None]) -> float | None:
    """The sum; None if a part is unknown, for half a count is not the count."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def first(source: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of several spellings that is present and neither None nor empty text."""
    return next((source[name] for name in names if source.get(name) not in (None, "")), None)


_BARE = re.compile(r'"(?:[^"\\]|\\.)*"|[-+]?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE)


def loads(text: str | bytes) -> Any:
    """What JSON text holds, also with the spellings of NaN and infinity that JSON lacks. Raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        given = text if isinstance(text, str) else text.decode()
        plain = _BARE.sub(_spelled, given)
        if plain == given and "NaN" not in given and "Infinity" not in given:
            raise ValueError(str(error)) from None
        return json.loads(plain)


def _spelled(found: re.Match[str]) -> str:
    word = found[0].lower()
    if word.startswith('"'):
        return found[0]
    return "NaN" if "nan" in word else "-Infinity" if word.startswith("-") else "Infinity"


def parsed(value: object) -> Any:
    """The value, or what its text holds where that is JSON."""
    if isinstance(value, (str, bytes)):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return value
    return value


def decoded(line: bytes) -> dict[str, Any] | str:
    """One JSON object, or why it is none."""
    try:
        document = loads(line)
    except (ValueError, RecursionError) as error:
        return str(error)
    return document if isinstance(document, dict) else f"expected an object, got {type(document).__name__}"


def mapping(value: object) -> dict[str, Any]:
    """The value if it is an object, or text that holds one; otherwise an empty object."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def same_model(a: str, b: str) -> bool:
    """Whether two names are one model: with or without the provider's prefix, bare, latest or dated."""
    a, b = (name.rsplit("/", 1)[-1].lower() for name in (a, b))
    bare = [_VERSION.sub("", name) for name in (a, b)]
    latest = a.endswith("latest") or b.endswith("latest")
    return a == b or bare[0] == b or bare[1] == a or (latest and bare[0] == bare[1])
