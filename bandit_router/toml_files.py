"""TOML files as typed records, with errors that say the file, the line, and which names there are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bandit_router.errors import InvalidInput

T = TypeVar("T")
Place = tuple[str | int, ...]
Schema = dict[str, Any]

_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*([\w\-\".']+)\s*=")


def load_toml(path: Path, kind: type[T]) -> T:
    """The file as a record of this type.

    Raises:
        InvalidInput: no such file, no TOML, or a wrong name or value, with its line and what is allowed there.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path.name} is not UTF-8 text, as TOML must be") from None
    return parse_toml(text, kind, name=path.name)


def parse_toml(text: str, kind: type[T], *, name: str) -> T:
    """The text as a record of this type; `name` is what errors call it. Raises as `load_toml` does."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name}: {error}") from None
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(_message(str(error), text, data, kind, name)) from None


def _message(error: str, text: str, data: Mapping[str, Any], kind: type, name: str) -> str:
    """What msgspec says, with the line that it is about and the names that are allowed there."""
    what, _, where = error.partition(" - at `$")
    unknown = re.search(r"unknown field `(.+)`$", what)
    steps: tuple[Any, ...] = tuple(
        key or (int(number) if number.isdigit() else ...) for key, number in _STEP.findall(where)
    )
    place = _resolved(steps, data, None if unknown is None else unknown[1])
    names = _allowed(kind, data, place, unknown is not None)
    if unknown is not None:
        what, place = f"unknown name {unknown[1]!r}", (*place, unknown[1])
    section = what.partition(":")[0]
    line = line_of(text, place or (section,))
    at = ".".join(map(str, place))
    return (
        f"{name}{'' if line is None else f', line {line}'}: {what}"
        + (f" (at {at})" if at else "")
        + (f"; there are {', '.join(names)}" if names else "")
    )


def _resolved(steps: tuple[Any, ...], data: Any, last: str | None) -> Place:
    """The steps with a key in the place of each `...`: the first under which what follows, and `last`, is there."""
    if not steps:
        return ()
    first, rest = steps[0], steps[1:]
    keys = list(data) if first is ... and isinstance(data, dict) else [first]
    for key in keys:
        try:
            inside = data[key]
        except (KeyError, IndexError, TypeError):
            continue
        found = (key, *_resolved(rest, inside, last))
        end = inside
        for step in found[1:]:
            end = end[step]
        if len(found) == len(steps) and (last is None or (isinstance(end, dict) and last in end)):
            return found
    return tuple(keys[:1])


def line_of(text: str, place: Place) -> int | None:
    """The line, from 1, of the key at `place`, else of the innermost table around it, else of the first inside it.

    Example:
        >>> line_of("[rollout]\\nmode = 'off'", ("rollout", "mode"))
        2
    """
    best: tuple[int, int | None] = (0, None)
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _table(header[2], header[1] == "[[", counts)
            found = table
        elif key := _KEY.match(line):
            found = (*table, *_names(key[1]))
        else:
            continue
        if found == place[: len(found)] and len(found) > best[0]:
            best = len(found), number
        elif best[1] is None and found[: len(place)] == place:
            best = 0, number  # only tables inside it have a header
    return best[1]


def _table(dotted: str, repeated: bool, counts: dict[Place, int]) -> Place:
    """Where a header stands, the last element of every array of tables on the way counted in."""
    place: Place = ()
    names = _names(dotted)
    for depth, name in enumerate(names):
        place = (*place, name)
        if repeated and depth == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _names(dotted: str) -> list[str]:
    return [part.strip(" \"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted)]


def _allowed(kind: type, data: Any, place: Place, unknown: bool) -> Sequence[str]:
    """Names of the fields at `place` where one is unknown there, else the values that are allowed at it."""
    document = msgspec.json.schema(kind)
    schema: Schema | None = document
    for step in place:
        schema = _one(schema, document, data)
        if schema is None:
            return ()
        if step == schema.get("discriminator", {}).get("propertyName"):
            return list(schema["discriminator"]["mapping"])
        try:
            schema, data = _inside(schema, step), data[step]
        except (KeyError, IndexError, TypeError):
            return ()
    schema = _one(schema, document, data)
    if schema is None:
        return ()
    return list(schema.get("properties", ())) if unknown else [str(value) for value in schema.get("enum", ())]


def _inside(schema: Schema, step: str | int) -> Schema | None:
    found = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step)
    return found if isinstance(found, dict) else None


def _one(schema: Schema | None, document: Schema, data: Any) -> Schema | None:
    """The schema that these data are meant by: a reference followed, and of several kinds the one they are of."""
    while schema is not None and ("$ref" in schema or "anyOf" in schema):
        if "$ref" in schema:
            schema = document["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        elif "discriminator" in schema:
            tagged = schema["discriminator"]
            tag = data.get(tagged["propertyName"]) if isinstance(data, dict) else None
            if tag not in tagged["mapping"]:
                return schema
            schema = {"$ref": tagged["mapping"][tag]}
        else:
            wanted = "object" if isinstance(data, dict) else "array" if isinstance(data, list) else None
            kinds = [_one(one, document, data) or {} for one in schema["anyOf"]]
            schema = next((k for k in kinds if k.get("type") == wanted or "discriminator" in k), None)
    return schema
