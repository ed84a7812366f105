"""`bandit-router sweep`: the frontier of quality over dollars, joules or seconds."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bandit_router.cli.common import (
    INVALID_DATA,
    USAGE,
    fail,
    invalid_as,
    make_folder,
    print_json,
    progress_bar,
    write_files,
)
from bandit_router.cli.simulate import chosen_scenario
from bandit_router.cli.tables import print_table

MOST_PRICES = 1000  # each is a run of its own


def sweep(
    scenario: Annotated[str | None, typer.Argument(help="Preset or SCENARIO.toml; default models/llm.")] = None,
    table: Annotated[Path | None, typer.Option(help="Folder of an outcome table to run on instead.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policy to run; repeat for several.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of streams.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Requests per stream; default one pass.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="CHANNEL=FROM:TO:STEP to sweep, once; CHANNEL=VALUE to hold others fixed.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; results do not depend on it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Folder for sweep.json and pictures.")] = None,
) -> None:
    """Run policies at each price of one channel and draw quality over what it costs."""
    swept = [option for option in price or () if ":" in option]
    if len(swept) != 1:
        fail(f"give one --price CHANNEL=FROM:TO:STEP such as energy_j=0:1:0.1, got {len(swept)}", USAGE)
    channel, prices = _range(swept[0])
    fixed = [option for option in price or () if option != swept[0]]
    if any(option.partition("=")[0] == channel for option in fixed):
        fail(f"--price sweeps {channel} and holds it fixed as well; leave one of the two out", USAGE)
    with invalid_as(USAGE):
        chosen, folder = chosen_scenario(scenario, table, policy, seeds, horizon, fixed)
    from bandit_router.simulators.sweep import run_sweep

    total = len(prices) * chosen.seeds * (1 + len(chosen.policies))
    make_folder(out)
    with invalid_as(INVALID_DATA), progress_bar(total, chosen.name) as advance:
        document = run_sweep(
            chosen, folder, channel=channel, prices=prices, jobs=jobs or os.cpu_count() or 1, progress=advance
        )
    if json:
        print_json(document)
    else:
        _print(document)
    if out is not None:
        from bandit_router.simulators.sweep import write_sweep

        write_files(partial(write_sweep, document), out)


def _range(option: str) -> tuple[str, list[float]]:
    """CHANNEL and the prices FROM, FROM + STEP, ... up to TO, which is included where a step lands on it."""
    channel, _, text = option.partition("=")
    try:
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError:
        fail(f"--price must be CHANNEL=FROM:TO:STEP such as energy_j=0:1:0.1, got {option!r}", USAGE)
    if not (math.isfinite(start) and math.isfinite(stop) and 0 < step < math.inf and start <= stop):
        fail(f"--price needs FROM at most TO and STEP above 0, got {option!r}", USAGE)
    if (stop - start) / step >= MOST_PRICES:
        fail(f"--price must give at most {MOST_PRICES} prices, got {option!r}; take a larger STEP", USAGE)
    count = math.floor((stop - start) / step + 1e-9) + 1
    return channel, [round(start + i * step, 12) for i in range(count)]


def _print(document: dict[str, Any]) -> None:
    channel = document["channel"]
    rows = []
    for row in [*document["policies"], {"policy": "oracle of each request", **document["oracle"]}]:
        ends = (row["points"][0], row["points"][-1])
        rows.append((row["policy"], *_figures(row), *(f"{end[f'{channel}_mean']:.3g}" for end in ends)))
    print_table(
        f"{document['scenario']}: {channel} priced {document['prices'][0]} to {document['prices'][-1]}",
        ("policy", "AIQ", "peak\nquality", "average\nquality", f"{channel} at\nfirst price", "at last\nprice"),
        [*rows, ("fixed arms, mixed", *_figures(document["fixed_arms"]), "-", "-")],
    )


def _figures(row: dict[str, Any]) -> list[str]:
    return ["-" if row[name] is None else f"{row[name]:.4f}" for name in ("aiq", "peak_quality", "average_quality")]
