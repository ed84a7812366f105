"""Options that `replay`, `logs` and `tune` share, and reading the log they name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandit_router.cli.common import FAILED, INVALID_DATA, STORE_UNAVAILABLE, USAGE, fail, invalid_as, plain

if TYPE_CHECKING:
    from bandit_router.records.outcomes import Utility
    from bandit_router.replay.logs import Intake, LoggedEvents

Logs = Annotated[
    list[str], typer.Argument(help="Log files, folders, `-` or the URL of a store, in their order; together one log.")
]
Format = Annotated[str | None, typer.Option("--format", help="Format of the files; default by suffix.")]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Map of a table, arm=model,quality=stars/5,latency_s=took:ms,context=f*, of dsjson, arm=Model.id, or of "
        "evaluators, quality=judge,labels=good:1+poor:0."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")]
Arms = Annotated[str | None, typer.Option(help="Catalogue order of the arm ids, separated by commas.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Prices = Annotated[list[str] | None, typer.Option("--price", help="CHANNEL=VALUE, utility per reference amount.")]
Scales = Annotated[list[str] | None, typer.Option("--scale", help="CHANNEL=VALUE, the reference amount.")]
Bounds = Annotated[list[str] | None, typer.Option("--bound", help="CHANNEL=LOW:HIGH, range for its intervals.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", exists=True, dir_okay=False, help="File with the key of a signed state.")
]
Modes = Annotated[
    list[str] | None,
    typer.Option("--mode", help="Rows of this mode alone; repeat for several. Default those whose arm was drawn."),
]
Alpha = Annotated[float, typer.Option(min=1e-6, max=0.5, help="1 minus the coverage of the intervals.")]


def read(
    paths: list[str], format: str | None, columns: str | None, arms: str | None, *, strict: bool
) -> tuple[LoggedEvents, Intake]:
    """The log that the options name; bad lines are reported on stderr."""
    from bandit_router.errors import InvalidInput, StoreUnavailable
    from bandit_router.replay.logs import Intake, read_logs
    from bandit_router.replay.logs.columns import parse_columns

    intake = Intake(strict=strict)
    with invalid_as(USAGE):
        mapping = None if columns is None else parse_columns(columns)
    order = None if arms is None else _catalogue(arms)
    try:
        log = read_logs(paths, intake, format=format, arms=order, columns=mapping)
    except InvalidInput as error:
        report(intake)
        fail(str(error), INVALID_DATA)
    except StoreUnavailable as error:
        fail(str(error), STORE_UNAVAILABLE)
    except ImportError as error:
        fail(str(error), FAILED)
    report(intake)
    return log, intake


def mapped(columns: str | None) -> dict[str, str]:
    """The column map that `read` has accepted."""
    from bandit_router.replay.logs.columns import parse_columns

    return {} if columns is None else parse_columns(columns)


def _catalogue(text: str) -> list[str]:
    """Arm ids, each once."""
    ids = [arm.strip() for arm in text.split(",")]
    twice = sorted({arm for arm in ids if ids.count(arm) > 1})
    if twice or "" in ids:
        fail(f"--arms takes every arm id once, got {'an empty one' if '' in ids else f'{twice[0]!r} twice'}", USAGE)
    return ids


def report(intake: Intake, *, most: int = 10) -> None:
    """Refused lines on stderr: the first few in full, all of them counted."""
    for bad in intake.bad[:most]:
        typer.echo(plain(str(bad)), err=True)
    if intake.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in intake.reasons.most_common())
        typer.echo(f"{intake.refused} of {intake.lines} lines refused: {reasons}", err=True)
    for note, count in intake.notes.items():
        typer.echo(plain(f"{count} {note}"), err=True)


def utility(prices: list[str] | None, scales: list[str] | None) -> Utility:
    """The utility that the options name."""
    from bandit_router.records.outcomes import Utility

    with invalid_as(USAGE):
        return Utility(prices=numbers("--price", prices), scales=numbers("--scale", scales))


def numbers(flag: str, options: list[str] | None) -> dict[str, float]:
    """KEY=NUMBER options."""
    found = {}
    for option in options or ():
        key, _, value = option.partition("=")
        try:
            found[key] = float(value)
        except ValueError:
            fail(f"{flag} must be NAME=NUMBER, got {option!r}", USAGE)
    return found


def ranges(options: list[str] | None) -> dict[str, tuple[float, float]]:
    """CHANNEL=LOW:HIGH options."""
    from bandit_router.records.outcomes import CHANNELS

    found = {}
    known = ("utility", "reward", *CHANNELS)
    for option in options or ():
        key, _, value = option.partition("=")
        low, _, high = value.partition(":")
        try:
            found[key] = (float(low), float(high))
        except ValueError:
            fail(f"--bound must be CHANNEL=LOW:HIGH such as latency_s=0:30, got {option!r}", USAGE)
        if key not in known:
            fail(f"--bound: unknown channel {key!r}; there are {', '.join(known)}", USAGE)
        if not -math.inf < found[key][0] < found[key][1] < math.inf:
            fail(f"--bound needs a finite LOW below HIGH, got {option!r}", USAGE)
    return found
