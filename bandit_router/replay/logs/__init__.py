"""Production logs: the canonical log in memory, and one file per format. `FORMATS` is the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.replay.logs.dsjson import read_dsjson, write_dsjson
from bandit_router.replay.logs.intake import BadLine, Intake
from bandit_router.replay.logs.jsonl import read_jsonl, write_jsonl
from bandit_router.replay.logs.litellm import read_litellm
from bandit_router.replay.logs.logged import LoggedEvents, concatenate
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
JOINED = ("litellm", "otel")  # what belongs to one decision may lie in several files: read together
MAPPED = ("csv", "otel")  # what takes a column map
_SUFFIXES = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv", ".dsjson": "dsjson", ".npz": "obp"}


def format_of(path: str | Path, name: str | None = None) -> str:
    """The format's name: as given, else a store for a URL, else by suffix. Raises InvalidInput when none tells."""
    chosen = name or ("store" if is_url(path) else _SUFFIXES.get(Path(path).suffix))
    if chosen not in FORMATS:
        raise InvalidInput(
            f"{path}: which format? There are {', '.join(FORMATS)}; pass one with --format; a store is "
            "named by its URL, such as sqlite:///events.db"
        )
    return chosen


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
        paths: files, and URLs of stores. intake: what was taken and refused; with `strict` the first bad line raises.
        format: name in `FORMATS`; default by suffix.
        arms: catalogue order; default the file's own, else the ids found, numbers in them by value.
        columns: column map of a CSV, see `read_csv`, or which evaluator is which field, see `read_otel`.

    Raises:
        InvalidInput: no known format, or an arm is named twice.
        InvalidLog: a file cannot be read, no line of it is usable, or `strict` met a bad one.
    """
    if arms is not None and len(set(arms)) < len(arms):
        raise InvalidInput(f"arms must name every arm once, got {', '.join(arms)}")
    names = [format_of(path, format) for path in paths]
    if columns and (wrong := [name for name in names if name not in MAPPED]):
        raise InvalidInput(f"a column map is for {' and '.join(MAPPED)}, this is {wrong[0]}")
    together = len(set(names)) == 1 and names[0] in JOINED
    logs = []
    for name, part in [(names[0], list(paths))] if together else [(n, [p]) for n, p in zip(names, paths, strict=True)]:
        intake.begin()
        read = partial(FORMATS[name][0], columns=columns) if columns else FORMATS[name][0]
        try:
            files = part if name == "store" else [Path(one) for one in part]
            logs.append(read(files if name in JOINED else files[0], intake, arms=arms))
        except OSError as error:
            raise InvalidLog(f"{error.filename or part[0]}: {error.strerror or error}") from None
    return concatenate(logs)


def write_log(log: LoggedEvents, path: Path, *, format: str | None = None) -> None:
    """Write a log. Raises InvalidInput for a format that is only read."""
    name = format_of(path, format)
    write = FORMATS[name][1]
    if write is None:
        raise InvalidInput(f"{name} is only read; write {', '.join(n for n, (_, w) in FORMATS.items() if w)}")
    write(log, path)


__all__ = ["FORMATS", "BadLine", "Intake", "InvalidLog", "LoggedEvents", "read_logs", "write_log"]
