"""What the commands share: exit codes, error reporting, JSON on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE, GATE, INVALID_DATA, STORE_UNAVAILABLE = 2, 3, 4, 5


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr and leave with an exit code."""
    typer.echo(f"bandit-router: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def invalid_as(code: int) -> Iterator[None]:
    """Turn InvalidInput into a message and an exit code."""
    from bandit_router.policies.base import InvalidInput

    try:
        yield
    except InvalidInput as error:
        fail(str(error), code)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(total: int, title: str) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, silent when stderr is not a terminal; yields a callable that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda label: progress.update(task, advance=1, description=f"{title}: {label}")
