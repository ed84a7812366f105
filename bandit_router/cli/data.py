"""`bandit-router data`: look at outcome tables."""

from __future__ import annotations

import typer

app = typer.Typer(help="Outcome tables.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def describe(
    directory: str = typer.Argument(..., help="Folder of an outcome table, or the name of a shipped one."),
    json: bool = typer.Option(False, "--json", help="One JSON document on stdout."),
) -> None:
    """Print a table's check figures."""
    from bandit_router.cli.common import INVALID_DATA, invalid_as, print_json
    from bandit_router.simulators.table import describe_table, load_table

    with invalid_as(INVALID_DATA):
        figures = describe_table(load_table(directory))
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        if name != "per_arm":
            typer.echo(f"{name}: {_text(value)}")
    for row in figures["per_arm"]:
        typer.echo("  " + "  ".join(f"{key}={_text(value)}" for key, value in row.items()))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
