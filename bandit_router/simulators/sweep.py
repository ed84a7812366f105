"""A price swept over a range: the frontier of quality over what it costs, and RouterBench's summary of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import COSTS, DECLARED
from bandit_router.simulators.environment import Environment
from bandit_router.simulators.experiment import Progress, run_scenario
from bandit_router.simulators.output import line_style
from bandit_router.simulators.run import playable_utility
from bandit_router.simulators.scenario import Scenario, with_overrides
from bandit_router.simulators.trace import TraceEnvironment


def run_sweep(
    scenario: Scenario,
    folder: Path | None = None,
    *,
    channel: str,
    prices: Sequence[float],
    jobs: int = 1,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Run a scenario at each price of one channel.

    Args:
        scenario: what to run; its other prices stay. folder: where its relative paths start.
        channel: a cost that the scenario meters. prices: utility per reference amount, at least one.
        jobs, progress: see `run_scenario`.

    Returns:
        The document of `sweep --json`: for every policy, every fixed arm and the oracle of each request the mean
        quality and amount, and the frontier figures of `frontier`. All of them are integrated over the same range,
        from the cheapest to the dearest arm.
    """
    environment = scenario.environment.build(scenario.name, folder)
    if isinstance(environment, TraceEnvironment):
        raise InvalidInput("requests that name their adapter leave nothing to sweep; use a scenario with a router")
    if channel not in COSTS or channel not in environment.channels:
        known = [name for name in COSTS if name in environment.channels]
        raise InvalidInput(f"cannot sweep {channel!r}; this scenario meters {', '.join(known) or 'no cost channel'}")
    points: dict[str, list[dict[str, float]]] = {policy.title: [] for policy in scenario.policies}
    for price in prices:
        priced = with_overrides(scenario, prices={**scenario.prices, channel: price})
        document = run_scenario(priced, folder, jobs=jobs, progress=progress).document
        for row in document["policies"]:
            points[row["policy"]].append(
                {"price": price, "quality_mean": row["quality_mean"], f"{channel}_mean": row[f"{channel}_mean"]}
            )
    arms, oracle = _arms_and_oracle(environment, scenario, channel, prices)
    span = (min(arm[f"{channel}_mean"] for arm in arms), max(arm[f"{channel}_mean"] for arm in arms))

    def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"points": rows, **frontier([(row[f"{channel}_mean"], row["quality_mean"]) for row in rows], span)}

    return {
        "scenario": scenario.name,
        "environment": environment.describe() | {"prices": scenario.prices},
        "channel": channel,
        "prices": list(prices),
        "seeds": scenario.seeds,
        "horizon": document["horizon"],
        "range": list(span),
        "policies": [{"policy": label, **summary(rows)} for label, rows in points.items()],
        "fixed_arms": summary(arms),
        "oracle": summary(oracle),
    }


def frontier(points: Sequence[tuple[float, float]], span: tuple[float, float]) -> dict[str, float | None]:
    """RouterBench's figures of a set of (amount, quality) points.

    Args:
        points: at least one. span: lowest and highest amount to integrate over.

    Returns:
        aiq: mean height over `span` of the non-decreasing upper hull of the points; None for a span without width.
            Right of the last point the hull goes on flat; left of the first it is the first point's quality scaled
            down to 0 at amount 0, which is what mixing with no answer at all would give.
        peak_quality, average_quality: over the points.

    Source: Hu et al. 2024, "RouterBench", arXiv 2403.12031, section 3. How it continues to the left is not said there.

    Example:
        >>> frontier([(1.0, 0.25), (3.0, 0.75), (2.0, 0.25)], (1.0, 5.0))["aiq"]
        0.625
    """
    qualities = [quality for _, quality in points]
    hull = _hull(points)
    x, y = np.array([0.0, *(p[0] for p in hull)]), np.array([0.0, *(p[1] for p in hull)])
    low, high = span
    aiq = None
    if high > low:
        grid = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
        heights = np.interp(grid, x, y)
        aiq = float((np.diff(grid) * (heights[1:] + heights[:-1])).sum() / 2 / (high - low))
    return {"aiq": aiq, "peak_quality": max(qualities), "average_quality": float(np.mean(qualities))}


def _hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the upper concave hull, from the cheapest point (its best quality) to the best one."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _arms_and_oracle(
    environment: Environment, scenario: Scenario, channel: str, prices: Sequence[float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What every fixed arm and, at each price, the best arm of each request would have got, on the same streams."""
    horizon, column = scenario.horizon_requests or environment.horizon, environment.channels.index(channel)
    blocks = [block for seed in range(scenario.seeds) for block in environment.blocks(seed, horizon)]
    means = np.concatenate([block.means for block in blocks])
    fixed = np.nanmean(means, axis=0)
    arms = [
        {"arm": arm.id, "quality_mean": float(fixed[i, 0]), f"{channel}_mean": float(fixed[i, column])}
        for i, arm in enumerate(environment.arms)
    ]
    oracle = []
    for price in prices:
        priced = with_overrides(scenario, prices={**scenario.prices, channel: price})
        weights = priced.utility(environment.scales).weights(environment.channels)
        best = np.concatenate([playable_utility(block, weights).argmax(axis=1) for block in blocks])
        chosen: F64 = means[np.arange(len(means)), best]
        oracle.append(
            {
                "price": price,
                "quality_mean": float(chosen[:, 0].mean()),
                f"{channel}_mean": float(np.nanmean(chosen[:, column])),
            }
        )
    return arms, oracle


def write_sweep(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write sweep.json, frontier.png and frontier.svg; the pictures need the extra `plots`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return [path, *_plot(document, folder / "frontier")]


def _plot(document: dict[str, Any], stem: Path) -> list[Path]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    channel = document["channel"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for i, row in enumerate([*document["policies"], {"policy": "oracle of each request", **document["oracle"]}]):
        x, y = ([point[name] for point in row["points"]] for name in (f"{channel}_mean", "quality_mean"))
        (line,) = axes.plot(x, y, "o^sv"[i // 10 % 4], markersize=4, label=f"{row['policy']}, AIQ {row['aiq']:.3f}")
        hull = _hull(list(zip(x, y, strict=True)))
        axes.plot(*zip(*hull, strict=True), color=line.get_color(), linewidth=1.2, linestyle=line_style(i))
    for arm in document["fixed_arms"]["points"]:
        axes.plot(arm[f"{channel}_mean"], arm["quality_mean"], "x", color="black")
        place = (arm[f"{channel}_mean"], arm["quality_mean"])
        name = arm["arm"].split("/")[-1]
        axes.annotate(name, place, (0, 5), textcoords="offset points", ha="center", fontsize="x-small")
    axes.margins(0.1)
    axes.set(
        title=f"{document['scenario']}: quality over {channel}, {document['seeds']} seeds",
        xlabel=f"mean {channel} per request ({DECLARED[channel].unit})",
        ylabel="mean quality",
        xscale="log" if document["range"][0] > 0 and document["range"][1] > 20 * document["range"][0] else "linear",
    )
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths
