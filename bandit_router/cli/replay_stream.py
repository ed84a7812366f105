"""`bandit-router replay --stream`: a fixed arm or uniform, in one pass or from saved sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bandit_router.cli.common import INVALID_DATA, USAGE, fail, invalid_as, writing

if TYPE_CHECKING:
    from bandit_router.records.outcomes import Utility
    from bandit_router.replay.stream import Streamed

IN_MEMORY = (
    *("baseline", "estimator", "learn", "set", "slice", "group", "cache", "paging", "size", "key_file"),
    *("format", "columns", "arms", "strict"),
)


def check_options(context: typer.Context, policy: str) -> None:
    """Fail on options that one pass cannot follow, before it starts."""
    for name in IN_MEMORY:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            fail(f"--stream does not take --{name.replace('_', '-')}; leave one of them out", USAGE)
    from bandit_router.replay.targets import named

    if named(policy).kind not in ("arm", "uniform"):
        fail(f"--stream takes arm=ID or uniform, got {policy!r}; leave --stream out for policies that learn", USAGE)


def collected(logs: list[str], policy: str, utility: Utility, modes: Sequence[str] | None) -> Streamed:
    """The sums of Parquet files and saved sums, together one log in the order given."""
    from bandit_router.replay.logs.store import is_url, shown
    from bandit_router.replay.stream import Streamed, read_part, stream, target_of
    from bandit_router.replay.targets import named

    for log in filter(is_url, logs):
        fail(f"--stream reads Parquet, not a store; `logs convert {shown(log)} --out log.parquet` writes it", USAGE)
    paths = [Path(log) for log in logs]
    kind, name = named(policy)
    arm = name if kind == "arm" else None
    with invalid_as(INVALID_DATA):
        saved = {path: read_part(path) for path in paths if path.suffix == ".json"}
        for path, part in saved.items():
            part.require(target_of(policy, utility, modes), str(path))
        parts = [saved.get(path) or stream([path], arm, utility=utility, modes=modes) for path in paths]
        sums = reduce(Streamed.merge, parts)
    with invalid_as(USAGE):
        sums.require_arm(policy)
    return sums


def streamed(sums: Streamed, policy: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The document that the sums give."""
    from bandit_router.replay.stream_replay import streamed_document

    with invalid_as(INVALID_DATA):
        return streamed_document(sums, policy=policy, **options)


def keep(sums: Streamed, path: Path) -> None:
    """Save the sums for another machine to merge."""
    from bandit_router.replay.stream import write_part

    with writing(path):
        write_part(sums, path)
