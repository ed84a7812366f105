"""`bandit-router plan`: what a setting costs and buys, before it serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandit_router.cli.common import INVALID_DATA, USAGE, fail, invalid_as, print_json, progress_bar
from bandit_router.cli.simulate import chosen_scenario, with_interval
from bandit_router.cli.tables import print_table

if TYPE_CHECKING:
    from bandit_router.simulators.arena import Arena
    from bandit_router.simulators.own_log import OwnLog

app = typer.Typer(help="What a setting costs and buys, before it serves.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Keep `explore` a command of its own beside those to come."""


@app.command()
def explore(
    scenario: Annotated[str | None, typer.Argument(help="Preset or SCENARIO.toml; default models/llm.")] = None,
    table: Annotated[Path | None, typer.Option(help="Folder of an outcome table to run on instead.")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy that serves; default the scenario's first.")] = None,
    share: Annotated[str, typer.Option(help="Shares to try, separated by commas.")] = "0.01,0.02,0.05,0.1",
    seeds: Annotated[int, typer.Option(min=1, help="Number of streams.")] = 5,
    horizon: Annotated[int | None, typer.Option(min=1, help="Requests per stream; default one pass.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
) -> None:
    """Utility that `explore_share` costs, beside the width of the intervals that the log then gives of other arms."""
    shares = _shares(share)
    with invalid_as(USAGE):
        chosen, folder = chosen_scenario(scenario, table, None if policy is None else [policy], seeds, horizon, None)
    from bandit_router.simulators.arena import Arena
    from bandit_router.simulators.own_log import own_log, router_of

    with invalid_as(INVALID_DATA), progress_bar(len(shares) * seeds, chosen.name) as advance:
        arena = Arena.of(chosen, folder)
        config, logs = router_of(chosen, arena), {}
        for tried in shares:
            for seed in range(seeds):
                logs[tried, seed] = own_log(config, arena, share=tried, seed=seed)
                advance(f"share {tried:g}")
        document = {"scenario": chosen.name, "policy": config.policy.name, "seeds": seeds, "horizon": arena.horizon}
        document |= _answers(logs, arena, shares)
    if json:
        print_json(document)
    else:
        _print(document)


def _shares(text: str) -> list[float]:
    """The shares, none first, each once."""
    try:
        found = sorted({0.0, *map(float, text.split(","))})
    except ValueError:
        fail(f"--share must be numbers such as 0.01,0.05, got {text!r}", USAGE)
    if not 0 <= found[0] <= found[-1] < 1:
        fail(f"--share must be in [0, 1), got {text!r}", USAGE)
    return found


def _answers(logs: dict[tuple[float, int], OwnLog], arena: Arena, shares: list[float]) -> dict[str, Any]:
    """Utility of every share, and what its log says of every arm: medians over the seeds."""
    import numpy as np

    from bandit_router.simulators.results import interval

    seeds = sorted({seed for _, seed in logs})
    ids = [arm.id for arm in arena.environment.arms]
    worth = {share: np.array([logs[share, seed].utility for seed in seeds]) for share in shares}
    outcomes = np.concatenate([log.outcomes for log in logs.values()]) @ arena.weights
    bounds = (float(outcomes.min()), float(outcomes.max()))
    rows = []
    for share in shares:
        found = [_arms(logs[share, seed], ids, arena, bounds) for seed in seeds]
        arms = {
            arm: {
                "answered": float(np.mean([answer[arm] is not None for answer in found])),
                **{
                    key: float(np.median([known[key] for answer in found if (known := answer[arm])]))
                    for key in ("ess", "fixed_width", "anytime_width")
                    if any(answer[arm] for answer in found)
                },
            }
            for arm in ids
        }
        cost = interval(worth[shares[0]] - worth[share])
        rows.append({"share": share, "utility_mean": interval(worth[share]), "cost": cost, "arms": arms})
    return {"bounds": bounds, "shares": rows}


def _arms(log: OwnLog, ids: list[str], arena: Arena, bounds: tuple[float, float]) -> dict[str, dict[str, float] | None]:
    """What one log says of always playing an arm; None where it cannot answer."""
    from bandit_router.errors import Unanswerable
    from bandit_router.replay.evaluate import evaluate
    from bandit_router.replay.logs import LoggedEvents
    from bandit_router.replay.targets import one_arm

    reward = log.outcomes @ arena.weights
    events = LoggedEvents.of(arms=ids, arm=log.arm, propensity=log.propensity, contexts=log.contexts, quality=reward)
    answers: dict[str, dict[str, float] | None] = {}
    for arm in ids:
        limits = {"quality": bounds, "utility": bounds}
        try:
            answer = evaluate(events, one_arm(events, arm), estimators=("dr",), bounds=limits)
        except Unanswerable:
            answer = None
        answers[arm] = None
        if answer is not None and answer.answered:
            metric = answer.metrics["utility"]
            (low, high), (first, last) = metric.estimates["dr"].intervals["normal"], metric.anytime["gamma_mixture"]
            widths = {"fixed_width": high - low, "anytime_width": last - first}
            answers[arm] = {"ess": answer.diagnostics.ess, **widths}
    return answers


def _print(document: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    for row in document["shares"]:
        head = (f"{row['share']:g}", with_interval(row["utility_mean"], 4), with_interval(row["cost"], 4))
        for place, (arm, said) in enumerate(row["arms"].items()):
            numbers = (
                (f"{said['ess']:.0f}", f"{said['fixed_width']:.3f}", f"{said['anytime_width']:.3f}")
                if ("ess" in said)
                else ("-", "-", "-")
            )
            rows.append((*(head if not place else ("", "", "")), arm[-24:], f"{said['answered']:.0%}", *numbers))
        rows.append(())
    low, high = document["bounds"]
    print_table(
        f"{document['scenario']}: {document['policy']}, {document['horizon']} requests, {document['seeds']} seeds",
        (
            "share",
            "utility\n± 95 %",
            "cost\n± 95 %",
            "always this arm",
            "an-\nswered",
            "ESS",
            "fixed\nwidth",
            "any-\ntime",
        ),
        rows[:-1],
        caption=f"widths of 95 % intervals of an arm's utility, which lies in {low:.3g} .. {high:.3g} here; "
        "medians of the seeds; under 30 effective rows (ESS) the fixed one is too narrow to be trusted",
    )
