"""How well policies learn on real outcome tables, against the best fixed arm and against each other, on paired luck.

    BANDIT_ROUTER_DATA=FOLDER python -m benchmarks.learning > learning.json
    python -m benchmarks.learning_page < learning.json

Two comparisons, both on shuffled first passes with the task as context, where every policy meets the same requests:
`whole` runs our own policies over the whole table, stationary and with the two best arms changing places halfway
(abrupt) or ever more often from a quarter on (gradual); `start` runs other packages over the first requests only,
because some take milliseconds a request. Utility is quality minus price x cost / mean cost of the dearest arm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.simulators.environment import Block, generator
from bandit_router.simulators.results import interval
from bandit_router.simulators.run import reference, simulate, utility
from bandit_router.simulators.table import TableEnvironment, load_table
from benchmarks.peers import installed

TABLES = ("paretobandit_val_k4", "routerbench_zs", "adapters7", "mmlu_pro")
PRICES = (0.0, 0.05, 0.2, 0.5)
FLIP_PRICE, FLIP_HORIZON = 0.2, 3000
START = 1500
GRID: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    DEFAULT_POLICY: (DEFAULT_POLICY, ("task",), {}),
    "LinUCB 0.1": ("LinUCB", ("task",), {"ridge": 0.25, "alpha": 0.1}),
    "LinUCB 0.3": ("LinUCB", ("task",), {"ridge": 0.25, "alpha": 0.3}),
    "LinUCB 0.1, bias only": ("LinUCB", (), {"ridge": 0.25, "alpha": 0.1}),
    "LinUCB 0.3, bias only": ("LinUCB", (), {"ridge": 0.25, "alpha": 0.3}),
    "LinTS 0.1": ("LinTS", ("task",), {"ridge": 0.25, "noise": 0.1}),
    "LinTS 0.3": ("LinTS", ("task",), {"ridge": 0.25, "noise": 0.3}),
    "LinEpsilonGreedy": ("LinEpsilonGreedy", ("task",), {"ridge": 0.25}),
    "SquareCB": ("SquareCB", ("task",), {"ridge": 0.25}),
    "GaussianThompson 0.1": ("GaussianThompson", (), {"noise": 0.1}),
    "GaussianThompson 0.3": ("GaussianThompson", (), {"noise": 0.3}),
    "UCB1": ("UCB1", (), {}),
    "EpsilonGreedy": ("EpsilonGreedy", (), {}),
    "Exp3": ("Exp3", (), {}),
}


class Flipped:
    """A table environment whose two best arms change places: at half the horizon, or ever more often from a quarter."""

    def __init__(self, base: TableEnvironment, weights: Any, *, gradual: bool) -> None:
        self.base, self.gradual = base, gradual
        self.name = f"{base.name}/{'gradual' if gradual else 'abrupt'}"
        self.arms, self.channels, self.dim = base.arms, base.channels, base.dim
        self.pair = utility(base.table.outcomes, weights).mean(axis=0).argsort()[-2:]

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """The base's stream with the pair's outcomes exchanged where the flip says so."""
        start = 0
        for index, block in enumerate(self.base.blocks(seed, horizon)):
            steps = np.arange(start, start + len(block.contexts)) / horizon
            share = np.clip(2 * steps - 0.5, 0, 1) if self.gradual else (steps >= 0.5)
            rows = np.flatnonzero(generator(self.name, "flip", seed, index).random(len(steps)) < share)
            outcomes = block.outcomes.copy()
            outcomes[np.ix_(rows, self.pair)] = outcomes[np.ix_(rows, self.pair[::-1])]
            yield Block(block.contexts, outcomes, outcomes)
            start += len(block.contexts)


@dataclass(frozen=True)
class Cell:
    """One comparison: an environment per kind of context, prices, a horizon."""

    name: str
    environments: dict[tuple[str, ...], Any]
    weights: Any
    horizon: int
    per_task: float


def cells(folder: Path, flips: bool) -> Iterator[Cell]:
    """The stationary cells, or those with flips."""
    for name in TABLES:
        table = load_table(folder / "outcomes" / name)
        base = {parts: TableEnvironment(table, contexts=parts) for parts in (("task",), ())}
        priced = "cost_usd" in table.channels
        for price in ((FLIP_PRICE,) if flips else PRICES) if priced else (0.0,):
            weights = np.zeros(len(table.channels))
            weights[0] = 1.0
            if priced:
                cost = table.channels.index("cost_usd")
                weights[cost] = -price / base[()].scales["cost_usd"]
            if not flips:
                yield Cell(f"{name} {price:g}", base, weights, len(table.tasks), _per_task(table, weights))
                continue
            for gradual in (False, True):
                both = {parts: Flipped(env, weights, gradual=gradual) for parts, env in base.items()}
                horizon = min(FLIP_HORIZON, len(table.tasks))
                yield Cell(f"{both[()].name} {price:g}", both, weights, horizon, float("nan"))


def _per_task(table: Any, weights: Any) -> float:
    """What the best arm of every task gains over the best arm, on the whole table."""
    u, tasks = utility(table.outcomes, weights), np.array([str(task) for task in table.tasks])
    best = sum(u[tasks == task].sum(axis=0).max() for task in np.unique(tasks))
    return float(best / len(u) - u.mean(axis=0).max())


def own(cell: Cell, label: str, seeds: int, horizon: int) -> list[float]:
    """Utility of one of our policies over the best fixed arm, by seed."""
    name, parts, settings = GRID[label]
    environment = cell.environments[parts]
    sizes = {"n_arms": len(environment.arms), "dim": environment.dim, "channels": len(environment.channels)}
    gains = []
    for seed in range(seeds):
        run = simulate(environment, POLICIES[name](**sizes, **settings), cell.weights, seed=seed, horizon=horizon)
        gains.append(
            float(run.curve[-1] - reference(environment, cell.weights, seed=seed, horizon=horizon).fixed[-1].max())
        )
    return [gain / horizon for gain in gains]


def peer(cell: Cell, make: Callable[..., Any], seeds: int, horizon: int) -> list[float]:
    """The same of another package."""
    environment = cell.environments["task",]
    gains = []
    for seed in range(seeds):
        policy, total, fixed = make(len(environment.arms), environment.dim, seed), 0.0, 0.0
        for block in environment.blocks(seed, horizon):
            u = utility(block.outcomes, cell.weights)
            for x, row in zip(block.contexts, u, strict=True):
                arm = policy.choose(x)
                policy.learn(x, arm, float(row[arm]))
                total += row[arm]
            fixed = fixed + u.sum(axis=0)
        gains.append(float((total - np.max(fixed)) / horizon))
    return gains


def compare(cell: Cell, horizon: int, runs: dict[str, Callable[[], list[float]]]) -> dict[str, Any]:
    """Gains of all policies on one cell, and of the default over each of them on their common seeds."""
    rows: list[dict[str, Any]] = []
    default: list[float] = []
    for label, run in runs.items():
        started = time.perf_counter()
        gains = run()
        default = default or gains
        paired = interval(np.subtract(default[: len(gains)], gains))
        row = {"policy": label, "seeds": len(gains), "gain": interval(np.array(gains)), "default_minus_this": paired}
        rows.append(row | {"gains": [round(gain, 6) for gain in gains]})
        print(f"{cell.name}: {label} {np.mean(gains):+.4f} ({time.perf_counter() - started:.0f} s)", file=sys.stderr)
    return {"cell": cell.name, "horizon": horizon, "per_task": cell.per_task, "rows": rows}


def main() -> None:
    """Print {"whole": [...], "flips": [...], "start": [...]}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="streams of the default policy")
    parser.add_argument("--others", type=int, default=5, help="streams of every other policy of ours")
    parser.add_argument("--peers", type=int, default=5, help="streams of every other package")
    options = parser.parse_args()
    folder = os.environ.get("BANDIT_ROUTER_DATA")
    if not folder:
        raise SystemExit("set BANDIT_ROUTER_DATA to the folder of the development data")

    def streams(label: str) -> int:
        return options.seeds if label == DEFAULT_POLICY else options.others

    results: dict[str, Any] = {"seeds": vars(options), "start_requests": START}
    for part, flips in (("whole", False), ("flips", True)):
        results[part] = [
            compare(c, c.horizon, {p: lambda p=p, c=c: own(c, p, streams(p), c.horizon) for p in GRID})  # type: ignore[misc]
            for c in cells(Path(folder), flips)
        ]
    packages = installed()
    results["start"] = [
        compare(
            c,
            START,
            {DEFAULT_POLICY: lambda c=c: own(c, DEFAULT_POLICY, options.peers, START)}  # type: ignore[misc]
            | {p: lambda m=m, c=c: peer(c, m, options.peers, START) for p, m in packages.items()},  # type: ignore[misc]
        )
        for c in cells(Path(folder), flips=False)
    ]
    json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
