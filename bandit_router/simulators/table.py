"""Outcome tables: every arm's measured outcome on every query, streamed in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.encoding.contexts import Encoder, Request
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, DECLARED
from bandit_router.simulators.environment import BLOCK, Block, generator

if TYPE_CHECKING:
    import polars as pl

CONTEXTS = ("task", "features")


@dataclass(frozen=True)
class OutcomeTable:
    """A full-information table.

    Attributes:
        name: of the folder. arms: ids in order of first appearance. tasks: label per query, None where unknown.
        channels: those with any known value, quality first. outcomes: shape (queries, arms, channels), NaN if unknown.
        features: precomputed contexts, shape (queries, k), or None. prompts: texts, or None.
    """

    name: str
    arms: tuple[str, ...]
    tasks: tuple[str | None, ...]
    channels: tuple[str, ...]
    outcomes: F64
    features: F64 | None
    prompts: tuple[str, ...] | None


def shipped_tables() -> dict[str, Path]:
    """The tables inside the package, by name."""
    root = Path(str(files("bandit_router.simulators") / "tables"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/outcomes.parquet"))}


def load_table(path: str | Path) -> OutcomeTable:
    """Read a folder with queries.parquet, outcomes.parquet and perhaps features.parquet, or a shipped table's name.

    Raises:
        InvalidInput: the folder or a column is missing, a file cannot be read, or cells are missing or repeated.
    """
    import polars as pl

    folder = shipped_tables().get(str(path), Path(path))
    try:
        queries = pl.read_parquet(folder / "queries.parquet").sort("query_id")
        cells = pl.read_parquet(folder / "outcomes.parquet")
        features = folder / "features.parquet"
        known = pl.read_parquet(features).sort("query_id") if features.exists() else None
        return _assemble(folder.resolve().name, queries, cells, known)
    except OSError as error:
        raise InvalidInput(f"no outcome table in {folder}: {error}; shipped: {', '.join(shipped_tables())}") from None
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(f"{folder} is not an outcome table: {str(error).splitlines()[0]}") from None


def _assemble(name: str, queries: pl.DataFrame, cells: pl.DataFrame, known: pl.DataFrame | None) -> OutcomeTable:
    import polars as pl

    cells = cells.with_columns(pl.col("arm").cast(pl.String))
    arms = tuple(cells.get_column("arm").unique(maintain_order=True))
    ids = queries.get_column("query_id")
    n = len(ids)
    if not n or not arms:
        raise InvalidInput(f"table {name!r} has {n} queries and {len(arms)} arms; it needs at least one of each")
    if not ids.is_unique().all():
        raise InvalidInput(f"table {name!r}: queries.parquet repeats a query_id; every query needs its own")
    order = pl.DataFrame({"arm": list(arms), "_arm": range(len(arms))})
    positions = pl.DataFrame({"query_id": ids, "_query": range(n)})
    cells = cells.join(order, on="arm").join(positions, on="query_id", how="left")
    if cells.get_column("_query").null_count():
        raise InvalidInput(f"table {name!r}: outcomes name a query_id that queries.parquet lacks")
    if len(cells) != n * len(arms) or cells.select("_query", "_arm").is_duplicated().any():
        raise InvalidInput(
            f"table {name!r} must have one row for each of {n} queries x {len(arms)} arms, got {len(cells)}"
        )
    cells = cells.sort("_query", "_arm")
    columns = _channels(cells)
    channels = tuple(c for c in columns if c == "quality" or np.isfinite(columns[c]).any())
    outcomes = np.stack([columns[c] for c in channels], axis=1).reshape(n, len(arms), len(channels))
    _check(name, outcomes, channels)
    return OutcomeTable(
        name=name,
        arms=arms,
        tasks=tuple(queries.get_column("task").cast(pl.String)) if "task" in queries.columns else (None,) * n,
        channels=channels,
        outcomes=outcomes,
        features=None if known is None else _features(name, known, ids),
        prompts=tuple(queries.get_column("prompt")) if "prompt" in queries.columns else None,
    )


def _check(name: str, outcomes: F64, channels: Sequence[str]) -> None:
    for i, channel in enumerate(channels):
        amounts, (low, high) = outcomes[:, :, i], DECLARED[channel].range
        fit = (amounts >= low) & (amounts <= high) & np.isfinite(amounts)
        if not (fit | np.isnan(amounts) if i else fit).all():
            rule = "must be null, or" if i else "must be known for every query and arm, and lie"
            raise InvalidInput(f"table {name!r}: {channel} {rule} {DECLARED[channel].allowed}")


def mean_per_arm(outcomes: F64) -> F64:
    """Mean over the known values, shape (queries, arms, channels) -> (arms, channels); NaN where nothing is known."""
    known = np.isfinite(outcomes).sum(axis=0)
    return np.asarray(np.where(known, np.nansum(outcomes, axis=0), np.nan) / np.maximum(known, 1))


def _channels(cells: pl.DataFrame) -> dict[str, F64]:
    import polars as pl

    def column(name: str) -> F64:
        if name not in cells.columns:
            return np.full(len(cells), np.nan)
        return cells.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy()

    found = {name: column(name) for name in CHANNELS}
    if "tokens" not in cells.columns:  # measured tables keep the two apart
        found["tokens"] = column("input_tokens") + column("output_tokens")
    return found


def _features(name: str, known: pl.DataFrame, ids: pl.Series) -> F64:
    import polars as pl

    if not known.get_column("query_id").equals(ids):
        raise InvalidInput(f"table {name!r}: features.parquet must have exactly the query_id of queries.parquet")
    values = known.drop("query_id").cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all():
        raise InvalidInput(f"table {name!r}: features must be finite")
    return np.ascontiguousarray(values)


class TableEnvironment:
    """The first `horizon` requests of a shuffled pass over an outcome table; further passes are shuffled anew.

    Args:
        table: the outcomes.
        contexts: which parts make the context vector, among "task" (one-hot with a bucket for unknown tasks) and
            "features" (precomputed); a constant 1 is always there. Default: all that the table has.
    """

    def __init__(self, table: OutcomeTable, *, contexts: Sequence[str] | None = None, name: str | None = None) -> None:
        parts = [c for c in CONTEXTS if c != "features" or table.features is not None] if contexts is None else contexts
        self.table, self.parts = table, tuple(parts)
        self.name = table.name if name is None else name
        self.arms = tuple(Arm(id=arm) for arm in table.arms)
        self.channels = table.channels
        self.contexts = design(table, self.parts)
        self.dim = self.contexts.shape[1]
        self.horizon = len(table.tasks)
        dearest = np.nanmax(mean_per_arm(table.outcomes), axis=0)
        self.scales = {c: float(dearest[i]) or 1.0 for i, c in enumerate(table.channels) if i}  # 1 if all are free

    def encode_by(self, encode: Encoder) -> None:
        """Take contexts from the queries' own task, prompt and features through an encoder."""
        table = self.table
        self.parts = (type(encode).__name__,)
        self.contexts = np.stack([encode(request) for request in requests(table)])
        self.dim = encode.dim

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """See `Environment`."""
        n = len(self.contexts)
        passes = -(-horizon // n)
        order = np.concatenate([generator(self.name, "order", seed, i).permutation(n) for i in range(passes)])[:horizon]
        for start in range(0, horizon, BLOCK):
            rows = order[start : start + BLOCK]
            outcomes = self.table.outcomes[rows]
            yield Block(self.contexts[rows], outcomes, outcomes)

    def describe(self) -> dict[str, Any]:
        """See `Environment`."""
        return {
            "kind": "table",
            "table": self.table.name,
            "queries": len(self.contexts),
            "contexts": ["bias", *self.parts],
            "dim": self.dim,
            "channels": list(self.channels),
            "scales": self.scales,
        }


def requests(table: OutcomeTable) -> Iterator[Request]:
    """Every query of a table as what a router is asked."""
    for row, task in enumerate(table.tasks):
        yield Request(
            task=task,
            text=None if table.prompts is None else table.prompts[row],
            features=None if table.features is None else table.features[row],
        )


def design(table: OutcomeTable, parts: Sequence[str]) -> F64:
    """Context vectors of all queries, shape (queries, dim): the parts in the given order, a constant 1 first."""
    unknown = [part for part in parts if part not in CONTEXTS]
    if unknown:
        raise InvalidInput(f"unknown context part {unknown[0]!r}; there are {', '.join(CONTEXTS)}")
    if "features" in parts and table.features is None:
        raise InvalidInput(f"table {table.name!r} has no features.parquet; use contexts = ['task']")
    columns: list[F64] = [np.ones((len(table.tasks), 1))]
    for part in parts:
        columns.append(_one_hot(table.tasks) if part == "task" else np.asarray(table.features))
    return np.concatenate(columns, axis=1)


def _one_hot(tasks: Sequence[str | None]) -> F64:
    """One column per task, in sorted order, and a last one for queries without a task."""
    labels = sorted({task for task in tasks if task is not None})
    column = {task: i for i, task in enumerate(labels)}
    hot = np.zeros((len(tasks), len(labels) + 1))
    hot[np.arange(len(tasks)), [len(labels) if task is None else column[task] for task in tasks]] = 1.0
    return hot


def describe_table(table: OutcomeTable) -> dict[str, Any]:
    """Check figures of a table: sizes, means per arm, best single arm, oracle, uniform random, best arm per task."""
    quality = table.outcomes[:, :, 0]
    means = mean_per_arm(table.outcomes)
    best = int(means[:, 0].argmax())
    member = _one_hot(table.tasks)
    per_task = member.T @ quality  # sums; queries without a task are one group
    return {
        "table": table.name,
        "queries": len(quality),
        "arms": len(table.arms),
        "tasks": len({task for task in table.tasks if task is not None}),
        "channels": list(table.channels),
        "features": 0 if table.features is None else table.features.shape[1],
        "best_single_arm": {"arm": table.arms[best], "quality_mean": float(means[best, 0])},
        "oracle_quality_mean": float(quality.max(axis=1).mean()),
        "random_quality_mean": float(quality.mean()),
        "best_per_task_quality_mean": float(per_task.max(axis=1).sum() / len(quality)),
        "per_arm": [
            {"arm": arm} | {f"{c}_mean": float(mean) for c, mean in zip(table.channels, row, strict=True)}
            for arm, row in zip(table.arms, means, strict=True)
        ],
    }
