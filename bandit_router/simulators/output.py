"""Files of a finished experiment: results as JSON and Parquet, and the picture of its regret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.simulators.experiment import Experiment


def write_results(experiment: Experiment, folder: Path) -> list[Path]:
    """Write results.json, curves.parquet, regret.png and regret.svg; the pictures need the extra `plots`."""
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    document = folder / "results.json"
    document.write_bytes(msgspec.json.format(msgspec.json.encode(experiment.document), indent=2) + b"\n")
    curves = folder / "curves.parquet"
    frames = [
        pl.DataFrame({"policy": label, "seed": seed, "step": experiment.steps, "regret_best_fixed": curve})
        for label, runs in experiment.curves.items()
        for seed, curve in enumerate(runs)
    ]
    pl.concat(frames).write_parquet(curves, compression="zstd")
    return [document, curves, *plot_regret(experiment, folder / "regret")]


def plot_regret(experiment: Experiment, stem: Path) -> list[Path]:
    """Cumulative regret against the best fixed arm with its 95 % band, as PNG and SVG; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, (mean, low, high)) in enumerate(experiment.bands().items()):
        (line,) = axes.plot(experiment.steps, mean, label=label, linewidth=1.6, linestyle=line_style(i))
        axes.fill_between(experiment.steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set(
        title=f"{experiment.document['scenario']}: {experiment.document['seeds']} seeds, mean and 95 % interval",
        xlabel="requests",
        ylabel="cumulative regret against the best fixed arm (utility)",
        xlim=(0, int(np.max(experiment.steps))),
    )
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths


def line_style(number: int) -> str:
    """Style of the curve with this number: the ten colours start again, so each round of ten has a style of its own."""
    return ("-", "--", ":", "-.")[number // 10 % 4]


def write_capacity(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write capacity.json, and utility and paging time against slots as PNG and SVG where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "capacity.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return [path]
    rows = document["capacity"]
    slots = [row["slots"] for row in rows]
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [row["utility_mean"]["ci95"] or [row["utility_mean"]["mean"]] * 2 for row in rows]
    left.plot(slots, [row["utility_mean"]["mean"] for row in rows], marker="o")
    left.fill_between(slots, *zip(*ends, strict=True), alpha=0.2)
    left.set(xlabel="adapter slots", xticks=slots, ylabel="utility per request, net of paging")
    right.plot(slots, [row["page_ms_per_request"] for row in rows], marker="o", color="tab:orange")
    right.set(xlabel="adapter slots", xticks=slots, ylabel="paging per request (ms)", ylim=(0, None))
    figure.suptitle(f"{document['scenario']}: {document['policy']}, {document['seeds']} seeds, 95 % interval")
    pictures = [folder / f"capacity{suffix}" for suffix in (".png", ".svg")]
    for picture in pictures:
        figure.savefig(picture, dpi=130)
    return [path, *pictures]
