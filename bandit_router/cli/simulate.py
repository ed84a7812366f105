"""`bandit-router simulate`, `policies` and `presets`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandit_router.cli.common import (
    INVALID_DATA,
    USAGE,
    assigned,
    fail,
    invalid_as,
    make_folder,
    print_json,
    progress_bar,
    write_files,
)
from bandit_router.cli.tables import print_table

if TYPE_CHECKING:
    from bandit_router.simulators.scenario import Scenario

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]


def simulate(
    scenario: Annotated[str | None, typer.Argument(help="Preset or SCENARIO.toml; default models/llm.")] = None,
    table: Annotated[Path | None, typer.Option(help="Folder of an outcome table to run on instead.")] = None,
    contexts: Annotated[
        str | None, typer.Option(help="Parts of the context of a table: task, features, text; with commas between.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policy to run; repeat for several.")] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of every --policy.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of streams.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Requests per stream; default one pass.")] = None,
    price: Annotated[list[str] | None, typer.Option(help="CHANNEL=VALUE, utility per reference amount.")] = None,
    controller: Annotated[list[str] | None, typer.Option(help="Cache controller; repeat for several.")] = None,
    set_controller: Annotated[
        list[str] | None, typer.Option("--set-controller", help="NAME=VALUE, a setting of every --controller.")
    ] = None,
    capacity: Annotated[int | None, typer.Option(min=0, help="Adapter slots.")] = None,
    paging: Annotated[
        str | None, typer.Option(help="Paging profile: shipped name or file, with optional @tier.")
    ] = None,
    paging_weight: Annotated[
        float | None, typer.Option(min=0, help="Utility one would give up to avoid the slowest load.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Parquet file of requests that name their adapter.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; results do not depend on it.")] = None,
    json: _Json = False,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for results.json, curves.parquet, pictures.")
    ] = None,
) -> None:
    """Run policies on a scenario and report utility and regret with 95 % intervals over seeds."""
    with invalid_as(USAGE):
        chosen, folder = chosen_scenario(scenario, table, policy, seeds, horizon, price, set)
        chosen = _with_contexts(chosen, contexts)
        chosen = with_paging(chosen, trace, controller, capacity, paging, paging_weight, set_controller)
    from bandit_router.simulators.experiment import run_scenario

    total = chosen.seeds * (1 + len(chosen.policies))
    make_folder(out)
    with invalid_as(INVALID_DATA), progress_bar(total, chosen.name) as advance:
        experiment = run_scenario(chosen, folder, jobs=jobs or os.cpu_count() or 1, progress=advance)
    if json:
        print_json(experiment.document)
    else:
        _print(experiment.document)
        if "router" in experiment.document["policies"][0]:
            _print_router(experiment.document)
    if out is not None:
        from bandit_router.simulators.output import write_results

        write_files(partial(write_results, experiment), out)


def chosen_scenario(
    name: str | None,
    table: Path | None,
    policies: list[str] | None,
    seeds: int | None,
    horizon: int | None,
    prices: list[str] | None,
    settings: list[str] | None = None,
) -> tuple[Scenario, Path | None]:
    """The scenario that the options name, and the folder where its relative paths start."""
    from bandit_router.policies import read_settings
    from bandit_router.simulators.configs import AdapterTableConfig, PolicyConfig, TableConfig
    from bandit_router.simulators.scenario import DEFAULT_PRESET, load_scenario, with_overrides

    scenario, folder = load_scenario(name or DEFAULT_PRESET)
    if table is not None and name is not None and scenario.paging is None:
        fail("give a scenario or --table, not both, unless the scenario has paging", USAGE)
    changes: dict[str, Any] = {"seeds": seeds, "horizon_requests": horizon}
    if table is not None:
        kind = TableConfig if scenario.paging is None else AdapterTableConfig
        changes |= {"name": table.resolve().name, "environment": kind(table=str(table)), "prices": {}}
    chosen = assigned("--set", settings)
    if chosen and not policies:
        fail("--set goes with --policy NAME; a scenario file has settings of its own", USAGE)
    if policies:
        changes["policies"] = tuple(PolicyConfig(name=name, settings=read_settings(name, chosen)) for name in policies)
    if prices:
        changes["prices"] = {**changes.get("prices", scenario.prices), **_prices(prices)}
    return with_overrides(scenario, **changes), None if table is not None else folder


def _with_contexts(scenario: Scenario, contexts: str | None) -> Scenario:
    """The scenario with other parts of the context."""
    from msgspec.structs import replace

    from bandit_router.simulators.configs import TableConfig
    from bandit_router.simulators.table import CONTEXTS

    if contexts is None:
        return scenario
    if not isinstance(scenario.environment, TableConfig) or scenario.router is not None:
        fail("--contexts goes with an outcome table that no router's file encodes", USAGE)
    parts = tuple(part.strip() for part in contexts.split(",") if part.strip())
    unknown = [part for part in parts if part not in CONTEXTS]
    if unknown:
        fail(f"--contexts: unknown part {unknown[0]!r}; there are {', '.join(CONTEXTS)}", USAGE)
    return replace(scenario, environment=replace(scenario.environment, contexts=parts))


def with_paging(
    scenario: Scenario,
    trace: Path | None,
    controllers: list[str] | None,
    capacity: int | None,
    profile: str | None,
    weight: float | None,
    settings: list[str] | None = None,
) -> Scenario:
    """The scenario with the paging options of the command line."""
    from msgspec.structs import replace

    from bandit_router.simulators.configs import PolicyConfig, TraceConfig
    from bandit_router.simulators.controllers import read_controller

    if trace is not None:
        scenario = replace(scenario, environment=TraceConfig(path=str(trace)), name=trace.stem, horizon_requests=None)
    given = {"capacity_slots": capacity, "profile": profile, "weight_utility": weight}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    current = scenario.paging
    if current is None:
        if changes or controllers:
            fail(f"scenario {scenario.name} has no paging; use one such as adapters/zipf", USAGE)
        return scenario
    chosen = assigned("--set-controller", settings)
    if chosen and not controllers:
        fail("--set-controller goes with --controller NAME; a scenario file has settings of its own", USAGE)
    if controllers:
        routers = {(policy.name, tuple(policy.settings.items())): policy for policy in scenario.policies}
        pairs = [(policy, controller) for policy in routers.values() for controller in controllers]
        policies = tuple(
            PolicyConfig(
                name=policy.name,
                settings=policy.settings,
                controller=controller,
                controller_settings=read_controller(controller, chosen),
            )
            for policy, controller in pairs
        )
        scenario = replace(scenario, policies=policies)
    return replace(scenario, paging=replace(current, **changes))


def _prices(options: list[str]) -> dict[str, float]:
    prices = {}
    for option in options:
        channel, _, value = option.partition("=")
        if channel in prices:
            fail(f"--price gives {channel} twice; leave one of the two out", USAGE)
        try:
            prices[channel] = float(value)
        except ValueError:
            fail(f"--price must be CHANNEL=VALUE such as cost_usd=0.2, got {option!r}", USAGE)
    return prices


def _print(document: dict[str, Any]) -> None:
    paged = "paging" in document["policies"][0]
    columns = ("regret to\nstatic cache", "miss\nrate", "ms per\nrequest")
    if not paged:
        columns = ("regret to\nbest fixed", "quality", "cost USD")
    rows = [
        (
            row["policy"] + (" (default)" if row["default"] else ""),
            with_interval(row["utility_mean"], 4),
            *(_paging_cells(row["paging"]) if paged else _cost_cells(row)),
        )
        for row in document["policies"]
    ]
    references = document["references"]
    best = references["best_fixed"]
    print_table(
        f"{document['scenario']}: {document['horizon']} requests, {document['seeds']} seeds",
        ("policy", "utility\n± 95 %", *columns),
        [
            *rows,
            (),
            ("best fixed choice" if paged else "best fixed arm", f"{best['utility_mean']:.4f}"),
            ("oracle per request", f"{references['oracle']['utility_mean']:.4f}"),
            ("uniform random", f"{references['random']['utility_mean']:.4f}"),
        ],
        caption=f"best fixed choice in hindsight: {best['arm']}{', paging aside' if paged else ''}",
    )


def _print_router(document: dict[str, Any]) -> None:
    rows = [
        (
            row["policy"],
            f"{row['router']['holdout_share']:.1%}",
            *(f"{row['router']['counted'].get(name, 0.0):.1f}" for name in ("refused_budget", "degraded_decisions")),
            *(f"{row['router']['counted'].get(name, 0.0):.1f}" for name in ("late", "missing", "settled")),
            f"{sum(limit['overruns'] for limit in row['router']['limits'].values()):.1f}",
        )
        for row in document["policies"]
    ]
    names = ("held\nout", "no\nbudget", "de-\ngraded", "late", "missing", "settled", "over-\nruns")
    print_table("what the router counted, mean of the seeds", ("policy", *names), rows)


def _cost_cells(row: dict[str, Any]) -> tuple[str, ...]:
    cost = "-" if row["cost_usd_mean"] is None else f"{row['cost_usd_mean']:.3g}"
    quality = "-" if row["quality_mean"] is None else f"{row['quality_mean']:.4f}"
    return with_interval(row["regret"]["best_fixed"], 1), quality, cost


def _paging_cells(paging: dict[str, Any]) -> tuple[str, ...]:
    regret = with_interval(paging["regret_static_cache"], 1)
    return regret, f"{paging['miss_rate']:.4f}", f"{paging['page_ms_per_request']:.2f}"


def with_interval(value: dict[str, Any], digits: int) -> str:
    """A mean with half its interval."""
    half = "" if value["ci95"] is None else f" ± {(value['ci95'][1] - value['ci95'][0]) / 2:.{digits}f}"
    return f"{value['mean']:.{digits}f}{half}"


def policies(json: _Json = False) -> None:
    """List the policies, what can be set and what they can do."""
    from bandit_router.policies import DEFAULT_POLICY, POLICIES
    from bandit_router.policies.base import CAPABILITIES

    rows: list[dict[str, Any]] = [
        {
            "policy": name,
            "default": name == DEFAULT_POLICY,
            "summary": (policy.__doc__ or "").strip().splitlines()[0],
            "settings": [setting.described(key) for key, setting in policy.choices().items()],
            **{name: getattr(policy, name) for name in CAPABILITIES},
        }
        for name, policy in POLICIES.items()
    ]
    if json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['policy']}{' (default)' if row['default'] else ''}: {row['summary']}")
        for setting in row["settings"]:
            limits = ", ".join(filter(None, (setting["type"], setting["check"])))
            unit = f" [{setting['unit']}]" if setting["unit"] else ""
            typer.echo(f"    {setting['name']} = {setting['default']}{unit}: {limits}")


def presets(json: _Json = False) -> None:
    """List the shipped scenarios."""
    from bandit_router.simulators.scenario import DEFAULT_PRESET, load_scenario
    from bandit_router.simulators.scenario import presets as shipped

    rows = [
        {"preset": name, "default": name == DEFAULT_PRESET, "description": load_scenario(name)[0].description}
        for name in shipped()
    ]
    if json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['preset']}{' (default)' if row['default'] else ''}: {row['description']}")
