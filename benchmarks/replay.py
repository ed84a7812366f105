"""A whole replay of one log at (16, 32): our compiled loop, the same loop on NumPy, and Vowpal Wabbit's own.

    python -m benchmarks.replay > benchmarks/results/replay.json

The log was made by a uniform policy on linear rewards (`streams.linear`). Everyone decides each row and then learns its
outcome, over the same file: ours from arrays, Vowpal Wabbit from its text, which its own command line parses in C++
(`driver`) and its Python interface reads parsed (`Python loop`). `play` is the simulation loop, where the arm that the
policy itself draws is learned. Turns of a part of the log each, and processor time instead of the clock's, because a
busy machine interrupts long parts more than short ones (the driver's second thread, which parses, is counted too).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import Index
from bandit_router.policies import LinUCB
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.policies.play import follow, play
from benchmarks.learners import ALPHA, VowpalWabbit
from benchmarks.streams import linear, machine, publish, say

N_ARMS, DIM, PART = 16, 32, 2000
OPTIONS = "--epsilon 0.05"


class Log:
    """Contexts, uniformly logged arms and their rewards; the full table of rewards for `play`."""

    def __init__(self, rows: int) -> None:
        self.contexts, self.rewards, _ = linear(N_ARMS, DIM, rows)
        rng = np.random.default_rng(1)
        self.arms: Index = rng.integers(N_ARMS, size=rows)
        self.logged = self.rewards[np.arange(rows), self.arms]
        self.uniforms = rng.random(rows)

    def text(self, part: slice) -> str:
        """Vowpal Wabbit's text of some rows."""
        lines = []
        for x, arm, reward in zip(self.contexts[part], self.arms[part], self.logged[part], strict=True):
            lines.append("shared |S " + " ".join(f"{j}:{value:.6g}" for j, value in enumerate(x)))
            label = f"0:{-reward:.6g}:{1 / N_ARMS} "
            lines += [f"{label if a == arm else ''}|A a{a}" for a in range(N_ARMS)]
            lines.append("")
        return "\n".join(lines) + "\n"


Loop = Callable[[slice], Any]


def ours(log: Log, *, numpy: bool = False, precision: int = 64, simulate: bool = False) -> Loop:
    """`follow` or `play` with LinUCB on one form of the statistics."""
    policy = LinUCB(n_arms=N_ARMS, dim=DIM, alpha=ALPHA, precision=precision)
    if numpy:
        policy.statistics = RidgeStatistics(N_ARMS, DIM, 1, ridge=1.0)
    quality, outcomes = np.ones(1), log.rewards[..., None]

    def followed(part: slice) -> Any:
        rows = len(log.logged[part])
        masks = {"eligible": np.ones((rows, N_ARMS), bool), "usable": np.ones(rows, bool)}
        given = (log.contexts[part], log.arms[part], log.logged[part, None], quality)
        return follow(policy, *given, **masks, bars=np.full(rows, -1.0), share=1.0)

    def played(part: slice) -> Any:
        return play(policy, log.contexts[part], outcomes[part], log.uniforms[part], quality)

    return played if simulate else followed


def bare(log: Log) -> Loop:
    """The same mathematics by hand: no checks, no distribution, nothing recorded but the arm."""
    inverse, theta = np.tile(np.eye(DIM), (N_ARMS, 1, 1)), np.zeros((N_ARMS, DIM))
    chosen = np.empty(len(log.logged), dtype=np.intp)

    def loop(part: slice) -> None:
        for row in range(*part.indices(len(log.logged))):
            x, arm = log.contexts[row], log.arms[row]
            solved = inverse @ x
            chosen[row] = (theta @ x + ALPHA * np.sqrt(solved @ x)).argmax()
            v = solved[arm]
            gain = 1.0 / (1.0 + x @ v)
            theta[arm] += gain * (log.logged[row] - theta[arm] @ x) * v
            inverse[arm] -= np.multiply.outer(gain * v, v)

    return loop


class Vowpal:
    """Vowpal Wabbit through its Python interface; its text was parsed before."""

    def __init__(self, log: Log) -> None:
        self.log, self.learner = log, VowpalWabbit(N_ARMS, DIM, 0, options=OPTIONS)
        self.learner.p = 1 / N_ARMS

    def prepare(self, part: slice) -> None:
        self.parsed = [self.learner.prepare(x) for x in self.log.contexts[part]]

    def __call__(self, part: slice) -> None:
        for x, arm, reward in zip(self.parsed, self.log.arms[part], self.log.logged[part], strict=True):
            self.learner.workspace.predict_one(x)
            self.learner.update(x, int(arm), float(reward))


class Driver:
    """Vowpal Wabbit's own program over a file; parsing it is part of its loop."""

    def __init__(self, log: Log, folder: Path) -> None:
        from vowpal_wabbit_next.cli_driver import run_cli_driver

        self.log, self.path, self.run = log, folder / "log.txt", run_cli_driver

    def prepare(self, part: slice) -> None:
        self.path.write_text(self.log.text(part), encoding="utf-8")

    def __call__(self, part: slice) -> None:
        self.run(f"--cb_explore_adf {OPTIONS} -q SA --quiet -d {self.path}".split())


def rates(loops: dict[str, Loop], rows: int) -> dict[str, float]:
    """Rows per second of processor time, median of the parts, all loops in turns."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for start in range(0, rows, PART):
        part = slice(start, start + PART)
        for name, loop in loops.items():
            if hasattr(loop, "prepare"):
                loop.prepare(part)
            begin = time.process_time()
            loop(part)
            times[name].append(time.process_time() - begin)
        say(f"{start + PART} rows")
    return {name: PART / statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    options = parser.parse_args()
    log = Log(options.rows)
    loops: dict[str, Loop] = {
        "follow, 64 bits": ours(log),
        "follow, 32 bits": ours(log, precision=32),
        "play, 64 bits": ours(log, simulate=True),
        "follow, NumPy": ours(log, numpy=True),
        "NumPy by hand": bare(log),
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            loops |= {"VW, Python loop": Vowpal(log), "VW, driver": Driver(log, Path(folder))}
        except ImportError:
            say("vowpal-wabbit-next is not installed")
        found = rates(loops, options.rows)
    fastest = found["follow, 64 bits"]
    document = machine() | {"arms": N_ARMS, "dim": DIM, "rows": options.rows, "rows_per_cpu_s": found}
    publish(document | {"follow_64_over": {name: fastest / rate for name, rate in found.items()}})


if __name__ == "__main__":
    main()
