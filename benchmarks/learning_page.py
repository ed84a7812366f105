"""Results of `benchmarks.learning` as the tables and the figure of docs/evidence/learning.md.

    python -m benchmarks.learning_page docs/evidence/learning.md < benchmarks/results/learning.json

Replaces what stands between `<!-- results -->` and `<!-- /results -->` there and writes img/learning.png beside it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

TITLES = {
    "whole": "Our own policies, whole tables",
    "flips": "Our own policies, the two best arms change places",
    "start": "Other packages, first {start_requests:,} requests",
    "start_flips": "Other packages, the two best arms change places",
}


def verdict(difference: dict[str, Any]) -> str:
    """Whether the default is better, worse, or neither by the interval of the paired difference."""
    low, high = difference["ci95"]
    return "win" if low > 0 else "loss" if high < 0 else "tie"


def gain(row: dict[str, Any]) -> str:
    """Mean and half-width of the interval, in points of utility (hundredths)."""
    low, high = row["gain"]["ci95"]
    return f"{100 * row['gain']['mean']:+.2f} ± {50 * (high - low):.2f}"


def table(part: str, results: dict[str, Any]) -> str:
    """One line a cell: the default, the strongest other policy in hindsight, and how many the default beats.

    The default's own variants are no other policies.
    """
    head = (
        "| cell | best per task | asymptotic | default | best other there | default minus that | wins, ties, losses |"
    )
    lines = [head, "| --- | ---: | ---: | ---: | --- | ---: | ---: |"]
    for cell in results[part]:
        default, *others = cell["rows"]
        others = [row for row in others if not row["policy"].startswith(default["policy"])]
        best = max(others, key=lambda row: row["gain"]["mean"])
        low, high = best["default_minus_this"]["ci95"]
        counts = [[verdict(row["default_minus_this"]) for row in others].count(word) for word in ("win", "tie", "loss")]
        task, asymptote = (
            "" if cell[name] != cell[name] else f"{sign * 100 * cell[name]:+.2f}"
            for name, sign in (("per_task", 1), ("asymptote", -1))
        )
        lines.append(
            f"| {cell['cell']} | {task} | {asymptote} | {gain(default)} | {best['policy']}: {gain(best)} | "
            f"{100 * low:+.2f} to {100 * high:+.2f} | {', '.join(map(str, counts))} |"
        )
    return "\n".join(lines)


def every(part: str, results: dict[str, Any]) -> str:
    """The mean gain of every policy on every cell, and its mean over the cells."""
    cells = results[part]
    short = [re.sub(r"_[a-z0-9_]*", "", cell["cell"]) for cell in cells]
    lines = ["| | mean | " + " | ".join(short) + " |", "| --- | ---: |" + " ---: |" * len(cells)]
    for i, row in enumerate(cells[0]["rows"]):
        gains = [100 * cell["rows"][i]["gain"]["mean"] for cell in cells]
        lines.append(
            f"| {row['policy']} | " + " | ".join(f"{g:+.2f}" for g in (sum(gains) / len(gains), *gains)) + " |"
        )
    return "\n".join(lines)


def figure(results: dict[str, Any], path: Path) -> None:
    """Every policy's gain by cell, the default on top."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(2, 2, figsize=(11, 8), sharey=True, width_ratios=[5, 4])
    for axis, (part, title) in zip(axes.flat, TITLES.items(), strict=True):
        if part not in results:
            axis.set_axis_off()
            continue
        for i, cell in enumerate(results[part]):
            default, *others = cell["rows"]
            axis.plot([i] * len(others), [100 * row["gain"]["mean"] for row in others], "_", color="0.5", ms=9)
            low, high = default["gain"]["ci95"]
            axis.plot([i, i], [100 * low, 100 * high], color="C3")
            axis.plot([i], [100 * default["gain"]["mean"]], "o", color="C3", ms=5)
        axis.axhline(0, color="0.2", lw=0.8)
        axis.set_yscale("symlog", linthresh=2)
        axis.set_title(title.format(**results), fontsize=9)
        names = [re.sub(r"_[a-z0-9_]*", "", cell["cell"]) for cell in results[part]]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("utility over the best fixed arm, points")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)


def main() -> None:
    """Write the page's tables and its figure."""
    results, page = json.load(sys.stdin), Path(sys.argv[1])
    parts = [
        f"## {title.format(**results)}\n\n{table(part, results)}\n\n{every(part, results)}"
        for part, title in TITLES.items()
        if part in results
    ]
    marks = r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)"
    body = "\n\n".join(parts)
    text, found = re.subn(marks, lambda _: f"\n{body}\n\n", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{page} must have one <!-- results --> ... <!-- /results -->, has {found}")
    page.write_text(text, encoding="utf-8")
    figure(results, page.parent / "img" / "learning.png")


if __name__ == "__main__":
    main()
