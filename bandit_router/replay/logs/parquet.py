"""The event log as Parquet: the columns of `Row`, contexts as lists, read and checked column by column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidLog
from bandit_router.records.outcomes import CHANNELS, COSTS
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.logged import LoggedEvents

if TYPE_CHECKING:
    import polars as pl

ARMS_KEY = "bandit_router.arms"
FEATURES_KEY = "bandit_router.features"
_NUMBERS = (*CHANNELS, "reward", "timestamp_s", "propensity")


def read_parquet(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read an event log in Parquet; rows that cannot be used are reported by their number.

    The arm order is `arms`, else the one the writer stored, else the ids found, sorted.
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
        "event_id": log.event_id.tolist(),
        "timestamp_s": log.timestamp_s,
        "context": list(log.contexts),
        "eligible": _ids(log, log.eligible),
        "arm": [log.arms[i] for i in log.arm],
        "propensity": log.propensity,
        "policy": log.policy.tolist(),
        "state_version": log.state_version,
        "resident": _ids(log, log.resident),
        **{name: log.outcomes[:, c] for c, name in enumerate(CHANNELS)},
        "reward": log.reward,
        "mode": log.mode.tolist(),
        "degraded": log.degraded,
        "weight": log.weight,
        "probabilities": None if log.probabilities is None else list(log.probabilities),
    }
    lists = {"context": pl.Float64, "probabilities": pl.Float64, "eligible": pl.String, "resident": pl.String}
    n = len(log)
    frame = pl.DataFrame(
        [
            pl.Series(name, [None] * n if values is None else values, dtype=pl.List(lists[name]))
            if name in lists
            else pl.Series(name, values)
            for name, values in columns.items()
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

    defaults: dict[str, tuple[Any, Any]] = {
        **{name: (pl.Float64, None) for name in _NUMBERS},
        "context": (pl.List(pl.Float64), [1.0]),
        "eligible": (pl.List(pl.String), None),
        "resident": (pl.List(pl.String), None),
        "probabilities": (pl.List(pl.Float64), None),
        "policy": (pl.String, ""),
        "mode": (pl.String, "online"),
        "state_version": (pl.Int64, -1),
        "degraded": (pl.Boolean, False),
        "weight": (pl.Float64, 1.0),
        "event_id": (pl.String, None),
        "arm": (pl.String, None),
    }
    if "arm" not in frame.columns:
        raise InvalidLog(f"{file}: expected an event log with a column arm, got {', '.join(frame.columns)}")
    if "event_id" not in frame.columns:
        frame = frame.with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))
    try:
        return frame.select(
            pl.col(name).cast(dtype) if name in frame.columns else pl.lit(value, dtype=dtype).alias(name)
            for name, (dtype, value) in defaults.items()
        ).with_columns(
            pl.col(*_NUMBERS).fill_null(float("nan")),
            context=pl.when(pl.col("context").list.len() == 0).then(pl.lit([1.0])).otherwise("context"),
        )
    except pl.exceptions.PolarsError as error:
        raise InvalidLog(f"{file}: a column has the wrong type: {error}") from None


def _order(frame: pl.DataFrame, known: tuple[str, ...]) -> tuple[str, ...]:
    return known or arm_ids(frame.lazy())


def arm_ids(frame: pl.LazyFrame) -> tuple[str, ...]:
    """Every arm id in the columns arm, eligible and resident, sorted."""
    import polars as pl

    columns = {"arm": pl.col("arm").cast(pl.String)}
    for name in {"eligible", "resident"}.intersection(frame.collect_schema().names()):
        columns[name] = pl.col(name).cast(pl.List(pl.String)).drop_nulls().explode()
    found: set[str] = set()
    for column in columns.values():
        found |= set(frame.select(column.drop_nulls().unique()).collect(engine="streaming").to_series())
    return tuple(sorted(found))


def _checked(frame: pl.DataFrame, file: str, intake: Intake, arms: tuple[str, ...]) -> pl.DataFrame:
    """The usable rows; the others are reported with the first reason that holds."""
    import polars as pl

    length = frame["context"].list.len().drop_nulls().head(1).sum()
    p, eligible = pl.col("propensity"), pl.col("eligible")
    unfit = pl.any_horizontal(pl.col(name).is_infinite() for name in _NUMBERS)
    mentions = (name for name in ("eligible", "resident"))
    strangers = pl.any_horizontal(
        ~pl.col("arm").is_in(arms),
        *(pl.col(name).list.set_difference(list(arms)).list.len() > 0 for name in mentions),
    ).fill_null(False)
    spread = pl.col("probabilities")
    rules = {
        "empty event id or arm": (pl.col("event_id").fill_null("") == "") | (pl.col("arm").fill_null("") == ""),
        "propensity outside (0, 1]": p.is_not_nan() & ~((p > 0) & (p <= 1)),
        "served arm not among the eligible": eligible.is_not_null() & ~eligible.list.contains(pl.col("arm")),
        "arm not in the given catalogue": strangers,
        "context has another length than the first row's": pl.col("context").list.len().fill_null(0) != length,
        "context not finite": ~pl.col("context").list.eval(pl.element().is_finite()).list.all(),
        "outcome, reward or timestamp not finite": unfit,
        "negative cost": pl.any_horizontal(pl.col(name) < 0 for name in COSTS),
        "weight or state_version out of range": ~((pl.col("weight") > 0) & pl.col("weight").is_finite()),
        "probabilities are no distribution over the arms": spread.is_not_null()
        & ((spread.list.len() != len(arms)) | (spread.list.min() < 0) | ((spread.list.sum() - 1).abs() > 1e-3)),
        "duplicate event id": ~pl.col("event_id").is_first_distinct(),
    }
    reason = pl.coalesce(pl.when(rule.fill_null(True)).then(pl.lit(name)) for name, rule in rules.items())
    marked = frame.with_row_index("_row", offset=1).with_columns(_reason=reason)
    for row, why, event in marked.filter(pl.col("_reason").is_not_null()).select("_row", "_reason", "event_id").rows():
        intake.reject(file, row, why, f"event {event}")
    return marked.filter(pl.col("_reason").is_null()).drop("_row", "_reason")


def _log(frame: pl.DataFrame, arms: tuple[str, ...], features: list[str] | None) -> LoggedEvents:
    import polars as pl

    contexts = _matrix(frame["context"])
    names = features if features and len(features) == contexts.shape[1] else [f"f{j}" for j in range(contexts.shape[1])]
    index = frame["arm"].replace_strict(list(arms), list(range(len(arms))), return_dtype=pl.Int64)
    spread = frame["probabilities"]
    return LoggedEvents(
        arms=arms,
        features=tuple(names),
        event_id=frame["event_id"].to_numpy().astype(object),
        contexts=contexts,
        arm=index.to_numpy().astype(np.intp),
        outcomes=frame.select(CHANNELS).to_numpy(),
        **{name: frame[name].to_numpy() for name in ("timestamp_s", "propensity", "reward", "state_version")},
        **{name: frame[name].to_numpy().astype(object) for name in ("policy", "mode")},
        degraded=frame["degraded"].to_numpy().astype(np.bool_),
        weight=frame["weight"].to_numpy(),
        eligible=_mask(frame["eligible"], arms, missing=True),
        resident=_mask(frame["resident"], arms, missing=None),
        probabilities=None if spread.null_count() else _matrix(spread),
    )


def _matrix(column: pl.Series) -> F64:
    n = len(column)
    return np.ascontiguousarray(column.explode().to_numpy().reshape(n, -1), dtype=np.float64)


def _mask(column: pl.Series, arms: tuple[str, ...], *, missing: bool | None) -> Bool | None:
    """Lists of ids as a mask; a missing list means all arms, or no mask at all when `missing` is None."""
    if column.null_count() == len(column) or (column.null_count() and missing is None):
        return None
    if column.null_count():
        column = column.fill_null(list(arms))
    return np.stack([column.list.contains(arm).to_numpy() for arm in arms], axis=1).astype(np.bool_)
