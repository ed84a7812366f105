"""`bandit-router data`: make outcome tables and look at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

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


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Results: CSV, JSON, JSON Lines, Excel or Parquet.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the outcome table; new or empty.")],
    columns: Annotated[
        str, typer.Option(help="FIELD=COLUMN,...: query, arm, quality=stars/5, latency_s=ms/1000, ...")
    ] = "",
    format: Annotated[str | None, typer.Option(help="Who wrote the files; default by their content.")] = None,
    arms: Annotated[str, typer.Option(help="Of a file with one column a model, these; with commas between.")] = "",
    drop_incomplete: Annotated[
        bool,
        typer.Option("--drop-incomplete", help="Leave out queries that lack an arm; else it is not playable there."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Make an outcome table of evaluation results."""
    from bandit_router.cli.common import INVALID_DATA, USAGE, fail, invalid_as, print_json, writing
    from bandit_router.simulators.evaluations.assemble import read_evaluations
    from bandit_router.simulators.evaluations.columns import parse_columns
    from bandit_router.simulators.evaluations.formats import FORMATS

    with invalid_as(USAGE):
        chosen = parse_columns(columns)
    if format is not None and format not in FORMATS:
        fail(f"--format: unknown {format!r}; there are {', '.join(FORMATS)}", USAGE)
    if out.exists() and any(out.iterdir()):
        fail(f"{out} is not empty; choose a new folder", USAGE)
    with invalid_as(INVALID_DATA):
        models = [arm.strip() for arm in arms.split(",") if arm.strip()]
        found = read_evaluations(files, columns=chosen, format=format, arms=models, drop_incomplete=drop_incomplete)
    with writing(out):
        found.write(out)
    if json:
        print_json(found.about)
        return
    for line in _import_lines(found.about):
        typer.echo(line)
    typer.echo(f"wrote {out}", err=True)


def _import_lines(about: dict[str, Any]) -> Iterator[str]:
    from bandit_router.reading.unused import listed

    for file in about["files"]:
        read = ", ".join(f"{field}={column}" for field, column in file["columns"].items())
        yield f"{file['file']}: {file['format']}, {file['rows']} rows, {read}"
        if file["unused"]:
            yield f"{file['file']}: {len(file['unused'])} columns not used: {listed(file['unused'])}"
    yield f"{about['queries']} queries, {len(about['arms'])} arms: {', '.join(about['arms'])}"
    for name, (low, high) in about["ranges"].items():
        yield f"{name}: {low:.6g} to {high:.6g}"
    if about["dropped_unanswered"]:
        yield f"{about['dropped_unanswered']} queries without any quality were left out"
    if about["dropped_incomplete"]:
        yield f"{about['dropped_incomplete']} incomplete queries were left out"
    if about["holes"]:
        named = "; ".join(f"query {hole['query']!r}, arm {hole['arm']!r}" for hole in about["first_holes"])
        rest = "" if about["holes"] <= len(about["first_holes"]) else ", ..."
        yield f"{about['holes']} holes, where an arm cannot be played: {named}{rest}"
