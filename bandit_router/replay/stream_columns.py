"""What a streaming pass computes of every row, as expressions over the columns of a Parquet log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bandit_router.errors import InvalidLog
from bandit_router.reading.columnar import readable
from bandit_router.records.outcomes import CHANNELS, COSTS, Utility
from bandit_router.replay.logs.parquet import ARMS_KEY, arm_ids
from bandit_router.replay.logs.rules import weighable

if TYPE_CHECKING:
    import polars as pl


class Source(NamedTuple):
    """A Parquet log: its scan, its columns, its rows, and the arms that it knows."""

    scan: pl.LazyFrame
    names: Sequence[str]
    rows: int
    arms: tuple[str, ...]


def opened(path: Path) -> Source:
    """The log in a file; nothing of its rows is in memory. Raises InvalidLog."""
    import polars as pl

    with readable(path, "an event log in Parquet"):
        scan = pl.scan_parquet(path)
        names = scan.collect_schema().names()
        rows = int(scan.select(pl.len()).collect().item())
        stored = json.loads(pl.read_parquet_metadata(path).get(ARMS_KEY, "[]"))
    if not {"arm", "propensity"} <= set(names):
        raise InvalidLog(f"{path}: expected columns arm and propensity, got {', '.join(names)}")
    with readable(path, "numbers in weight"):
        _check_weights(path, scan, names)
    with readable(path, "arm ids"):
        return Source(scan, names, rows, tuple(stored) or arm_ids(scan))


def _check_weights(path: Path, scan: pl.LazyFrame, names: Sequence[str]) -> None:
    import polars as pl

    if "weight" not in names:
        return
    other = pl.col("weight").cast(pl.Float64) != 1
    if scan.select(other.any()).collect(engine="streaming").item():
        raise InvalidLog(f"{path}: expected a weight of 1 in every row, got others; sums have none, replay in memory")


def mode(source: Source) -> pl.Expr:
    """The mode of a row."""
    import polars as pl

    column = pl.col("mode").cast(pl.String) if "mode" in source.names else pl.lit(None, dtype=pl.String)
    return column.fill_null("online").alias("mode")


def usable(source: Source) -> pl.Expr:
    """Whether a row of a mode that counts does: an arm, a propensity in (0, 1], not degraded."""
    import polars as pl

    fit = pl.col("arm").is_not_null() & weighable(pl.col("propensity").cast(pl.Float64))
    if "degraded" in source.names:
        fit &= ~pl.col("degraded").cast(pl.Boolean).fill_null(False)
    return fit.fill_null(False)


def metrics(source: Source, utility: Utility) -> dict[str, pl.Expr]:
    """Utility, unless quality is all of it, and the channels that have a column."""
    import polars as pl

    columns = {name: pl.col(name).cast(pl.Float64) for name in (*CHANNELS, "reward") if name in source.names}
    if main_metric(utility) == "quality":
        return columns
    unknown = pl.lit(None, dtype=pl.Float64)
    weights = zip(CHANNELS, utility.weights(CHANNELS).tolist(), strict=True)
    parts = [columns.get(name, unknown) * weight for name, weight in weights if utility.priced(name)]
    return {"utility": pl.sum_horizontal(parts, ignore_nulls=False), **columns}


def main_metric(utility: Utility) -> str:
    """The metric that is the utility: quality where it prices nothing else."""
    return "utility" if any(utility.priced(name) for name in COSTS) else "quality"


def target(source: Source, arm: str | None) -> pl.Expr:
    """The target's probability of the served arm; `arm` is eligible only in a log that knows it."""
    import polars as pl

    share: pl.Expr = pl.lit(1.0 / len(source.arms) if source.arms else None, dtype=pl.Float64)
    offered: pl.Expr = pl.lit(arm in source.arms)
    if "eligible" in source.names:
        eligible = pl.col("eligible").cast(pl.List(pl.String))
        share = (1.0 / eligible.list.len()).fill_null(share)
        offered = eligible.list.contains(arm or "").fill_null(offered)
    if arm is None:
        return share
    same = (pl.col("arm").cast(pl.String) == arm).cast(pl.Float64)
    return pl.when(offered).then(same).otherwise(share)
