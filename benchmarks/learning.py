"""How well policies learn on real outcome tables, against the best fixed arm and against each other, on paired luck.

    BANDIT_ROUTER_DATA=FOLDER python -m benchmarks.learning --log runs.jsonl > benchmarks/results/learning.json
    python -m benchmarks.learning_page docs/evidence/learning.md < benchmarks/results/learning.json

On shuffled first passes with the task as context, where every policy of a cell meets the same requests. Our own
policies run over whole tables, of MMLU-Pro the first 4,000 requests (`whole`), and with the two best arms changing
places halfway (abrupt) or ever more often from a quarter on (gradual) within the first 2,000 requests (`flips`). Other
packages run beside the default over the first 1,000 requests of the same cells (`start`, `start_flips`), because some
take milliseconds a request. Utility is quality minus price x cost / mean cost of the dearest arm. Finished runs are in
the log and are not done again; a log is of one version of the code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.policies.base import utility
from bandit_router.policies.native import kernel_name
from bandit_router.simulators.environment import Block, generator
from bandit_router.simulators.results import interval
from bandit_router.simulators.run import reference, simulate
from bandit_router.simulators.table import TableEnvironment, load_table
from benchmarks.learners import PEERS, installed

TABLES = ("paretobandit_val_k4", "routerbench_zs", "adapters7", "mmlu_pro")
PRICES = (0.0, 0.05, 0.2, 0.5)
FLIP_PRICE, FLIP_HORIZON = 0.2, 2000
PACKAGES = (
    *("vowpal-wabbit-next", "paretobandit", "bayesianbandits", "mabwiser", "river", "gittins"),
    "contextualbandits",
)
START = 1000
LONGEST = {"mmlu_pro": 4000}  # 28 arms: some policies take a third of a millisecond a request
PARTS = {"whole": False, "start": False, "flips": True, "start_flips": True}
GRID: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    DEFAULT_POLICY: (DEFAULT_POLICY, ("task",), {}),
    f"{DEFAULT_POLICY}, premium 0.01": (DEFAULT_POLICY, ("task",), {"premium": 0.01}),
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
    per_task: float = float("nan")
    asymptote: float = float("nan")


def cells(folder: Path, flips: int | None) -> Iterator[Cell]:
    """The stationary cells, or those with flips within so many requests."""
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
                horizon = min(LONGEST.get(name, len(table.tasks)), len(table.tasks))
                known = _per_task(table, weights), asymptote(utility(table.outcomes, weights), horizon)
                yield Cell(f"{name} {price:g}", base, weights, horizon, *known)
                continue
            for gradual in (False, True):
                both = {parts: Flipped(env, weights, gradual=gradual) for parts, env in base.items()}
                horizon = min(flips, len(table.tasks))
                yield Cell(f"{both[()].name} {price:g}", both, weights, horizon)


def _per_task(table: Any, weights: Any) -> float:
    """What the best arm of every task gains over the best arm, on the whole table."""
    u, tasks = utility(table.outcomes, weights), np.array([str(task) for task in table.tasks])
    best = sum(u[tasks == task].sum(axis=0).max() for task in np.unique(tasks))
    return float(best / len(u) - u.mean(axis=0).max())


def asymptote(u: Any, horizon: int) -> float:
    """Least loss a request that telling the arms of utilities (requests, arms) apart costs without context.

    The sum over arms of 2 sd^2 log(T) / (gap T), for normal outcomes; no policy that is good on every instance does
    better as T grows (Lai & Robbins 1985). It is no bound at a given T: a policy that stops trying arms
    sooner can be below it, and pays where its luck was bad.
    """
    mean, variance = u.mean(axis=0), u.var(axis=0)
    gap = mean.max() - mean
    return float((2 * variance[gap > 0] * np.log(horizon) / gap[gap > 0]).sum() / horizon)


def own(cell: Cell, label: str, seed: int, horizon: int) -> float:
    """Utility per request of one of our policies over the best fixed arm."""
    name, parts, settings = GRID[label]
    environment = cell.environments[parts]
    sizes = {"n_arms": len(environment.arms), "dim": environment.dim, "channels": len(environment.channels)}
    run = simulate(environment, POLICIES[name](**sizes, **settings), cell.weights, seed=seed, horizon=horizon)
    fixed = reference(environment, cell.weights, seed=seed, horizon=horizon).fixed[-1].max()
    return float(run.curve[-1] - fixed) / horizon


def peer(cell: Cell, make: Callable[..., Any], seed: int, horizon: int) -> float:
    """The same of another package."""
    environment = cell.environments["task",]
    policy, total, fixed = make(len(environment.arms), environment.dim, seed), 0.0, 0.0
    for block in environment.blocks(seed, horizon):
        u = utility(block.outcomes, cell.weights)
        for x, row in zip(block.contexts, u, strict=True):
            arm = policy.choose(x)
            policy.learn(x, arm, float(row[arm]))
            total += row[arm]
        fixed = fixed + u.sum(axis=0)
    return float((total - np.max(fixed)) / horizon)


class Log:
    """Finished runs, one JSON line each; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.gains = path, {}
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ():
            *key, gain = json.loads(line)
            self.gains[tuple(key)] = gain

    def run(self, part: str, cell: str, label: str, seed: int, compute: Callable[[], float]) -> float:
        """The gain of this run, computed unless it is known."""
        key = (part, cell, label, seed)
        if key not in self.gains:
            self.gains[key] = compute()
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    print(json.dumps([*key, self.gains[key]]), file=file)
        return self.gains[key]


def rounded(of: dict[str, Any]) -> dict[str, Any]:
    """An interval to six decimals."""
    return {"mean": round(of["mean"], 6), "ci95": of["ci95"] and [round(end, 6) for end in of["ci95"]]}


def compare(part: str, cell: Cell, horizon: int, seeds: dict[str, int], log: Log) -> dict[str, Any]:
    """Gains of all policies on one cell, and of the default over each of them on their common seeds."""
    rows: list[dict[str, Any]] = []
    default = np.empty(0)
    for label, count in seeds.items():
        started = time.perf_counter()
        play = partial(own, cell, label) if label in GRID else partial(peer, cell, PEERS[label])
        gains = np.array([log.run(part, cell.name, label, s, partial(play, s, horizon)) for s in range(count)])
        default = default if len(default) else gains
        common = min(len(default), count)
        paired = rounded(interval(default[:common] - gains[:common]))
        rows.append({"policy": label, "seeds": count, "gain": rounded(interval(gains)), "default_minus_this": paired})
        print(f"{cell.name}: {label} {np.mean(gains):+.4f} ({time.perf_counter() - started:.0f} s)", file=sys.stderr)
    known = {"per_task": cell.per_task, "asymptote": cell.asymptote}
    return {"cell": cell.name, "horizon": horizon, **known, "rows": rows}


def main() -> None:
    """Print {"environment", "seeds", "start_requests"} and the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="streams of the default policy")
    parser.add_argument("--others", type=int, default=20, help="streams of every other policy of ours")
    parser.add_argument("--flips", type=int, default=20, help="the same where arms change places")
    parser.add_argument("--peers", type=int, default=20, help="streams of every other package")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--log", type=Path, help="JSON lines of finished runs, read first and appended to")
    options = parser.parse_args()
    folder = os.environ.get("BANDIT_ROUTER_DATA")
    if not folder:
        raise SystemExit("set BANDIT_ROUTER_DATA to the folder of the development data")
    packages, log = installed(), Log(options.log)
    results: dict[str, Any] = {
        "environment": environment(),
        "seeds": {name: getattr(options, name) for name in ("seeds", "others", "flips", "peers")},
        "start_requests": START,
    }
    for part in options.parts:
        short, flips = part.startswith("start"), PARTS[part]
        seeds = dict.fromkeys(GRID, options.flips if flips else options.others) | {DEFAULT_POLICY: options.seeds}
        if short:
            seeds = {DEFAULT_POLICY: options.peers} | dict.fromkeys(packages, options.peers)
        every = cells(Path(folder), START if short else FLIP_HORIZON) if flips else cells(Path(folder), None)
        results[part] = [compare(part, c, min(START, c.horizon) if short else c.horizon, seeds, log) for c in every]
    json.dump(results, sys.stdout)
    print()


def environment() -> dict[str, str]:
    """Versions and machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "kernels": kernel_name()}
    for name in ("bandit-router", "numpy", *PACKAGES):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    main()
