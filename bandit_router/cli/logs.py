"""`bandit-router logs`: check a log, or write it in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli import log_options as options
from bandit_router.cli.common import GATE, INVALID_DATA, USAGE, fail, invalid_as, plain, print_json, writing

app = typer.Typer(help="Production logs: check and convert.", no_args_is_help=True)


@app.command()
def check(
    logs: options.Logs,
    format: options.Format = None,
    columns: options.Columns = None,
    arms: options.Arms = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Read a log, report every bad line, and say what it holds. Exit 4 when a line was refused, 3 when no policy can
    be valued on it: without propensities, or with 1 alone.
    """
    log, intake = options.read(logs, format, columns, arms, strict=strict)
    from bandit_router.replay.compare import describe
    from bandit_router.replay.diagnostics import diagnose, not_randomised, out_of_range
    from bandit_router.replay.modes import counted
    from bandit_router.replay.targets import uniform

    rows, notes = counted(log)
    drawn = log.take(rows)
    facts = diagnose(drawn, uniform(drawn), drawn.channel("quality"))
    facts.warnings.extend(notes)
    facts.warnings.extend(out_of_range(log, options.mapped(columns)))
    if json:
        bad = [{"file": b.file, "line": b.line, "reason": b.reason, "detail": b.detail} for b in intake.bad]
        print_json({"intake": intake.summary(), "bad_lines": bad, "log": describe(log), "diagnostics": facts})
    else:
        typer.echo(f"{intake.taken} of {intake.lines} lines taken, {len(log.arms)} arms, {len(log.features)} features")
        for arm in facts.arms:
            calibration = "-" if arm.calibration is None else f"{arm.calibration:.3f}"
            typer.echo(
                f"  {plain(arm.arm)}: {arm.plays} plays, reward joined {arm.joined:.1%}, calibration {calibration}"
            )
        for line in (*facts.refusals, *facts.warnings):
            typer.echo(plain(f"note: {line}"))
    if intake.refused:
        raise typer.Exit(INVALID_DATA)
    if why := not_randomised(drawn):
        fail(why, GATE)


@app.command()
def convert(
    logs: options.Logs,
    out: Annotated[Path, typer.Option(help="File to write.")],
    to: Annotated[str | None, typer.Option(help="Format to write; default by the suffix of --out.")] = None,
    format: options.Format = None,
    columns: options.Columns = None,
    arms: options.Arms = None,
    strict: options.Strict = False,
) -> None:
    """Write a log in another format. Bad lines are reported and left out."""
    from bandit_router.replay.logs import FORMATS, format_of, write_log

    with invalid_as(USAGE):
        name = format_of(out, to)
    if FORMATS[name][1] is None:
        fail(f"{name} is only read; write {', '.join(n for n, (_, write) in FORMATS.items() if write)}", USAGE)
    log, intake = options.read(logs, format, columns, arms, strict=strict)
    with invalid_as(INVALID_DATA), writing(out):
        write_log(log, out, format=name)
    typer.echo(f"wrote {len(log)} of {intake.lines} lines to {out}", err=True)
