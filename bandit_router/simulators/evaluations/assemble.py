"""Rows of results, checked and put together as an outcome table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import DECLARED
from bandit_router.simulators.evaluations.columns import AMOUNTS, mapped, unused_columns
from bandit_router.simulators.evaluations.files import Record, read_source
from bandit_router.simulators.evaluations.formats import recognised

if TYPE_CHECKING:
    import polars as pl

NAMED = 20  # holes that are named


@dataclass(frozen=True)
class Evaluations:
    """An outcome table that was read and not yet written.

    Attributes:
        queries, outcomes: the columns of the two files, see docs/formats.md. about: what was read.
    """

    queries: pl.DataFrame
    outcomes: pl.DataFrame
    about: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write the table's files into a folder, made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.queries.write_parquet(folder / "queries.parquet", compression="zstd")
        self.outcomes.write_parquet(folder / "outcomes.parquet", compression="zstd")
        about = msgspec.json.format(msgspec.json.encode(self.about), indent=2)
        (folder / "about.json").write_bytes(about + b"\n")


def read_evaluations(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    arms: Sequence[str] = (),
    drop_incomplete: bool = False,
) -> Evaluations:
    """Read files of results into one outcome table.

    Args:
        paths: one or more files. columns: see `parse_columns`; they come before what a format says.
        format: one of `FORMATS`; default by content. arms: of a wide file, these models.
        drop_incomplete: leave out the queries that an arm has no quality for.

    Raises:
        InvalidInput: a file, a column or a cell cannot be used, or a query has two rows of one arm.
    """
    rows: list[Record] = []
    files = []
    for path in paths:
        name, source, known = recognised(read_source(path), format)
        chosen = {**known, **(columns or {})}
        if columns and any("{arm}" in text for text in columns.values()):
            chosen.pop("arm", None)
        found = mapped(source, chosen, arms)
        unused = unused_columns(source, chosen, arms)
        files.append(
            {"file": path.name, "format": name, "rows": len(source.records), "columns": chosen, "unused": unused}
        )
        rows += found
    return _assembled(rows, files, drop_incomplete)


def _assembled(rows: list[Record], files: list[dict[str, Any]], drop_incomplete: bool) -> Evaluations:
    import polars as pl

    queries: dict[int | str, Record] = {}
    cells: dict[tuple[int | str, str], Record] = {}
    _number_prompts(rows)
    numbers = all(_whole(row["query"]) for row in rows)
    for row in rows:
        query, arm = _id(row, "query"), str(_id(row, "arm"))
        query = int(query) if numbers else query
        _in_range(row)
        if (query, arm) in cells:
            raise InvalidInput(
                f"query {query!r} with arm {arm!r} stands twice: {cells[query, arm]['where']}, and {row['where']}; "
                "keep one, or average them first"
            )
        cells[query, arm] = row
        _described(queries.setdefault(query, {}), row, query)
    known = {key: row for key, row in cells.items() if row.get("quality") is not None}
    if not known:
        raise InvalidInput(f"none of {len(rows)} rows has a quality")
    arms = _in_order(dict.fromkeys(arm for _, arm in known))
    answered = {query for query, _ in known}
    ids = [query for query in (sorted(queries) if numbers else queries) if query in answered]
    holes = [(query, arm) for query in ids for arm in arms if (query, arm) not in known]
    dropped = {query for query, _ in holes} if drop_incomplete else set()
    ids = [query for query in ids if query not in dropped]
    if not ids:
        raise InvalidInput("no query has a quality of every arm; leave --drop-incomplete out, or some arms")
    kept = [(query, arm) for query in ids for arm in arms if (query, arm) in known]
    amounts = [name for name in AMOUNTS if any(known[key].get(name) is not None for key in kept)]
    outcomes = pl.DataFrame(
        {
            "query_id": [query for query, _ in kept],
            "arm": [arm for _, arm in kept],
            **{name: pl.Series([known[key].get(name) for key in kept], dtype=pl.Float64) for name in amounts},
        }
    )
    labels = [name for name in ("task", "prompt") if any(queries[query].get(name) is not None for query in ids)]
    described = pl.DataFrame(
        {"query_id": ids, **{name: pl.Series([queries[q].get(name) for q in ids], dtype=pl.String) for name in labels}}
    )
    about = {
        "files": files,
        "queries": len(ids),
        "arms": arms,
        "holes": 0 if drop_incomplete else len(holes),
        "first_holes": [{"query": query, "arm": arm} for query, arm in holes[:NAMED]],
        "dropped_incomplete": len(dropped),
        "dropped_unanswered": len(queries) - len(answered),
        "ranges": {name: [outcomes[name].min(), outcomes[name].max()] for name in amounts},
    }
    return Evaluations(described, outcomes, about)


def _number_prompts(rows: list[Record]) -> None:
    """Give rows of files without query ids the number of their prompt, in order of first appearance."""
    bare = [row for row in rows if "query" not in row]
    if bare and len(bare) < len(rows):
        raise InvalidInput("some files have query ids and others only prompts; name the query in all of them")
    seen: dict[int | str, int] = {}
    for row in bare:
        row["query"] = seen.setdefault(_id(row, "prompt"), len(seen))


def _id(row: Record, field: str) -> int | str:
    value = row.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidInput(f"{row['where']}: no {field}")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value).strip()


def _whole(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().isdecimal() and str(int(value)) == value.strip() and len(value) < 18
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _in_order(arms: Mapping[str, None]) -> list[str]:
    """As they come; ids that are numbers as numbers."""
    return sorted(arms, key=int) if all(map(_whole, arms)) else list(arms)


def _in_range(row: Record) -> None:
    for name in AMOUNTS:
        value = row.get(name)
        if value is None:
            continue
        low, high = DECLARED[name].range if name in DECLARED else (0.0, math.inf)
        if not (math.isfinite(value) and low <= value <= high):
            way = f"; rescale it, as in {name}=COLUMN/5, (COLUMN-1)/4 or COLUMN%" if name == "quality" else ""
            limits = DECLARED[name].allowed if name in DECLARED else "finite and at least 0"
            raise InvalidInput(f"{row['where']}: {name} must be {limits}, got {value:g}{way}")


def _described(query: Record, row: Record, name: int | str) -> None:
    for label in ("task", "prompt"):
        value = row.get(label)
        if value is None or value == "":
            continue
        if query.setdefault(label, str(value)) != str(value) and label == "task":
            raise InvalidInput(f"{row['where']}: query {name!r} has task {str(value)!r}, and {query[label]!r} before")
