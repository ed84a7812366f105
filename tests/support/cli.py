"""The command line, called in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from bandit_router.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
