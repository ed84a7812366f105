"""Fixed policies on logs larger than memory: one pass over Parquet in slices, blocks of moments out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.reading.columnar import readable
from bandit_router.records.outcomes import COSTS, Utility
from bandit_router.replay.estimators.moments import Moments
from bandit_router.replay.modes import SERVED
from bandit_router.replay.stream_columns import Source, metrics, mode, opened, target, usable
from bandit_router.replay.targets import named

if TYPE_CHECKING:
    import polars as pl

SLICE, BLOCK = 1 << 20, 1 << 16


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass found.

    Attributes:
        target: what was evaluated, and at which prices, see `target_of`; parts of different ones cannot be merged.
        arms: ids that the log knows.
        blocks: moments of consecutive runs of at most 65,536 rows, in order, by metric.
        rows: all rows. left_out: rows of a mode that counts without a usable propensity or arm, or degraded.
        other: rows of the modes that do not count, by mode.
        unjoined: usable rows in which the metric was not logged.
        smallest: smallest propensity.
    """

    target: str
    arms: list[str]
    blocks: dict[str, list[Moments]]
    rows: int
    left_out: int
    other: dict[str, int]
    unjoined: dict[str, int]
    smallest: float

    def require(self, target: str, source: str = "") -> None:
        """Raise InvalidInput, naming the source, where these are the sums of something else."""
        if self.target != target:
            raise InvalidInput(f"{source and f'{source}: '}expected the sums of {target}, got {self.target}")

    def require_arm(self, policy: str) -> None:
        """Raise InvalidInput where the policy is an arm that the log does not know."""
        kind, name = named(policy)
        if kind == "arm" and name not in self.arms:
            raise InvalidInput(f"unknown arm {name!r}; the log has {', '.join(self.arms)}")

    def merge(self, later: Streamed) -> Streamed:
        """This part followed by a later one, from another file or machine. Raises InvalidInput for other targets."""
        later.require(self.target)
        names = [*self.blocks, *(name for name in later.blocks if name not in self.blocks)]
        return Streamed(
            target=self.target,
            arms=list(dict.fromkeys([*self.arms, *later.arms])),
            blocks={name: self.blocks.get(name, []) + later.blocks.get(name, []) for name in names},
            rows=self.rows + later.rows,
            left_out=self.left_out + later.left_out,
            other=_added(self.other, later.other),
            unjoined=_added(self.unjoined, later.unjoined),
            smallest=min(self.smallest, later.smallest),
        )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}


def target_of(policy: str, utility: Utility, modes: Sequence[str] | None = None) -> str:
    """A policy, the utility that it is valued in and the modes of the rows where they are chosen, in words.

    Example:
        >>> target_of("arm=large", Utility(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.01}))
        'arm=large, utility quality - 0.2 cost_usd / 0.01'
    """
    priced = [name for name in COSTS if utility.priced(name)]
    costs = [f" - {float(utility.prices[name])} {name} / {float(utility.scales.get(name, 1.0))}" for name in priced]
    chosen = "" if modes is None else f", mode {' '.join(sorted(set(modes)))}"
    return f"{policy}, utility quality{''.join(costs)}{chosen}"


def stream(
    paths: Sequence[Path], arm: str | None, *, utility: Utility | None = None, modes: Sequence[str] | None = None
) -> Streamed:
    """Moments of "always this arm" (None: uniform over the eligible arms) for utility and every metered channel.

    Args:
        paths: event logs in Parquet, in their order.
        arm: uniform over the eligible arms in rows where it is not eligible, among them all of a file that does not
            know it.
        utility: prices; default quality alone.
        modes: of the rows that count; default all but those in which the baseline served, see `SERVED`.

    One slice of 1,048,576 rows is in memory at a time. Rows are not checked one by one; those without arm or with a
    propensity outside (0, 1] are counted in `left_out`.

    Raises:
        InvalidLog: no such file, a column is missing or has the wrong type, or no row can be used in any mode.
    """
    prices = utility or Utility()
    of = target_of("uniform" if arm is None else f"arm={arm}", prices, modes)
    total = Streamed(target=of, arms=[], blocks={}, rows=0, left_out=0, other={}, unjoined={}, smallest=1.0)
    for path in paths:
        source = opened(path)
        for part in _parts(source, path, arm, prices, modes):
            total = total.merge(msgspec.structs.replace(part, target=of, arms=list(source.arms)))
    if total.rows == total.left_out:
        raise InvalidLog(f"none of the {total.rows} rows has an arm, a propensity in (0, 1] and is not degraded")
    metered = {name: blocks for name, blocks in total.blocks.items() if any(block.n for block in blocks)}
    return msgspec.structs.replace(total, blocks=metered, unjoined={name: total.unjoined[name] for name in metered})


def _parts(
    source: Source, path: Path, arm: str | None, utility: Utility, modes: Sequence[str] | None
) -> Iterator[Streamed]:
    import polars as pl

    columns = metrics(source, utility)
    counts = ~mode(source).is_in(list(SERVED)) if modes is None else mode(source).is_in(list(modes))
    query = source.scan.select(
        mode=pl.when(~counts).then(mode(source)),
        usable=usable(source),
        target=target(source, arm),
        p=pl.col("propensity").cast(pl.Float64),
        **columns,
    )
    for offset in range(0, source.rows, SLICE):
        with readable(path, "numbers, lists of arm ids in eligible, and truth in degraded"):
            frame = query.slice(offset, SLICE).collect()
        yield _moments(frame, list(columns))


def _moments(frame: pl.DataFrame, metrics: list[str]) -> Streamed:
    rows, other = frame.height, frame["mode"].drop_nulls().value_counts()
    if len(other):
        frame = frame.filter(frame["mode"].is_null())
    counting = frame.height
    if not frame["usable"].all():
        frame = frame.filter("usable")
    p, n = frame["p"].to_numpy(), frame.height
    weight = frame["target"].to_numpy() / p
    blocks = {name: _blocks(weight, frame[name].to_numpy()) for name in metrics}
    return Streamed(
        target="",
        arms=[],
        blocks=blocks,
        rows=rows,
        left_out=counting - n,
        other=dict(other.iter_rows()),
        unjoined={name: n - sum(block.n for block in blocks[name]) for name in metrics},
        smallest=float(p.min()) if n else 1.0,
    )


def _blocks(weight: F64, reward: F64) -> list[Moments]:
    """Moments of runs of `BLOCK` rows; rows without reward are left out first."""
    joined = ~np.isnan(reward)
    if not joined.all():
        weight, reward = weight[joined], reward[joined]
    played = np.flatnonzero(weight)
    return [
        _sums(weight, reward, played, start, min(start + BLOCK, len(reward))) for start in range(0, len(reward), BLOCK)
    ]


def _sums(weight: F64, reward: F64, played: Index, start: int, end: int) -> Moments:
    """Sums over rows start..end; those with a weight run over the rows that the target plays alone."""
    inside = played[np.searchsorted(played, start) : np.searchsorted(played, end)]
    w, r, y = weight[inside], reward[inside], reward[start:end]
    wr = w * r
    return Moments(
        n=end - start,
        w=float(w.sum()),
        ww=float(w @ w),
        r=float(y.sum()),
        rr=float(y @ y),
        wr=float(wr.sum()),
        wrr=float(wr @ r),
        wwr=float(w @ wr),
        wwrr=float(wr @ wr),
        largest=float(w.max(initial=0.0)),
        low=float(y.min()),
        high=float(y.max()),
    )


def write_part(part: Streamed, path: Path) -> None:
    """Save moments, for another machine to merge."""
    path.write_bytes(msgspec.json.encode(part))


def read_part(path: Path) -> Streamed:
    """What `write_part` saved. Raises InvalidLog for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Streamed)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidLog(f"{path}: expected moments of a streamed replay, got {error}") from None
