"""The event log as Parquet: the columns of `Row`, contexts as lists, read and checked column by column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidLog
from bandit_router.records.arms import natural
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.row import COLUMNS, Kind, Row, of_kind
from bandit_router.replay.logs.rules import LENGTH, TWICE, of_frame

if TYPE_CHECKING:
    import polars as pl

ARMS_KEY = "bandit_router.arms"
FEATURES_KEY = "bandit_router.features"
_NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind == "number")
_DEFAULTS = {
    "context": [1.0],
    **{f.name: f.default for f in msgspec.structs.fields(Row) if f.default is not msgspec.NODEFAULT},
}


def read_parquet(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read an event log in Parquet; rows that cannot be used are reported by their number.

    The arm order is `arms`, else the one the writer stored, else the ids found, numbers in them by value.
    """
    import polars as pl

    try:
        frame = pl.read_parquet(path)
        stored = pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidLog(f"{path}: expected a Parquet file, got {error}") from None
    intake.lines += frame.height
    frame = _typed(frame, str(path))
    order = _order(frame, tuple(arms) if arms is not None else tuple(json.loads(stored.get(ARMS_KEY, "[]"))))
    frame = _checked(frame, str(path), intake, order)
    intake.taken += frame.height
    if not frame.height:
        raise intake.unusable(str(path))
    return _log(frame, order, json.loads(stored.get(FEATURES_KEY, "null")))


def write_parquet(log: LoggedEvents, path: Path) -> None:
    """Write an event log in Parquet (zstd), the arm order and the feature names in the file's metadata."""
    import polars as pl

    columns: dict[str, Any] = {
        **{name: getattr(log, name).tolist() for name in of_kind("text")},
        **{name: getattr(log, name) for name in of_kind("number", "whole", "flag")},
        **{name: log.channel(name) for name in CHANNELS},
        "context": list(log.contexts),
        "arm": [log.arms[i] for i in log.arm],
        "probabilities": None if log.probabilities is None else list(log.probabilities),
        **{name: _ids(log, getattr(log, name)) for name in of_kind("ids")},
    }
    n, types = len(log), _types()
    frame = pl.DataFrame(
        [
            pl.Series(name, [None] * n if columns[name] is None else columns[name], dtype=types[name], strict=False)
            for name in COLUMNS
        ]
    ).with_columns(pl.col(*_NUMBERS).fill_nan(None))
    metadata = {ARMS_KEY: json.dumps(log.arms), FEATURES_KEY: json.dumps(log.features)}
    frame.write_parquet(path, metadata=metadata)


def _ids(log: LoggedEvents, mask: Bool | None) -> list[list[str]] | None:
    arms = np.array(log.arms, dtype=object)
    return None if mask is None else [arms[row].tolist() for row in mask]


def _typed(frame: pl.DataFrame, file: str) -> pl.DataFrame:
    """Missing columns at their defaults, present ones at their types."""
    import polars as pl

    if "arm" not in frame.columns:
        raise InvalidLog(f"{file}: expected an event log with a column arm, got {', '.join(frame.columns)}")
    if "event_id" not in frame.columns:
        frame = frame.with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))
    try:
        return frame.select(
            pl.col(name).cast(dtype) if name in frame.columns else pl.lit(value, dtype=dtype).alias(name)
            for name, dtype, value in ((name, dtype, _DEFAULTS.get(name)) for name, dtype in _types().items())
        ).with_columns(
            pl.col(*_NUMBERS).fill_null(float("nan")),
            context=pl.when(pl.col("context").list.len() == 0).then(pl.lit([1.0])).otherwise("context"),
        )
    except pl.exceptions.PolarsError as error:
        raise InvalidLog(f"{file}: a column has the wrong type: {error}") from None


def _types() -> dict[str, Any]:
    """The type of each column."""
    import polars as pl

    kinds: dict[Kind, Any] = {
        "arm": pl.String,
        "text": pl.String,
        "number": pl.Float64,
        "whole": pl.Int64,
        "flag": pl.Boolean,
        "ids": pl.List(pl.String),
        "context": pl.List(pl.Float64),
        "distribution": pl.List(pl.Float64),
    }
    return {name: kinds[kind] for name, kind in COLUMNS.items()}


def _order(frame: pl.DataFrame, known: tuple[str, ...]) -> tuple[str, ...]:
    return known or arm_ids(frame.lazy())


def arm_ids(frame: pl.LazyFrame) -> tuple[str, ...]:
    """Every arm id in the columns arm, eligible, resident and unhealthy, numbers in them by value."""
    import polars as pl

    columns = {"arm": pl.col("arm").cast(pl.String)}
    for name in {"eligible", "resident", "unhealthy"}.intersection(frame.collect_schema().names()):
        columns[name] = pl.col(name).cast(pl.List(pl.String)).drop_nulls().explode()
    found: set[str] = set()
    for column in columns.values():
        found |= set(frame.select(column.drop_nulls().unique()).collect(engine="streaming").to_series())
    return tuple(sorted(found, key=natural))


def _checked(frame: pl.DataFrame, file: str, intake: Intake, arms: tuple[str, ...]) -> pl.DataFrame:
    """The usable rows; the others are reported with the first reason that holds."""
    import polars as pl

    marked = frame.with_row_index("_row", offset=1).with_columns(_reason=of_frame(arms))
    fit, length = pl.col("_reason").is_null(), pl.col("context").list.len().fill_null(0)
    first = length.filter(fit).first()  # of the first row that is taken
    marked = marked.with_columns(_reason=pl.when(fit & (length != first)).then(pl.lit(LENGTH)).otherwise("_reason"))
    again = fit & ~pl.when(fit).then("event_id").is_first_distinct()
    marked = marked.with_columns(_reason=pl.when(again).then(pl.lit(TWICE)).otherwise("_reason"))
    for row, why, event in marked.filter(pl.col("_reason").is_not_null()).select("_row", "_reason", "event_id").rows():
        intake.reject(file, row, why, f"event {event}")
    return marked.filter(pl.col("_reason").is_null()).drop("_row", "_reason")


def _log(frame: pl.DataFrame, arms: tuple[str, ...], features: list[str] | None) -> LoggedEvents:
    import polars as pl

    contexts = _matrix(frame["context"])
    names = features if features and len(features) == contexts.shape[1] else [f"f{j}" for j in range(contexts.shape[1])]
    index = frame["arm"].replace_strict(list(arms), list(range(len(arms))), return_dtype=pl.Int64)
    spread = frame["probabilities"]
    columns: dict[str, Any] = {
        **{name: frame[name].to_numpy() for name in of_kind("number", "whole")},
        **{name: frame[name].to_numpy().astype(object) for name in of_kind("text")},
        **{name: frame[name].to_numpy().astype(np.bool_) for name in of_kind("flag")},
    }
    return LoggedEvents(
        arms=arms,
        features=tuple(names),
        contexts=contexts,
        arm=index.to_numpy().astype(np.intp),
        outcomes=frame.select(CHANNELS).to_numpy(),
        **columns,
        eligible=_mask(frame["eligible"], arms, missing=True),
        resident=_mask(frame["resident"], arms, missing=None),
        unhealthy=_mask(frame["unhealthy"], arms, missing=False),
        probabilities=None if spread.null_count() else _matrix(spread),
    )


def _matrix(column: pl.Series) -> F64:
    n = len(column)
    return np.ascontiguousarray(column.explode().to_numpy().reshape(n, -1), dtype=np.float64)


def _mask(column: pl.Series, arms: tuple[str, ...], *, missing: bool | None) -> Bool | None:
    """Lists of ids as a mask; a missing list means `missing` for every arm, or with None no mask at all."""
    if column.null_count() == len(column) or (column.null_count() and missing is None):
        return None
    if column.null_count():
        column = column.fill_null(list(arms) if missing else [])
    return np.stack([column.list.contains(arm).to_numpy() for arm in arms], axis=1).astype(np.bool_)
