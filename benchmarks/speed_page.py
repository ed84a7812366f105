"""Results of peers, decide, replay, scale and kernels as the tables and figures of docs/evidence/speed.md.

    python -m benchmarks.speed_page docs/evidence/speed.md

Reads benchmarks/results/*.json, replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in the page, and
writes the figures beside it under img/.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Rows = Iterable[Iterable[Any]]


def table(head: list[str], rows: Rows) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(number(cell) for cell in line) + " |" for line in lines)


def number(value: Any) -> str:
    """Three digits."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def setting(document: dict[str, Any]) -> str:
    """Where it was measured."""
    machine, versions = document["machine"], document["versions"]
    model = f"{machine['model']}, {machine['cores']} cores, load average {machine['load_average'][0]} at the start"
    return f"{model}; Python {versions['python']}, NumPy {versions['numpy']}, kernels: {versions['kernels']}."


def peers(document: dict[str, Any]) -> str:
    """One table a size."""
    head = ["learner", "select us", "p99", "update us", "p99", "events/s", "time", "reward", "reference", "MiB"]
    parts = []
    for size, learners in document["sizes"].items():
        rows = []
        for name, each in learners.items():
            if "left_out" in each:
                rows.append([name, each["left_out"], *[""] * 8])
                continue
            times = [*each["select_us"], *each["update_us"], each["events_per_s"]]
            times.append(f"{number(each['times_reference'])}x")
            shares = [f"{each[share]:.3f}" for share in ("reward", "reference_reward")]
            rows.append([name, *times, *shares, round(each["peak_memory_mib"])])
        n_arms, dim = size.split("x")
        parts.append(f"### {n_arms} arms, {dim} dimensions\n\n{table(head, rows)}")
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return "\n\n".join([setting(document), *parts, f"Versions: {versions}."])


def decide(document: dict[str, Any]) -> str:
    """One table a size: alone and observed."""
    parts = [setting(document)]
    for size, found in document["sizes"].items():
        (under,) = (name for name in found if name.startswith("under"))
        rows = []
        for name, alone in found["alone"].items():
            observed = found[under].get(name, {})
            ratio = alone["median_us"] / found["alone"]["numpy select"]["median_us"]
            tail = [observed.get("median_us"), observed.get("p99_us")]
            rows.append([name, alone["median_us"], alone["p99_us"], ratio, *tail])
        head = [size.replace("x", " arms, d = "), "median us", "p99 us", "over numpy select", under, "p99 us"]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def replay(document: dict[str, Any]) -> str:
    """Rows a second and how many times slower than ours."""
    rates, over = document["rows_per_cpu_s"], document["follow_64_over"]
    rows = [[name, rate, f"{number(over[name])}x"] for name, rate in rates.items()]
    return f"{setting(document)}\n\n{table(['loop', 'rows per second of one core', 'slower than the first'], rows)}"


def columns(rows: list[dict[str, Any]], names: dict[str, str]) -> str:
    """A table of some entries of each row."""
    return table(list(names.values()), ([row[name] for name in names] for row in rows))


def skipping(rows: list[dict[str, Any]]) -> str:
    """A choice with and without skipping."""
    each = ({**row, "gain": row["every_index_us"] / row["select_us"]} for row in rows)
    names = {"arms": "arms", "dim": "d", "alpha": "alpha", "every_index_us": "every index, us"}
    more = {"select_us": "select, us", "gain": "ratio", "different": "choices that differ in 1,000"}
    return columns(list(each), names | more)


def sketch(rows: list[dict[str, Any]]) -> str:
    """Regret and what it buys."""
    names = {"decay": "decay p", "policy": "policy", "regret": "regret / best", "late_regret": "in the last quarter"}
    return columns(rows, names | {"step_us": "us a step", "state_mib": "state, MiB"})


def hybrid(rows: list[dict[str, Any]]) -> str:
    """Shared parameters."""
    names = {"features": "features", "first_decides_us": "decide at first, us", "last_decides_us": "later, us"}
    return columns(rows, names | {"learn_us": "learn, us"})


def threads(rows: list[dict[str, Any]]) -> str:
    """Two threads over one."""
    head = ["arms", "d", "two threads over one", "least", "most", "by processor time a step", "load average"]
    body = []
    for row in rows:
        ratios = [row["two_over_one"][name] for name in ("median", "least", "most")]
        body.append([row["arms"], row["dim"], *ratios, row["processor_time_one_over_two"], row["load_average"]])
    return table(head, body)


def kernels(document: dict[str, Any]) -> str:
    """Agreement, drift, calls."""
    agreement = {"arms": "arms", "dim": "d", "steps": "steps", "different_choices": "choices that differ"}
    more = {"different_with_skipping": "with skipping", "largest_index_error": "largest index error"}
    drift = {"bits": "bits", "updates": "updates", "width_relative_error": "width, relative", "theta_error": "theta"}
    calls = {"arms": "arms", "dim": "d", "from_python_us": "from Python, us", "in_c_us": "whole loop in C, us"}
    parts = [
        columns(document["agreement"], agreement | more),
        columns(document["drift"], drift),
        columns(document["calls"], calls | {"ratio": "ratio"}),
    ]
    return "\n\n".join([setting(document), *parts])


def summary(documents: dict[str, dict[str, Any]]) -> str:
    """What was aimed at, and what came out."""
    learners = documents["peers"]["sizes"]["16x32"]
    others = {name: each for name, each in learners.items() if "left_out" not in each and not name.startswith("ours")}
    equals = {name: each for name, each in others.items() if each["reward"] > 0.99 * each["reference_reward"]}
    peer = min(equals, key=lambda name: equals[name]["both_us"])
    called = {(row["arms"], row["dim"]): row["ratio"] for row in documents["kernels"]["calls"]}
    ratios, over = documents["decide"]["sizes"]["16x32"]["ratios"], documents["replay"]["follow_64_over"]
    two = next(row for row in documents["scale"]["threads"] if row["dim"] == 32)
    rows = [
        [
            f"select + update, the fastest peer that learns as well ({peer}) over ours",
            "25",
            equals[peer]["times_reference"],
        ],
        ["select + update from Python over the loop in C, (16, 64)", "at most 1.5", called[16, 64]],
        ["the same, (256, 64)", "at most 1.5", called[256, 64]],
        ["`decide` with LinUCB over a NumPy select alone", "at most 1.03", ratios["LinUCB, no store / numpy select"]],
        ["ParetoBandit's route over `decide` with LinUCB", "8", 1 / ratios["LinUCB, no store / ParetoBandit route"]],
        ["replay over the NumPy loop", "15", over["follow, NumPy"]],
        ["replay over NumPy by hand", "", over["NumPy by hand"]],
        ["replay over VW, from Python, text parsed before", "40", over["VW, Python loop"]],
        ["replay over VW's own driver, parsing included", "40", over["VW, driver"]],
        ["two threads over one, by the clock", "1.8", two["two_over_one"]["median"]],
        ["two threads, processor time a step, one over two", "", two["processor_time_one_over_two"]],
    ]
    return table(["ratio, (16, 32) unless it says otherwise", "aim", "measured"], rows)


def draw(documents: dict[str, dict[str, Any]], folder: Path) -> None:
    """Two figures: what a step costs as things grow, and every learner's time against its reward."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    scale = documents["scale"]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = (("arms", "arms", "d = 32"), ("dimensions", "dim", "16 arms"), ("horizon", "until", "64 arms, d = 64"))
    for axes, (part, name, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for form in ("f64_us", "f32_us", "step_us"):
            if form in scale[part][0]:
                label = {"f64_us": "64 bits", "f32_us": "32 bits"}.get(form)
                axes.plot(
                    [row[name] for row in scale[part]], [row[form] for row in scale[part]], marker="o", label=label
                )
        axes.set(title=title, xlabel={"dim": "dimensions", "until": "steps"}.get(name, name), ylabel="us a step")
        if part != "horizon":
            axes.set(xscale="log", yscale="log")
            axes.legend()
        else:
            axes.set_ylim(bottom=0)
    figure.savefig(folder / "speed_scale.png", dpi=110)

    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, (size, learners) in zip(figure.subplots(2, 3).ravel(), documents["peers"]["sizes"].items(), strict=True):
        for name, each in learners.items():
            if each.get("events", 0) >= 500 and each["reference_reward"]:  # fewer say little of what is learned
                share = each["reward"] / each["reference_reward"]
                colour = f"C{list(learners).index(name) % 10}"
                axes.plot(each["both_us"], share, "o" if name.startswith("ours") else "x", color=colour, label=name)
        axes.set(title=size, xscale="log", xlabel="select + update, us", ylabel="reward over exact LinUCB's")
        axes.xaxis.set_minor_formatter(NullFormatter())
    shown = {}
    for axes in figure.axes:
        shown |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize="small")
    figure.savefig(folder / "speed_peers.png", dpi=110)


def main() -> None:
    """Write the page and its figures."""
    path = Path(sys.argv[1])
    documents = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    scale = documents["scale"]
    parts = {name: globals()[name](documents[name]) for name in ("peers", "decide", "replay", "kernels")}
    parts |= {name: globals()[name](scale[name]) for name in ("skipping", "sketch", "hybrid", "threads")}
    parts |= {"setting": setting(scale), "summary": summary(documents)}
    page = path.read_text(encoding="utf-8")
    for name, text in parts.items():
        block = f"<!-- {name} -->\n\n{text}\n\n<!-- /{name} -->"
        page, found = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, page, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{path} must have one <!-- {name} --> ... <!-- /{name} -->, has {found}")
    path.write_text(page, encoding="utf-8")
    draw(documents, path.parent / "img")


if __name__ == "__main__":
    main()
