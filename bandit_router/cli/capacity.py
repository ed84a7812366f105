"""`bandit-router capacity`: how many adapter slots pay off."""

from __future__ import annotations

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
from bandit_router.cli.tables import print_table


def capacity(
    scenario: Annotated[str, typer.Argument(help="Preset or SCENARIO.toml with paging.")] = "adapters/zipf",
    slots: Annotated[str, typer.Option(help="Slots to try: 1,2,4,8 or a range 1:8.")] = "1:8",
    controller: Annotated[
        str | None, typer.Option(help="Cache controller; default ExchangeCredit, for traces ReuseHazard.")
    ] = None,
    paging: Annotated[
        str | None, typer.Option(help="Paging profile: shipped name or file, with optional @tier.")
    ] = None,
    paging_weight: Annotated[
        float | None, typer.Option(min=0, help="Utility given up to avoid the slowest load.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Parquet file of requests that name their adapter.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of streams.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Requests per stream.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; results do not depend on it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Folder for capacity.json and pictures.")] = None,
) -> None:
    """Utility and paging latency against the number of slots, with the marginal value of one more."""
    from bandit_router.cli.simulate import with_paging
    from bandit_router.simulators.capacity import capacity_curve, parse_slots
    from bandit_router.simulators.configs import TraceConfig
    from bandit_router.simulators.controllers import DEFAULT_CONTROLLER, NAMED_CONTROLLER
    from bandit_router.simulators.scenario import load_scenario, with_overrides

    with invalid_as(USAGE):
        tried = parse_slots(slots)
        chosen, folder = load_scenario(scenario)
        if chosen.paging is None:
            fail(f"scenario {scenario} has no paging; use one such as adapters/zipf", USAGE)
        named = trace is not None or isinstance(chosen.environment, TraceConfig)
        default = NAMED_CONTROLLER if named else DEFAULT_CONTROLLER
        chosen = with_paging(chosen, trace, [controller or default], None, paging, paging_weight)
        chosen = with_overrides(chosen, policies=chosen.policies[:1], seeds=seeds, horizon_requests=horizon)
    make_folder(out)
    with invalid_as(INVALID_DATA), progress_bar(len(tried) * 2 * chosen.seeds, chosen.name) as advance:
        document = capacity_curve(chosen, folder, tried, jobs=jobs or os.cpu_count() or 1, progress=advance)
    if json:
        print_json(document)
    else:
        _print(document)
    if out is not None:
        from bandit_router.simulators.output import write_capacity

        write_files(partial(write_capacity, document), out)


def _print(document: dict[str, Any]) -> None:
    rows = [
        (
            f"{row['slots']:>5}",
            _pair(row["utility_mean"]),
            "-" if row["marginal_utility"] is None else _pair(row["marginal_utility"]),
            f"{row['miss_rate']:.4f}",
            f"{row['page_ms_per_request']:.2f}",
        )
        for row in document["capacity"]
    ]
    print_table(
        f"{document['scenario']}: {document['policy']}, {document['seeds']} seeds",
        ("slots", "utility\n± 95 %", "one more\nadds ± 95 %", "miss\nrate", "ms per\nrequest"),
        rows,
    )


def _pair(value: dict[str, Any]) -> str:
    half = "" if value["ci95"] is None else f" ± {(value['ci95'][1] - value['ci95'][0]) / 2:.4f}"
    return f"{value['mean']:.4f}{half}"
