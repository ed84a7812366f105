"""`bandit-router serve`: the gateway of a router's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli.common import INVALID_DATA, USAGE, fail, invalid_as


def serve(
    file: Annotated[Path | None, typer.Argument(help="The router's TOML file, with a section [gateway].")] = None,
    check: Annotated[bool, typer.Option("--check", help="Build everything, read the secrets, and stop.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Made-up upstreams and traffic, on this machine alone.")] = False,
) -> None:
    """Serve an OpenAI-compatible endpoint that learns which arm answers. Needs bandit-router[serve]."""
    if (file is None) != demo:
        fail("give a router's file, or --demo without one", USAGE)
    with invalid_as(INVALID_DATA):
        if file is None:
            from bandit_router.service.demo import run_demo

            run_demo()
            return
        from bandit_router.errors import InvalidInput
        from bandit_router.routing.router import Router
        from bandit_router.service.app import run
        from bandit_router.service.config import load_served

        config = load_served(file)
        section = config.gateway
        if section is None:
            raise InvalidInput(f"{file.name} has no section [gateway]; it says which upstream serves which arm")
        if check:
            Router(**config.arguments(file.parent, store=None))
            for upstream in section.upstreams.values():
                if upstream.api_key is not None:
                    upstream.api_key.read(file.parent)
            typer.echo(f"{file}: {len(section.upstreams)} upstreams, would listen on {section.host}:{section.port}")
            return
        typer.echo(f"listening on http://{section.host}:{section.port}/v1", err=True)
        run(config, section, file.parent)
