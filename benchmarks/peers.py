"""Our learners against other packages: time of select and update, events a second, reward reached, peak memory.

    python -m benchmarks.peers > benchmarks/results/peers.json         # six sizes, a quarter of an hour
    python -m benchmarks.peers --sizes 16x32 --seconds 2               # a short look

Every learner runs in a process of its own over the same stream (see `streams.linear`) and they take turns of a few
events, so that a busy machine slows all of them: compare ratios, never times of two runs. Turning a context into a
package's own form is not timed. A learner stops after `--seconds` of its own time, so slow ones see fewer events;
`reward` is the mean true reward over the last quarter of its events as a share of the best possible, and
`reference_reward` is the same for exact LinUCB after as many events: near it, a learner learns as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.learners import AT_ONE_WIDTH, installed
from benchmarks.streams import Size, linear, machine, publish, say

__all__ = ["installed"]

SIZES: dict[Size, int] = {  # events of the stream
    (5, 16): 5_000,
    (16, 32): 10_000,
    (16, 64): 20_000,
    (64, 64): 20_000,
    (16, 384): 12_000,
    (256, 64): 30_000,
}
TURN_SECONDS = 0.05
REFERENCE = "ours, kernels, 64 bits"


class Run:
    """One learner's way along the stream, with its times."""

    def __init__(self, name: str, size: Size) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.contexts, self.rewards, self.means = linear(*size, SIZES[size])
        self.learner = AT_ONE_WIDTH[name](*size, 0)
        self.own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        self.selects: list[int] = []
        self.updates: list[int] = []
        self.arms: list[int] = []

    def turn(self, seconds: float) -> bool:
        """Run the next events; False when the stream or the time is over."""
        clock, spent = time.perf_counter_ns, 0
        while len(self.arms) < len(self.contexts) and spent < TURN_SECONDS * 1e9:
            step = len(self.arms)
            x = self.learner.prepare(self.contexts[step])
            begin = clock()
            arm = self.learner.select(x)
            middle = clock()
            self.learner.update(x, arm, float(self.rewards[step, arm]))
            self.updates.append(clock() - middle)
            self.selects.append(middle - begin)
            self.arms.append(arm)
            spent += self.selects[-1] + self.updates[-1]
        return len(self.arms) < len(self.contexts) and sum(self.selects) + sum(self.updates) < seconds * 1e9

    def result(self) -> dict[str, Any]:
        """Times in microseconds, and the share of the best reward over the last quarter."""
        both = np.add(self.selects, self.updates)
        return {
            "select_us": _median_and_p99(self.selects),
            "update_us": _median_and_p99(self.updates),
            "both_us": statistics.median(both) / 1e3,
            "events_per_s": 1e9 / statistics.median(both),
            "events": len(self.arms),
            "reward": self._share(),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "shares": [self._share(quarter) for quarter in range(1, 41)]
            if len(self.arms) == len(self.contexts)
            else [],
        }

    def _share(self, fortieths: int = 40) -> float:
        """Over the last quarter of the first `fortieths` of the events."""
        end = max(len(self.arms) * fortieths // 40, 1)
        tail = slice(3 * end // 4, end)
        got = self.means[np.arange(len(self.means))[tail], self.arms[tail]].mean()
        return float(got / self.means[tail].max(axis=1).mean())


def _median_and_p99(nanoseconds: list[int]) -> list[float]:
    return [statistics.median(nanoseconds) / 1e3, float(np.percentile(nanoseconds, 99)) / 1e3]


def work(name: str, size: Size, seconds: float) -> None:
    """A learner's process: one line in, one turn; the result when it is over."""
    warnings.simplefilter("ignore")
    try:
        run = Run(name, size)
    except ImportError as reason:
        print(json.dumps({"left_out": str(reason)}), flush=True)
        return
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        more = run.turn(seconds)
        print(json.dumps({} if more else run.result()), flush=True)
        if not more:
            return


class Process:
    """The caller's end of `work`."""

    def __init__(self, name: str, size: Size, seconds: float) -> None:
        options = ["--work", name, "--sizes", f"{size[0]}x{size[1]}", "--seconds", str(seconds)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """What the process says next; {} when it can go on."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"left_out": f"stopped with exit code {self.process.wait()}"}

    def turn(self) -> dict[str, Any]:
        """Let it run its next events."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"left_out": f"stopped with exit code {self.process.wait()}"}
        return self.answer()


def race(size: Size, seconds: float) -> dict[str, Any]:
    """All learners at one size, in turns."""
    results: dict[str, Any] = {}
    running: dict[str, Process] = {}
    for name in AT_ONE_WIDTH:  # one after the other, so that a start is in nobody's timing
        process = Process(name, size, float("inf") if name == REFERENCE else seconds)
        results[name] = process.answer()
        if not results[name]:
            running[name] = process
    while running:
        for name, process in list(running.items()):
            results[name] = process.turn()
            if results[name]:
                process.process.communicate()
                del running[name]
                say(f"{size}: {name} done")
    _compare(results, SIZES[size])
    return results


def _compare(results: dict[str, Any], steps: int) -> None:
    """Add what depends on the reference: reward after as many events, and how many times its time."""
    reference = results[REFERENCE]
    curve = reference["shares"]
    for result in results.values():
        if "left_out" not in result:
            seen = round(40 * result["events"] / steps)
            result["reference_reward"] = curve[max(seen, 1) - 1] if curve else None
            result["times_reference"] = result["both_us"] / reference["both_us"]
    for result in results.values():
        result.pop("shares", None)


def main() -> None:
    """Run the sizes that were asked for and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=[f"{n}x{d}" for n, d in SIZES])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [(int(n), int(d)) for n, d in (text.split("x") for text in options.sizes)]
    if options.work:
        work(options.work, sizes[0], options.seconds)
        return
    document: dict[str, Any] = machine() | {"seconds": options.seconds, "sizes": {}}
    for size in sizes:
        document["sizes"]["{}x{}".format(*size)] = race(size, options.seconds)
    publish(document)


if __name__ == "__main__":
    main()
