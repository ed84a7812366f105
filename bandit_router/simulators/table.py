"""Outcome tables: every arm's measured outcome on every query, streamed in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.encoding.contexts import Bias, Concat, Encoder, OneHotTask, Precomputed, Request
from bandit_router.encoding.text import Embedding, fit_pca, wordllama
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, DECLARED
from bandit_router.simulators.environment import BLOCK, Block, generator

if TYPE_CHECKING:
    import polars as pl

COMPARATORS = "a fixed arm gets the mean of the playable arms where it is a hole; the oracle is the best playable arm"
CONTEXTS = ("task", "features", "text")
COMPONENTS, FITTED_ON = (
    24,
    500,
)  # of the prompts' principal components: how many, and the first queries they are fitted on


@dataclass(frozen=True)
class OutcomeTable:
    """What every arm answered to every query, as far as it is known.

    Attributes:
        name: of the folder. queries: ids, in order. arms: ids in order of first appearance.
        tasks: label per query, None where unknown.
        channels: those with any known value, quality first. outcomes: shape (queries, arms, channels), NaN if unknown.
            A cell without quality is a hole: that arm cannot be played on that query.
        features: precomputed contexts, shape (queries, k), or None. prompts: texts, or None.
    """

    name: str
    queries: tuple[int | str, ...]
    arms: tuple[str, ...]
    tasks: tuple[str | None, ...]
    channels: tuple[str, ...]
    outcomes: F64
    features: F64 | None
    prompts: tuple[str, ...] | None

    @property
    def playable(self) -> Bool | None:
        """Which cells are known, shape (queries, arms); None where all are."""
        known = np.isfinite(self.outcomes[:, :, 0])
        return None if known.all() else known

    @property
    def holes(self) -> int:
        """Cells without quality."""
        return 0 if self.playable is None else int((~self.playable).sum())

    def first_hole(self) -> str:
        """The first hole, by query and arm, for messages."""
        query, arm = np.argwhere(np.isnan(self.outcomes[:, :, 0]))[0]
        return f"{self.name} has {self.holes} holes, the first at query {self.queries[query]!r}, arm {self.arms[arm]!r}"


def shipped_tables() -> dict[str, Path]:
    """The tables inside the package, by name."""
    root = Path(str(files("bandit_router.simulators") / "tables"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/outcomes.parquet"))}


def load_table(path: str | Path) -> OutcomeTable:
    """Read a folder with queries.parquet, outcomes.parquet and perhaps features.parquet, or a shipped table's name.

    Raises:
        InvalidInput: the folder or a column is missing, a file cannot be read, a cell is repeated, or a query has none.
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
    if cells.get_column("arm").null_count():
        raise InvalidInput(f"table {name!r}: outcomes have a row without an arm")
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
    twice = cells.filter(cells.select("_query", "_arm").is_duplicated())
    if len(twice):
        query, arm = twice.select("query_id", "arm").row(0)
        raise InvalidInput(f"table {name!r} has query {query!r} with arm {arm!r} twice; keep one row of each")
    every = positions.join(order, how="cross")
    cells = every.join(cells.drop("query_id", "arm"), on=["_query", "_arm"], how="left").sort("_query", "_arm")
    columns = _channels(cells)
    channels = tuple(c for c in columns if c == "quality" or np.isfinite(columns[c]).any())
    outcomes = np.stack([columns[c] for c in channels], axis=1).reshape(n, len(arms), len(channels))
    _check(name, ids.to_list(), outcomes, channels)
    return OutcomeTable(
        name=name,
        queries=tuple(ids),
        arms=arms,
        tasks=tuple(queries.get_column("task").cast(pl.String)) if "task" in queries.columns else (None,) * n,
        channels=channels,
        outcomes=outcomes,
        features=None if known is None else _features(name, known, ids),
        prompts=tuple(queries.get_column("prompt")) if "prompt" in queries.columns else None,
    )


def _check(name: str, ids: Sequence[int | str], outcomes: F64, channels: Sequence[str]) -> None:
    for i, channel in enumerate(channels):
        amounts, (low, high) = outcomes[:, :, i], DECLARED[channel].range
        fit = (amounts >= low) & (amounts <= high) & np.isfinite(amounts)
        if not (fit | np.isnan(amounts)).all():
            raise InvalidInput(f"table {name!r}: {channel} must be null, or {DECLARED[channel].allowed}")
    unanswered = np.flatnonzero(np.isnan(outcomes[:, :, 0]).all(axis=1))
    if len(unanswered):
        raise InvalidInput(f"table {name!r}: query {ids[unanswered[0]]!r} has no quality of any arm; leave it out")
    if not np.isfinite(outcomes[:, :, 0]).any(axis=0).all():
        raise InvalidInput(f"table {name!r} has an arm without any quality; leave its rows out")


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
        table: the outcomes. Arms cannot be played where it has holes.
        contexts: which parts make the context vector, see `encoder`. Default: task, and features if the table has them.
    """

    def __init__(self, table: OutcomeTable, *, contexts: Sequence[str] | None = None, name: str | None = None) -> None:
        parts = ["task", "features"][: 1 if table.features is None else 2] if contexts is None else contexts
        self.table, self.parts = table, tuple(parts)
        self.name = table.name if name is None else name
        self.arms = tuple(Arm(id=arm) for arm in table.arms)
        self.channels = table.channels
        self._encode(encoder(table, self.parts))
        self.horizon = len(table.tasks)
        dearest = np.nanmax(mean_per_arm(table.outcomes), axis=0)
        self.scales = {c: float(dearest[i]) or 1.0 for i, c in enumerate(table.channels) if i}  # 1 if all are free

    def encode_by(self, encode: Encoder) -> None:
        """Take contexts from the queries' own task, prompt and features through an encoder."""
        self.parts = (type(encode).__name__,)
        self._encode(encode)

    def _encode(self, encode: Encoder) -> None:
        self.contexts = np.stack([encode(request) for request in requests(self.table)])
        self.dim = encode.dim

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """See `Environment`."""
        n, playable = len(self.contexts), self.table.playable
        passes = -(-horizon // n)
        order = np.concatenate([generator(self.name, "order", seed, i).permutation(n) for i in range(passes)])[:horizon]
        for start in range(0, horizon, BLOCK):
            rows = order[start : start + BLOCK]
            outcomes = self.table.outcomes[rows]
            yield Block(self.contexts[rows], outcomes, outcomes, None if playable is None else playable[rows])

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
            **({"holes": self.table.holes, "comparators": COMPARATORS} if self.table.holes else {}),
            **({"text": _fitted(self.table)} if "text" in self.parts else {}),
        }


def requests(table: OutcomeTable) -> Iterator[Request]:
    """Every query of a table as what a router is asked."""
    for row, task in enumerate(table.tasks):
        yield Request(
            task=task,
            text=None if table.prompts is None else table.prompts[row],
            features=None if table.features is None else table.features[row],
        )


def encoder(table: OutcomeTable, parts: Sequence[str]) -> Encoder:
    """The encoder of a table's queries: a constant 1, then the parts in the given order.

    Args:
        parts: "task" (one column per task, in sorted order, and a last one for queries without), "features"
            (precomputed) and "text" (at most `COMPONENTS` principal components of the prompts' embedding, fitted on the
            prompts of the first `FITTED_ON` queries, never on outcomes; needs the extra `text`).

    Raises:
        InvalidInput: a part is unknown, or the table has not what it reads.
    """
    return Concat(Bias(), *(_part(table, part) for part in parts))


def _part(table: OutcomeTable, part: str) -> Encoder:
    if part == "task":
        return OneHotTask(tasks=sorted({task for task in table.tasks if task is not None}))
    if part == "features":
        if table.features is None:
            raise InvalidInput(f"table {table.name!r} has no features.parquet; use contexts = ['task']")
        return Precomputed(dim=table.features.shape[1])
    if part == "text":
        texts, components = _texts(table), _fitted(table)["components"]
        if components < 1:
            raise InvalidInput(f"table {table.name!r} has {len(texts)} different prompts at its head; text needs 3")
        return Embedding(whitening=fit_pca(wordllama(texts), components=components))
    raise InvalidInput(f"unknown context part {part!r}; there are {', '.join(CONTEXTS)}")


def _texts(table: OutcomeTable) -> list[str]:
    """The different prompts of the first queries, in order."""
    return list(dict.fromkeys(text for text in (table.prompts or ())[:FITTED_ON] if text and text.strip()))


def _fitted(table: OutcomeTable) -> dict[str, int]:
    """How many components there are, and on how many of the first queries they are fitted."""
    return {"components": min(COMPONENTS, len(_texts(table)) - 2), "fitted_on": min(FITTED_ON, len(table.tasks))}


def describe_table(table: OutcomeTable) -> dict[str, Any]:
    """Check figures of a table: sizes, holes, means per arm, best single arm, oracle, random, best arm per task.

    Means of an arm are over the cells it has; oracle and random are over the playable arms of each query.
    """
    quality = table.outcomes[:, :, 0]
    means = mean_per_arm(table.outcomes)
    best = int(means[:, 0].argmax())
    groups: dict[str | None, list[int]] = {}  # queries without a task are one
    for row, task in enumerate(table.tasks):
        groups.setdefault(task, []).append(row)
    per_task = [np.nanmax(mean_per_arm(table.outcomes[rows, :, :1])) * len(rows) for rows in groups.values()]
    return {
        "table": table.name,
        "queries": len(quality),
        "arms": len(table.arms),
        "holes": table.holes,
        "tasks": len({task for task in table.tasks if task is not None}),
        "channels": list(table.channels),
        "features": 0 if table.features is None else table.features.shape[1],
        "best_single_arm": {"arm": table.arms[best], "quality_mean": float(means[best, 0])},
        "oracle_quality_mean": float(np.nanmax(quality, axis=1).mean()),
        "random_quality_mean": float(np.nanmean(quality, axis=1).mean()),
        "best_per_task_quality_mean": float(sum(per_task) / len(quality)),
        "per_arm": [
            {"arm": arm}
            | {f"{c}_mean": float(m) if np.isfinite(m) else None for c, m in zip(table.channels, row, strict=True)}
            for arm, row in zip(table.arms, means, strict=True)
        ],
    }
