"""The event log as Parquet: the columns of `Row`, contexts as lists, read and checked column by column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidLog
from bandit_router.reading.cells import EPOCHS, BadCell
from bandit_router.reading.columnar import readable
from bandit_router.reading.files import STDIN, read_bytes, refuse_bomb
from bandit_router.reading.parquet_sizes import declared_size
from bandit_router.records.arms import natural
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.columns import name_unused, plan_of, row_of_cells
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.row import COLUMNS, Kind, Row, of_kind
from bandit_router.replay.logs.rules import LENGTH, TWICE, of_frame, weighable

if TYPE_CHECKING:
    import polars as pl

ARMS_KEY = "bandit_router.arms"
FEATURES_KEY = "bandit_router.features"
_NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind == "number")
_DEFAULTS = {
    "context": [1.0],
    **{f.name: f.default for f in msgspec.structs.fields(Row) if f.default is not msgspec.NODEFAULT},
}


def read_parquet(
    path: Path, intake: Intake, *, arms: Sequence[str] | None = None, columns: Mapping[str, str] | None = None
) -> LoggedEvents:
    """Read an event log in Parquet; rows that cannot be used are reported by their number.

    Columns of the event log's names and types are read as a whole. Others, and those of a column map as for `read_csv`,
    are read cell by cell. Columns that no field reads are not loaded, whatever their type, and named in a note.

    The arm order is `arms`, else the one the writer stored, else the ids found, numbers in them by value.
    """
    import polars as pl

    file = str(path)
    raw = _raw(path)
    names = _names(raw, file)
    schema: Mapping[str, pl.DataType]
    try:
        schema = pl.read_parquet_schema(raw) if isinstance(raw, Path) else pl.read_parquet(raw, n_rows=0).schema
    except (pl.exceptions.PolarsError, OSError):
        schema = {}  # a column that nobody may need has a type that Polars lacks
    native = not columns and _native(schema)
    fields = {n: [n] for n in COLUMNS if n in names} if native else plan_of(file, names, columns or {}, {}).fields
    used = list(dict.fromkeys(name for found in fields.values() for name in found))
    with readable(path):
        _refuse_bomb(path, raw, used)
        frame = pl.read_parquet(raw, columns=used)
        stored = pl.read_parquet_metadata(raw)
    name_unused(intake, names, fields)
    order = tuple(arms) if arms is not None else tuple(json.loads(stored.get(ARMS_KEY, "[]")))
    if not native:
        return _by_cells(frame, names, file, intake, columns or {}, arms=order or None)
    intake.lines += frame.height
    frame = _typed(frame, file)
    order = _order(frame, order)
    frame = _checked(frame, file, intake, order)
    intake.taken += frame.height
    if not frame.height:
        raise intake.unusable(file)
    return _log(frame, order, json.loads(stored.get(FEATURES_KEY, "null")))


def _raw(path: Path) -> Path | BytesIO:
    """The file for Polars: itself, or its content where it is compressed or standard input."""
    if str(path) != STDIN:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return path
    return BytesIO(read_bytes(path))


def _names(raw: Path | BytesIO, file: str) -> list[str]:
    """The names of the columns."""
    import polars as pl

    with readable(file):
        return list(pl.scan_parquet(raw).collect_schema())


def _refuse_bomb(path: Path, raw: Path | BytesIO, columns: Sequence[str]) -> None:
    """Raise InvalidLog when the file's own footer declares more than it can hold."""
    if isinstance(raw, BytesIO):
        refuse_bomb(path, len(raw.getbuffer()), declared_size(raw.getbuffer(), columns))
        return
    with raw.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as view:
        refuse_bomb(path, len(view), declared_size(view, columns))


def _native(schema: Mapping[str, pl.DataType]) -> bool:
    """Whether every column of the event log can be cast as a whole."""
    import polars as pl

    def fits(kind: Kind, dtype: pl.DataType) -> bool:
        inner = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else None
        words = isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)) or dtype.is_integer()
        allowed = {
            "number": dtype.is_numeric() or isinstance(dtype, pl.Datetime),
            "whole": dtype.is_integer(),
            "flag": isinstance(dtype, pl.Boolean),
            "ids": isinstance(inner, (pl.String, pl.Categorical, pl.Enum, pl.Null)),
            "context": inner is not None and inner.is_numeric(),
            "distribution": inner is not None and inner.is_numeric(),
        }
        return isinstance(dtype, pl.Null) or allowed.get(kind, words)

    known = all(fits(kind, schema[name]) for name, kind in COLUMNS.items() if name in schema)
    return "arm" in schema and known and ("context" in schema or "f0" not in schema)


def _by_cells(
    frame: pl.DataFrame,
    names: Sequence[str],
    file: str,
    intake: Intake,
    columns: Mapping[str, str],
    *,
    arms: Sequence[str] | None,
) -> LoggedEvents:
    """The log of columns with other names or types, row by row."""
    import polars as pl

    assembler = Assembler(intake, arms=arms)
    words = frame.select(pl.selectors.by_dtype(pl.String, pl.Categorical).cast(pl.String))
    plan = plan_of(file, names, columns, {name: words[name].drop_nulls().to_list() for name in words.columns})
    for line, cells in enumerate(frame.iter_rows(named=True), start=1):
        intake.lines += 1
        try:
            row = row_of_cells(cells, plan, line)
        except (BadCell, OverflowError) as error:
            intake.reject(file, line, "a cell cannot be read", str(error))
            continue
        assembler.add(file, line, row)
    return assembler.log(file)


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
            (
                pl.col(name).dt.epoch("us") / 1e6
                if isinstance(frame.schema[name], pl.Datetime)
                else pl.col(name).cast(dtype)
            )
            if name in frame.columns
            else pl.lit(value, dtype=dtype).alias(name)
            for name, dtype, value in ((name, dtype, _DEFAULTS.get(name)) for name, dtype in _types().items())
        ).with_columns(
            pl.col(*(n for n in _NUMBERS if n not in ("timestamp_s", "propensity"))).fill_null(float("nan")),
            timestamp_s=_epoch(pl.col("timestamp_s")).fill_null(float("nan")),
            propensity=pl.when(weighable(pl.col("propensity")))
            .then(pl.col("propensity").clip(upper_bound=1.0))
            .otherwise("propensity")
            .fill_null(float("nan")),
            context=pl.when(pl.col("context").list.len() == 0).then(pl.lit([1.0])).otherwise("context"),
        )
    except pl.exceptions.PolarsError as error:
        raise InvalidLog(f"{file}: a column has the wrong type: {error}") from None


def _epoch(time: pl.Expr) -> pl.Expr:
    """See `bandit_router.reading.cells.epoch`."""
    import polars as pl

    known = time.fill_nan(None)
    steps = [pl.when(known.abs() >= least).then(known / unit) for least, unit in EPOCHS]
    return pl.coalesce(*steps, known)


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
