"""`bandit-router config`: check, show and describe the file that makes a router."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bandit_router.cli.common import INVALID_DATA, invalid_as, print_json

app = typer.Typer(help="Check, show and describe the TOML file that makes a router.", no_args_is_help=True)
_File = Annotated[Path, typer.Argument(help="The router's TOML file.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]


@app.command()
def check(file: _File, json: _Json = False) -> None:
    """Build the router without its store, and say what is wrong in which line."""
    with invalid_as(INVALID_DATA):
        from bandit_router.routing.router import Router
        from bandit_router.service.config import load_served

        config = load_served(file)
        router = Router(**config.arguments(file.parent, store=None))
    found: dict[str, Any] = {
        "file": str(file),
        "arms": list(router.catalogue.ids),
        "dim": router.policy.dim,
        "policy": config.policy.name,
        "channels": list(config.objective.channels),
        "limits": [] if config.budgets is None else [limit.name for limit in config.budgets.limits],
    }
    if json:
        print_json(found)
        return
    typer.echo(f"{file}: {len(found['arms'])} arms, {found['dim']} features, policy {found['policy']}")


@app.command()
def show(file: _File) -> None:
    """Print the file as JSON with every default filled in; secrets are named, never printed."""
    with invalid_as(INVALID_DATA):
        import msgspec

        from bandit_router.service.config import load_served

        print_json(msgspec.to_builtins(load_served(file)))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file."""
    from bandit_router.service.config import schema as described

    print_json(described())
