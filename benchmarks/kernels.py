"""Kernels against their NumPy form and against peers, as ratios within one run; JSON on stdout, progress on stderr.

    python -m benchmarks.kernels                        # everything below at three sizes
    python -m benchmarks.kernels --agreement 1000000    # equal choices of both forms on random steps
    python -m benchmarks.kernels --drift 10000000       # error of the maintained inverse after so many updates

Rewards are linear with Gaussian noise: x ~ N(0, I), theta_a ~ N(0, I/d), noise 0.3. Learners take turns of a few
events on the same stream, so that a busy machine slows all of them; compare ratios, never times of two runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from bandit_router import Arm, Router
from bandit_router.policies import LinUCB
from bandit_router.policies.base import F64
from bandit_router.policies.compiled import CompiledRidge
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.policies.native import kernel_name
from bandit_router.policies.play import play
from benchmarks.learners import ALPHA, PEERS, Learner, Policy, Statistics

TURN = 50
PEER_SECONDS = 8.0


def stream(n_arms: int, dim: int, steps: int, seed: int = 0) -> tuple[F64, F64, F64]:
    """Contexts (steps, dim), rewards and their means (steps, arms)."""
    rng = np.random.default_rng(seed)
    contexts, theta = rng.normal(size=(steps, dim)), rng.normal(size=(n_arms, dim)) / dim**0.5
    means = contexts @ theta.T
    return contexts, means + 0.3 * rng.normal(size=means.shape), means


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Race:
    """One learner's way along the stream, with its times."""

    def __init__(self, learner: Learner, data: tuple[F64, F64, F64]) -> None:
        self.learner, self.data = learner, data
        self.selects: list[int] = []
        self.updates: list[int] = []
        self.arms: list[int] = []

    def turn(self) -> bool:
        """Run the next events; False when the stream or the time is over."""
        start = len(self.arms)
        contexts, rewards, _ = self.data
        for step in range(start, min(start + TURN, len(contexts))):
            x = self.learner.prepare(contexts[step])
            begin = time.perf_counter_ns()
            arm = self.learner.select(x)
            middle = time.perf_counter_ns()
            self.learner.update(x, arm, float(rewards[step, arm]))
            self.updates.append(time.perf_counter_ns() - middle)
            self.selects.append(middle - begin)
            self.arms.append(arm)
        return len(self.arms) < len(contexts) and (sum(self.selects) + sum(self.updates)) < PEER_SECONDS * 1e9

    def result(self) -> dict[str, float]:
        """Medians, and the mean reward of the last quarter as a share of the best possible."""
        means = self.data[2]
        tail = slice(3 * len(self.arms) // 4, len(self.arms))
        got = means[np.arange(len(means))[tail], self.arms[tail]].mean()
        return {
            "select_us": statistics.median(self.selects) / 1e3,
            "update_us": statistics.median(self.updates) / 1e3,
            "select_p99_us": float(np.percentile(self.selects, 99)) / 1e3,
            "events": len(self.arms),
            "reward_share_of_best": float(got / means[tail].max(axis=1).mean()),
        }


def race(n_arms: int, dim: int, steps: int, peers: bool) -> dict[str, Any]:
    """Select and update, one event at a time, everyone on the same stream in turns."""
    makers: dict[str, Callable[[], Learner]] = {
        "ridge numpy f64": lambda: Statistics(RidgeStatistics, n_arms, dim),
        "ridge compiled f64": lambda: Statistics(CompiledRidge, n_arms, dim),
        "ridge compiled f32": lambda: Statistics(CompiledRidge, n_arms, dim, 32),
        "LinUCB policy": lambda: Policy(n_arms, dim),
    }
    if peers:
        makers |= {name: lambda peer=peer: peer(n_arms, dim) for name, peer in PEERS.items()}  # type: ignore[misc]
    races, data = {}, stream(n_arms, dim, steps)
    for name, make in makers.items():
        try:
            races[name] = Race(make(), data)
        except ImportError as missing:
            say(f"{name} left out: {missing}")
    running = dict(races)
    while running:
        running = {name: each for name, each in running.items() if each.turn()}
    results = {name: each.result() for name, each in races.items()}
    ours = results["ridge compiled f64"]
    for result in results.values():
        both = result["select_us"] + result["update_us"]
        result["times_compiled_f64"] = both / (ours["select_us"] + ours["update_us"])
    return results


def loops(n_arms: int, dim: int, steps: int) -> dict[str, float]:
    """Whole simulation loop in steps a second: runs of `TURN` steps (median), forms in turns; seeds over threads."""
    contexts, rewards, _ = stream(n_arms, dim, steps)
    outcomes, uniforms, quality = (
        np.ascontiguousarray(rewards[..., None]),
        np.random.default_rng(1).random(steps),
        np.ones(1),
    )

    def policy(precision: int = 64) -> LinUCB:
        return LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA, precision=precision)

    policies = {"numpy": policy(), "compiled f64": policy(), "compiled f32": policy(32)}
    policies["numpy"].statistics = RidgeStatistics(n_arms, dim, 1, ridge=1.0)
    times: dict[str, list[float]] = {name: [] for name in policies}
    for start in range(0, steps, TURN):
        part = slice(start, start + TURN)
        for name, each in policies.items():
            begin = time.perf_counter()
            play(each, contexts[part], outcomes[part], uniforms[part], quality)
            times[name].append(time.perf_counter() - begin)
    speed = {name: TURN / statistics.median(values) for name, values in times.items()}
    for threads in (1, 2):
        begin = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: play(policy(), contexts, outcomes, uniforms, quality), range(4)))
        speed[f"4 seeds, {threads} threads"] = 4 * steps / (time.perf_counter() - begin)
    return speed | {"compiled f64 over numpy": speed["compiled f64"] / speed["numpy"]}


def decide() -> dict[str, float]:
    """Router.decide at (16, 32) beside a stacked NumPy select, in turns; medians of all calls, microseconds."""
    contexts = stream(16, 32, 20_000)[0]
    reference = RidgeStatistics(16, 32, 1, ridge=1.0)
    routers = {
        "decide, all channels": Router(arms=[Arm(id=f"arm{a}") for a in range(16)], dim=32),
        "decide, quality alone": Router(arms=[Arm(id=f"arm{a}") for a in range(16)], dim=32, channels=("quality",)),
    }
    times: dict[str, list[int]] = {name: [] for name in (*routers, "numpy select")}
    for step, x in enumerate(contexts):
        for name, router in routers.items():
            begin = time.perf_counter_ns()
            router.decide(x, event_id=f"r-{step}")
            times[name].append(time.perf_counter_ns() - begin)
        begin = time.perf_counter_ns()
        np.argmax(reference.theta[:, 0] @ x + ALPHA * np.sqrt((reference.inverse @ x) @ x))
        times["numpy select"].append(time.perf_counter_ns() - begin)
    medians = {name: statistics.median(values) / 1e3 for name, values in times.items()}
    return medians | {"decide over numpy select": medians["decide, all channels"] / medians["numpy select"]}


def agreement(steps: int, n_arms: int = 8, dim: int = 12) -> dict[str, float]:
    """Both forms along random steps: how many arms differ, and by how much the index does."""
    contexts, rewards, _ = stream(n_arms, dim, steps)
    forms = [form(n_arms, dim, 1, ridge=1.0) for form in (RidgeStatistics, CompiledRidge)]
    quality, differ, error = np.ones(1), 0, 0.0
    for step, x in enumerate(contexts):
        one, two = (form.index(x, quality, ALPHA) for form in forms)
        differ += int(one.argmax() != two.argmax())
        error = max(error, float(np.abs(one - two).max()))
        arm, y = int(one.argmax()), rewards[step, one.argmax(keepdims=True)]
        for form in forms:
            form.learn(arm, x, y, 1.0)
        if step % 100_000 == 0:
            say(f"agreement: step {step}")
    return {"steps": steps, "different_choices": differ, "largest_index_error": error}


def drift(updates: int, dim: int = 32) -> list[dict[str, float]]:
    """Widths and coefficients of one arm against a direct solve, in both precisions, at powers of ten."""
    rng = np.random.default_rng(0)
    forms = {bits: CompiledRidge(1, dim, 1, ridge=1.0, precision=bits) for bits in (64, 32)}
    gram, moment, theta = np.eye(dim), np.zeros(dim), rng.normal(size=dim) / dim**0.5
    probes, rows, done = rng.normal(size=(200, dim)), [], 0
    for mark in (10**k for k in range(3, 12) if 10**k <= updates):
        while done < mark:
            contexts = rng.normal(size=(min(1000, mark - done), dim))
            rewards = contexts @ theta + 0.3 * rng.normal(size=len(contexts))
            gram += contexts.T @ contexts
            moment += rewards @ contexts
            for form in forms.values():
                for x, reward in zip(contexts, rewards[:, None], strict=True):
                    form.learn(0, x, reward, 1.0)
            done += len(contexts)
        widths = np.sqrt((probes * np.linalg.solve(gram, probes.T).T).sum(axis=1))
        for bits, form in forms.items():
            error = np.abs(form.predict_many(probes)[1][:, 0] / widths - 1).max()
            off = np.abs(form.theta[0, 0] - np.linalg.solve(gram, moment)).max()
            rows.append(
                {
                    "bits": bits,
                    "updates": mark,
                    "width_relative_error": float(error),
                    "theta_error": float(off),
                    "repairs": form.refreshes,
                }
            )
        say(f"drift: {mark} updates")
    return rows


def environment() -> dict[str, str]:
    """Versions and machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "kernels": kernel_name()}
    for name in ("numpy", *PEERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Run what was asked for and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agreement", type=int, metavar="STEPS")
    parser.add_argument("--drift", type=int, metavar="UPDATES")
    options = parser.parse_args()
    document: dict[str, Any] = {"environment": environment()}
    if options.agreement:
        document["agreement"] = agreement(options.agreement)
    if options.drift:
        document["drift"] = drift(options.drift)
    if not (options.agreement or options.drift):
        for n_arms, dim, steps in ((16, 32, 4000), (16, 64, 4000), (256, 64, 2000)):
            say(f"({n_arms}, {dim})")
            peers = race(n_arms, dim, steps, peers=True)
            loop = loops(n_arms, dim, steps)
            ours = peers["ridge compiled f64"]
            calls = (ours["select_us"] + ours["update_us"]) * loop["compiled f64"] / 1e6
            document[f"{n_arms}x{dim}"] = {"one_event": peers, "loop_steps_per_s": loop, "calls_over_loop": calls}
        document["decide_us"] = decide()
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
