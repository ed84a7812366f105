"""The command `bandit-router`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from bandit_router import __version__
from bandit_router.cli import (
    calibrate,
    capacity,
    config,
    data,
    fit,
    logs,
    plan,
    replay,
    serve,
    simulate,
    state,
    sweep,
    tune,
)
from bandit_router.cli.common import FAILED, INTERRUPTED, fail


class _Commands(TyperGroup):
    """The commands; an interrupt is said here, because Typer would leave without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)


app = typer.Typer(
    cls=_Commands,
    name="bandit-router",
    help="Online bandit routing over language models and LoRA adapters: simulate, replay, operate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("serve")(serve.serve)
app.command("simulate")(simulate.simulate)
app.command("sweep")(sweep.sweep)
app.command("policies")(simulate.policies)
app.command("presets")(simulate.presets)
app.command("capacity")(capacity.capacity)
app.command("replay")(replay.replay)
app.command("tune")(tune.tune)
app.command("fit")(fit.fit)
app.add_typer(data.app, name="data")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(config.app, name="config")
app.add_typer(logs.app, name="logs")
app.add_typer(plan.app, name="plan")
app.add_typer(state.app, name="state")


def _version(show: bool) -> None:
    if show:
        from bandit_router.policies.native import kernel_name

        typer.echo(f"bandit-router {__version__} (kernels: {kernel_name()})")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # closed by the caller
                sys.stdout.flush()  # here, where a full disk can still be reported
    except OSError as error:
        if sys.stdout is not None:  # what is left in it would fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"bandit-router: {error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
