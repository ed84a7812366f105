"""How regret scales: `python -m benchmarks.polar_scaling --out docs/evidence/img/polar_scaling`.

From the base point N 15, K 5, d 5, T 10,000 and paging weight 0.1 one number varies at a time. Prints the means,
loads and log-log slopes against T as JSON, and writes the picture with 95 % intervals as PNG and SVG.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.simulators.configs import AdaptersConfig, PagingConfig, PolicyConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import Scenario

ROUTER = {"alpha": 0.2, "ridge": 0.04, "floor": 0.0}
CONTROLLERS = ("ExchangeCredit", "Polar", "PolarPlus", "LFU", "StaticBest")
BASE = {"N": 15, "K": 5, "d": 5, "T": 10_000}
GRID = {
    "T": (1_000, 2_000, 4_000, 8_000, 16_000, 32_000),
    "N": (8, 15, 30, 60, 120),
    "K": (1, 2, 4, 8, 15),
    "d": (2, 4, 8, 16, 32),
}


def point(seeds: int, **sizes: int) -> dict[str, Any]:
    """Regret of every controller at one point."""
    scenario = Scenario(
        name=f"scaling/{sizes['N']}-{sizes['d']}",
        environment=AdaptersConfig(adapters=sizes["N"], dim=sizes["d"]),
        paging=PagingConfig(weight_utility=0.1, capacity_slots=sizes["K"]),
        policies=tuple(PolicyConfig(name="LinUCB", settings=ROUTER, controller=c, label=c) for c in CONTROLLERS),
        seeds=seeds,
        horizon_requests=sizes["T"],
    )
    rows = run_scenario(scenario).document["policies"]
    return {row["policy"]: row["paging"] for row in rows}


def slope(x: tuple[int, ...], y: list[float]) -> float:
    """Slope of the least-squares line of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)[0])


def plot(results: dict[str, dict[str, list[Any]]], stem: Path, seeds: int) -> None:
    """One panel a number, logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(2, 2).ravel(), GRID.items(), strict=True):
        for controller in CONTROLLERS:
            pages = [entry["regret_static_cache"] for entry in results[name][controller]]
            ends = [page["ci95"] or [page["mean"]] * 2 for page in pages]
            (line,) = axes.plot(values, [page["mean"] for page in pages], marker="o", label=controller)
            low, high = np.maximum(np.array(ends).T, 1e-1)
            axes.fill_between(values, low, high, color=line.get_color(), alpha=0.15)
        means = [entry["regret_static_cache"]["mean"] for c in CONTROLLERS for entry in results[name][c]]
        axes.set_ylim(min(means) / 2, max(means) * 2)
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="regret to the best static cache", xticks=values)
        axes.set_xticklabels([str(value) for value in values])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))  # a panel may span less than a power of ten
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    figure.suptitle(f"base N 15, K 5, d 5, T 10,000, paging weight 0.1; {seeds} seeds, 95 % interval")
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg"):
        figure.savefig(stem.with_suffix(suffix), dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/polar_scaling"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, dict[str, list[Any]]] = {}
    for name, values in GRID.items():
        results[name] = {controller: [] for controller in CONTROLLERS}
        for value in values:
            print(f"{name} = {value}", file=sys.stderr)
            for controller, paging in point(options.seeds, **{**BASE, name: value}).items():
                results[name][controller].append(paging)
    plot(results, options.out, options.seeds)
    slopes = {
        controller: {
            part: slope(GRID["T"], [entry[part] for entry in entries]) for part in ("routing_regret", "cache_regret")
        }
        for controller, entries in results["T"].items()
    }
    means = {
        name: {c: [round(entry["regret_static_cache"]["mean"], 1) for entry in entries] for c, entries in rows.items()}
        for name, rows in results.items()
    }
    loads = {c: [entry["loads"] for entry in entries] for c, entries in results["T"].items()}
    print(json.dumps({"grid": GRID, "regret": means, "slope_against_T": slopes, "loads_against_T": loads}))


if __name__ == "__main__":
    main()
