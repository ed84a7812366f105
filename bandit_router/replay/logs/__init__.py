"""Production logs: the canonical log in memory, and one file per format. `FORMATS` is the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.reading.expressions import parse_expression
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.dsjson import read_dsjson, write_dsjson
from bandit_router.replay.logs.intake import BadLine, Intake
from bandit_router.replay.logs.jsonl import read_jsonl, write_jsonl
from bandit_router.replay.logs.litellm import read_litellm
from bandit_router.replay.logs.logged import LoggedEvents, Scaling, concatenate, rescaled
from bandit_router.replay.logs.obp import read_obp, write_obp
from bandit_router.replay.logs.otel import read_otel
from bandit_router.replay.logs.otel_export import write_otel
from bandit_router.replay.logs.parquet import read_parquet, write_parquet
from bandit_router.replay.logs.store import is_url, read_store
from bandit_router.replay.logs.table import read_csv, read_open_bandit, write_csv

Reader = Callable[..., LoggedEvents]
Writer = Callable[[LoggedEvents, Path], None]

FORMATS: dict[str, tuple[Reader, Writer | None]] = {
    "parquet": (read_parquet, write_parquet),
    "jsonl": (read_jsonl, write_jsonl),
    "csv": (read_csv, write_csv),
    "dsjson": (read_dsjson, write_dsjson),
    "obp": (read_obp, write_obp),
    "open-bandit": (read_open_bandit, None),
    "litellm": (read_litellm, None),
    "otel": (read_otel, write_otel),
    "store": (read_store, None),
}
TABLES = ("csv", "jsonl", "parquet")
JOINED = ("litellm", "otel")  # what belongs to one decision may lie in several files: read together
MAPPED = ("csv", "jsonl", "parquet", "dsjson", "otel")  # what takes a column map
_SUFFIXES = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    ".dsjson": "dsjson",
    ".npz": "obp",
}


def format_of(path: str | Path, name: str | None = None) -> str:
    """The format's name: as given, else a store for a URL, else by suffix. Raises InvalidInput when none tells."""
    chosen = name or ("store" if is_url(path) else _SUFFIXES.get(_suffix(path)))
    if chosen not in FORMATS:
        raise InvalidInput(
            f"{path}: which format? There are {', '.join(FORMATS)}; pass one with --format; a store is "
            "named by its URL, such as sqlite:///events.db"
        )
    return chosen


def _suffix(path: str | Path) -> str:
    """The suffix that names the format, before that of a compression."""
    return next((s for s in reversed(Path(path).suffixes) if s not in (".gz", ".zst")), "").lower()


def read_logs(
    paths: Sequence[str | Path],
    intake: Intake,
    *,
    format: str | None = None,
    arms: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> LoggedEvents:
    """Read one log from files and stores, in their order; files of a format in `JOINED` are read as one, in any.

    Args:
        paths: files, folders of them, `-` for standard input (with a format), and URLs of stores.
        intake: what was taken and refused; with `strict` the first bad line raises.
        format: name in `FORMATS`; default by suffix.
        arms: catalogue order; default the file's own, else the ids found, numbers in them by value.
        columns: column map of a table, see `read_csv`, or which evaluator is which field, see `read_otel`. For every
            format quality, reward and costs may be rescaled, as in {"quality": "quality/5"}.

    Raises:
        InvalidInput: no known format, or an arm is named twice.
        InvalidLog: a file cannot be read, no line of it is usable, or `strict` met a bad one.
    """
    if arms is not None and len(set(arms)) < len(arms):
        raise InvalidInput(f"arms must name every arm once, got {', '.join(arms)}")
    members = [(member, folder) for path in paths for member, folder in _members(path, format, intake)]
    names = [format_of(member, format) for member, _ in members]
    mapping, scales = split_columns(columns or {}, names)
    if len(set(names)) == 1 and names[0] in JOINED:
        groups = [(names[0], [member for member, _ in members], False)]
    else:
        groups = [(name, [member], folder) for name, (member, folder) in zip(names, members, strict=True)]
    logs = []
    for name, files, folder in groups:
        intake.begin()
        try:
            logs.append(_read_one(name, files, intake, arms, mapping))
        except InvalidLog as error:
            if not folder or intake.strict:
                raise
            intake.notes[f"files of a folder left out: {error}"] += 1
    if not logs:
        raise InvalidLog(f"{paths[0]}: no file of the folder is a log; {'; '.join(intake.notes)}"[:2000])
    return rescaled(concatenate(logs), scales)


def _members(path: str | Path, format: str | None, intake: Intake) -> list[tuple[str | Path, bool]]:
    """A file or store itself; for a folder its files, in order of their names, and that they come from one."""
    if is_url(path) or not Path(path).is_dir():
        return [(path, False)]
    files = [file for file in sorted(Path(path).rglob("*")) if file.is_file() and not file.name.startswith(".")]
    fit = [file for file in files if (format or _suffix(file) in _SUFFIXES) and not _companion(file, format)]
    for file in files:
        if file not in fit:
            intake.notes[f"files of a folder left out: {file}"] += 1
    if not fit:
        raise InvalidLog(f"{path}: no log among the {len(files)} files of this folder")
    return [(file, True) for file in fit]


def _companion(file: Path, format: str | None) -> bool:
    """What Open Bandit publishes beside its log: the features of the items, which are no decisions."""
    return format == "open-bandit" and file.name.startswith("item_context")


def _read_one(
    name: str, files: Sequence[str | Path], intake: Intake, arms: Sequence[str] | None, columns: Mapping[str, str]
) -> LoggedEvents:
    read = partial(FORMATS[name][0], columns=columns) if columns else FORMATS[name][0]
    places: list[str | Path] = list(files) if name == "store" else [Path(one) for one in files]
    try:
        return read(places if name in JOINED else places[0], intake, arms=arms)
    except OSError as error:
        raise InvalidLog(f"{error.filename or files[0]}: {error.strerror or error}") from None


def split_columns(columns: Mapping[str, str], names: Sequence[str]) -> tuple[dict[str, str], dict[str, Scaling]]:
    """The column map for readers that take one, and the scales of the fields of those that do not.

    Raises:
        InvalidInput: a column is named for a format that takes no map.
    """
    if all(name in TABLES for name in names):
        return dict(columns), {}
    mapping: dict[str, str] = {}
    scales: dict[str, Scaling] = {}
    for field, text in columns.items():
        if field not in (*CHANNELS, "reward"):
            mapping[field] = text
            continue
        scale = parse_expression(text, None)
        if scale.steps:
            scales[field] = scale
        if scale.column != field or not scale.steps:
            mapping[field] = scale.column
    if mapping and (wrong := [name for name in names if name not in MAPPED]):
        raise InvalidInput(f"a column map is for {', '.join(MAPPED)}, this is {wrong[0]}")
    return mapping, scales


def write_log(log: LoggedEvents, path: Path, *, format: str | None = None) -> None:
    """Write a log. Raises InvalidInput for a format that is only read."""
    name = format_of(path, format)
    write = FORMATS[name][1]
    if write is None:
        raise InvalidInput(f"{name} is only read; write {', '.join(n for n, (_, w) in FORMATS.items() if w)}")
    write(log, path)


__all__ = ["FORMATS", "BadLine", "Intake", "InvalidLog", "LoggedEvents", "read_logs", "write_log"]
