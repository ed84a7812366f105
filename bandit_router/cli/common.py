"""What the commands share: exit codes, error reporting, JSON on stdout, progress on stderr."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAILED, USAGE, GATE, INVALID_DATA, STORE_UNAVAILABLE = 1, 2, 3, 4, 5
INTERRUPTED = 130


def plain(text: str) -> str:
    r"""Text from a log or a store as a terminal may have it: control characters are spelled out.

    Example:
        >>> print(plain("arm\x1b[2J"))
        arm\x1b[2J
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr and leave with an exit code."""
    typer.echo(plain(f"bandit-router: {message}"), err=True)
    raise typer.Exit(code)


@contextmanager
def invalid_as(code: int) -> Iterator[None]:
    """Turn InvalidInput into a message and an exit code, and a missing extra into its message and FAILED."""
    from bandit_router.errors import InvalidInput

    try:
        yield
    except InvalidInput as error:
        fail(str(error), code)
    except ImportError as error:
        fail(str(error), FAILED)


def assigned(flag: str, options: list[str] | None) -> dict[str, str]:
    """NAME=VALUE options; what a value means is said by what has the name."""
    found: dict[str, str] = {}
    for option in options or ():
        name, _, value = option.partition("=")
        if not name or not value:
            fail(f"{flag} must be NAME=VALUE, got {option!r}", USAGE)
        if name in found:
            fail(f"{flag} gives {name} twice; leave one of the two out", USAGE)
        found[name] = value
    return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write a file, or into a folder, into a message and FAILED."""
    try:
        yield
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", FAILED)


def make_folder(folder: Path | None) -> None:
    """Make the `--out` folder before the work starts, so that a wrong path does not cost a long run."""
    if folder is not None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def write_files(write: Callable[[Path], list[Path]], folder: Path) -> None:
    """Write a command's files into its `--out` folder, and name them on stderr."""
    with writing(folder):
        for path in write(folder):
            typer.echo(f"wrote {path}", err=True)
    if importlib.util.find_spec("matplotlib") is None:
        typer.echo("no pictures: install bandit-router[plots]", err=True)


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
