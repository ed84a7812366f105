"""`bandit-router tune`: choose a policy's settings on a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bandit_router.cli import log_options as options
from bandit_router.cli.common import GATE, INVALID_DATA, USAGE, assigned, fail, invalid_as, print_json, writing


def tune(
    logs: options.Logs,
    policy: Annotated[str, typer.Option(help="Policy to tune.")],
    set: Annotated[list[str], typer.Option("--set", help="Values to try: NAME=VALUE,VALUE; repeat for more.")],
    head: Annotated[float, typer.Option(min=0.1, max=0.95, help="Share of the log the choice is made on.")] = 0.7,
    price: options.Prices = None,
    scale: options.Scales = None,
    bound: options.Bounds = None,
    mode: options.Modes = None,
    alpha: options.Alpha = 0.05,
    format: options.Format = None,
    columns: options.Columns = None,
    arms: options.Arms = None,
    strict: options.Strict = False,
    json: options.Json = False,
    out: Annotated[Path | None, typer.Option(help="Folder for tune.json.")] = None,
) -> None:
    """Try settings by progressive validation on the head of a log; value the winner on its tail."""
    utility, bounds = options.utility(price, scale), options.ranges(bound)
    from bandit_router.errors import Unanswerable
    from bandit_router.replay import tune as ope

    values = {name: text.split(",") for name, text in assigned("--set", set).items()}
    with invalid_as(USAGE):
        ope.read_options(policy, values)
    log, _ = options.read(logs, format, columns, arms, strict=strict)
    with invalid_as(INVALID_DATA):
        try:
            tuned = ope.tune(log, policy, values, utility=utility, bounds=bounds, head=head, alpha=alpha, modes=mode)
        except Unanswerable as refusal:
            fail(f"the log cannot answer: {refusal}", GATE)
    if out is not None:
        import msgspec

        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / "tune.json").write_bytes(msgspec.json.format(msgspec.json.encode(tuned), indent=1))
        typer.echo(f"wrote {out / 'tune.json'}", err=True)
    if json:
        print_json(tuned)
        return
    for trial in tuned.trials:
        typer.echo(f"{_settings(trial.settings)}: {trial.value:.4f} ± {1.96 * trial.standard_error:.4f}")
    typer.echo(f"chosen on {tuned.head_rows} rows: {_settings(tuned.settings)}")
    span = (
        "" if tuned.anytime is None else f", {1 - alpha:.0%} anytime {tuned.anytime[0]:.4f} .. {tuned.anytime[1]:.4f}"
    )
    typer.echo(f"on the other {tuned.tail_rows} rows: {tuned.value:.4f}{span}")
    typer.echo(f"there the defaults earn {tuned.default_value:.4f}, the logging policy {tuned.logged:.4f}")
    typer.echo(f"optimism of the choice: {tuned.optimism:+.4f}")


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
