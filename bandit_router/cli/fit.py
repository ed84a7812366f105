"""`bandit-router fit`: a router's state learned from a log, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli import log_options as options
from bandit_router.cli.common import INVALID_DATA, USAGE, assigned, fail, invalid_as, print_json, writing


def fit(
    logs: options.Logs,
    out: Annotated[Path, typer.Option(help="File of the state to write (.safetensors).")],
    policy: Annotated[str | None, typer.Option(help="Policy that learns; default that of a router.")] = None,
    router: Annotated[
        Path | None, typer.Option(help="TOML file of the router, instead of --policy, --set, ...")
    ] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of the policy.")] = None,
    head: Annotated[float, typer.Option(min=0.1, max=0.95, help="Share of the log before the tail.")] = 0.7,
    price: options.Prices = None,
    scale: options.Scales = None,
    key_file: options.KeyFile = None,
    format: options.Format = None,
    columns: options.Columns = None,
    arms: options.Arms = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Learn a state from all of a log, and show by its tail what the learning is worth: fitted against fresh."""
    from bandit_router.errors import Unanswerable
    from bandit_router.policies import DEFAULT_POLICY, read_settings
    from bandit_router.records.outcomes import CHANNELS
    from bandit_router.replay import fit as fitting
    from bandit_router.routing.config import load_config
    from bandit_router.routing.groups import PolicySpec
    from bandit_router.store.saved import save_state

    if router is not None and (policy or set or price or scale or arms):
        fail("--policy, --set, --price, --scale and --arms do not go with --router, whose file says them", USAGE)
    with invalid_as(USAGE):
        if router is None:
            name, channels = policy or DEFAULT_POLICY, CHANNELS
            spec = PolicySpec(name=name, settings=read_settings(name, assigned("--set", set)))
            utility = options.utility(price, scale)
        else:
            config = load_config(router)
            spec, channels, utility = config.policy.build(), config.objective.channels, config.objective.utility
            arms = ",".join(arm.id for arm in config.arms)
    log, _ = options.read(logs, format, columns, arms, strict=strict)
    with invalid_as(INVALID_DATA):
        learner = fitting.fit(log, spec, utility=utility, channels=channels)
        try:
            found, why = fitting.gain(log, spec, utility=utility, head=head), ""
        except Unanswerable as refusal:
            found, why = None, str(refusal)
    with writing(out):
        save_state(learner, out, key=None if key_file is None else key_file.read_bytes())
    if json:
        return print_json({"policy": spec.name, "rows": len(log), "learned": learner.policy.steps, "gain": found})
    typer.echo(f"{spec.name} learned {learner.policy.steps} of {len(log)} rows; wrote {out}")
    if found is None:
        typer.echo(f"note: the log cannot say what that is worth: {why}")
        return None
    typer.echo(f"on the last {found.tail_rows} rows, after {found.head_rows}: fitted {found.fitted:.4f}, ", nl=False)
    typer.echo(f"fresh {found.fresh:.4f}, the logging policy {found.logged:.4f}")
    if found.difference is not None:
        typer.echo(f"fitted minus fresh: {found.difference[0]:+.4f} .. {found.difference[1]:+.4f} (95 %, fixed)")
    return None
