"""Files of a finished experiment: results as JSON and Parquet, and the picture of its regret."""

from __future__ import annotations

from pathlib import Path

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
    for label, (mean, low, high) in experiment.bands().items():
        (line,) = axes.plot(experiment.steps, mean, label=label, linewidth=1.6)
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
