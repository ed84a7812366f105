"""Every registered policy on three presets, and what a step costs: docs/evidence/policies.md and its pictures.

    python -m benchmarks.families --out families.jsonl --docs docs

Runs what families.jsonl lacks, one line per policy and preset, so that it can be stopped and taken up again; then
writes docs/evidence/figures/family-NAME.png and the table of docs/evidence/policies.md, and prints the rows as JSON.
Adapters are all resident, so that only learning is compared; VW and River must be installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.simulators.configs import PolicyConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import load_scenario
from benchmarks.markdown import replace

FAMILIES: dict[str, tuple[str, ...]] = {
    "linear": (
        "LinUCB",
        "LinTS",
        "LinEpsilonGreedy",
        "SquareCB",
        "Softmax",
        "LinIDS",
        "BootstrapLinear",
        "RandomLayerTS",
        "SketchedLinUCB",
    ),
    "context-free": ("EpsilonGreedy", "UCB1", "GaussianThompson", "BetaThompson", "Exp3"),
    "hierarchical": ("EvidenceThompson", "HybridLinUCB", "HierarchicalLinTS"),
    "foreign": tuple(name for name in POLICIES if name.startswith(("VW", "River"))),
    "drift": ("DriftLinUCB", "DriftLinTS", "LinUCB", "LinTS"),
    "meta": ("MixtureThompson", "LinTS", "HierarchicalLinTS", "GaussianThompson", "EvidenceThompson, premium 0.1"),
}
BASELINES = ("Fixed", "UniformRandom", "RoundRobin")
CONFIGS = {name: PolicyConfig(name=name) for name in POLICIES}
CONFIGS["EvidenceThompson, premium 0.1"] = PolicyConfig(name="EvidenceThompson", settings={"premium": 0.1})
PRESETS = {"models/llm": (10, 1785), "adapters/zipf": (10, 3000), "adapters/drift": (10, 3000)}  # seeds, requests
SIZES = ((16, 16), (64, 16), (16, 64))  # arms, dim
STEPS, BLOCKS = 10, 5


def regret(preset: str, name: str) -> dict[str, Any]:
    """One policy on one preset: its entry of the results document, and its regret curve with the interval's ends."""
    scenario, folder = load_scenario(preset)
    seeds, horizon = PRESETS[preset]
    config = msgspec.structs.replace(CONFIGS[name], label=name)
    scenario = msgspec.structs.replace(scenario, paging=None, seeds=seeds, horizon_requests=horizon, policies=(config,))
    try:
        experiment = run_scenario(scenario, folder)
    except InvalidInput as error:  # BetaThompson: noisy adapters have qualities outside [0, 1]
        return {"refused": str(error)}
    curves = np.round(experiment.bands()[name], 2).tolist()
    references = experiment.document["references"]
    return {**experiment.document["policies"][0], "references": references, "curves": curves}


def cost(name: str) -> dict[str, Any]:
    """Microseconds of processor time per decision and outcome at each size, the least of several blocks."""
    config, times = CONFIGS[name], []
    for n_arms, dim in SIZES:
        policy = POLICIES[config.name](n_arms=n_arms, dim=dim, **config.settings)
        rng, blocks = np.random.default_rng(0), []
        for _ in range(BLOCKS):
            contexts, arms, qualities = (
                rng.normal(size=(STEPS, dim)),
                rng.integers(n_arms, size=STEPS),
                rng.random(STEPS),
            )
            started = time.process_time()
            for x, arm, quality in zip(contexts, arms.tolist(), qualities, strict=True):
                policy.probabilities(x)
                policy.learn(x, arm, [quality], propensity=0.5)
            blocks.append((time.process_time() - started) / STEPS * 1e6)
        times.append(min(blocks))
    return {"microseconds": times}


def rows(path: Path, names: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every row by (preset or "cost", policy); runs and appends what the file lacks."""
    known = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[row["preset"], row["name"]] = row
    with path.open("a", encoding="utf-8") as file:
        for preset in ("cost", *PRESETS):
            for name in names:
                if (preset, name) in known:
                    continue
                started = time.perf_counter()
                row = cost(name) if preset == "cost" else regret(preset, name)
                known[preset, name] = {"preset": preset, "name": name, **row}
                print(json.dumps(known[preset, name]), file=file, flush=True)
                print(f"{preset} {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return known


def table(known: dict[tuple[str, str], dict[str, Any]], names: list[str]) -> str:
    """The policies by their mean share of the regret of uniform random play to the oracle, over the presets."""

    def share(name: str) -> float:
        if any("refused" in known[preset, name] for preset in PRESETS):
            return float("inf")
        pairs = [(known[preset, name], known[preset, "UniformRandom"]) for preset in PRESETS]
        return float(np.mean([_oracle(one) / _oracle(uniform) for one, uniform in pairs]))

    head = ["", "family", *(f"{preset}: {what}" for preset in PRESETS for what in ("utility", "regret"))]
    head += ["share of random's regret", *(f"us at {n}x{d}" for n, d in SIZES)]
    lines = [head, ["---", "---"] + ["---:"] * (len(head) - 2)]
    for name in sorted(names, key=share):
        cells = [name + (" (default)" if name == DEFAULT_POLICY else ""), _family(name)]
        for preset in PRESETS:
            cells += _cells(known[preset, name])
        times = [f"{us:.0f}" for us in known["cost", name]["microseconds"]]
        lines.append([*cells, f"{share(name):.2f}".replace("inf", ""), *times])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    if "refused" in row:
        return ["refused", ""]
    return [_interval(row["utility_mean"], 3), _interval(row["regret"]["best_fixed"], 0)]


def _oracle(row: dict[str, Any]) -> float:
    return float(row["regret"]["oracle"]["mean"])


def _family(name: str) -> str:
    for family, members in FAMILIES.items():
        if name in members:
            return f"[{family}](../explanation/policies/{family}.md)"
    return "baseline" if name in BASELINES else ""


def _interval(value: dict[str, Any], digits: int) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def picture(family: str, known: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Cumulative regret against the best fixed arm, a panel per preset; the default policy dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, (preset, (seeds, horizon)) in zip(figure.subplots(1, len(PRESETS)), PRESETS.items(), strict=True):
        for name in dict.fromkeys((*FAMILIES[family], DEFAULT_POLICY)):
            if "refused" in known[preset, name]:
                continue
            mean, low, high = np.array(known[preset, name]["curves"])
            style = {"color": "black", "linestyle": "--"} if name == DEFAULT_POLICY else {}
            steps = np.unique(np.linspace(1, horizon, len(mean)).round())
            (line,) = axes.plot(steps, mean, label=name, linewidth=1.2, **style)
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.1, linewidth=0)
        axes.axhline(0, color="grey", linewidth=0.6)
        axes.set(title=f"{preset}, {seeds} seeds", xlabel="request")
    figure.axes[0].set_ylabel("regret to the best fixed arm")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("families.jsonl"), help="rows, kept between calls")
    parser.add_argument("--docs", type=Path, help="folder of the documents to write into; default none")
    options = parser.parse_args()
    names = list(CONFIGS)
    known = rows(options.out, names)
    if options.docs is not None:
        for family in FAMILIES:
            picture(family, known, options.docs / "evidence" / "figures" / f"family-{family}.png")
        replace(options.docs / "evidence" / "policies.md", table(known, names))
    json.dump([{key: value for key, value in row.items() if key != "curves"} for row in known.values()], sys.stdout)


if __name__ == "__main__":
    main()
