"""How the cost of a step grows with arms, dimensions, horizon and threads, and what spares it.

    python -m benchmarks.scale > benchmarks/results/scale.json
    python -m benchmarks.scale threads sketch           # some parts only

`arms`, `dimensions`: microseconds of processor time a step of the compiled loop (decide, draw, learn) takes.
`horizon`: the same along one run at (64, 64): as arms are learned, most cannot win and their widths are not read.
`skipping`: a choice with and without that, once models have learned, and how many choices differ.
`threads`: four seeds in two threads over one, long runs in turns, by the clock and by processor time a step: where
other programs keep both cores busy the clock cannot show a second thread, but a step should cost no more.
`sketch`: regret and time of SketchedLinUCB against LinUCB at (16, 384), on contexts whose energy decays as i^-2p.
`hybrid`: shared parameters over 200 adapters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies import HybridLinUCB, LinUCB, Policy, SketchedLinUCB
from bandit_router.policies.play import play
from benchmarks.streams import linear, machine, publish, say

ALPHA = 0.3
QUALITY = np.ones(1)


def run(policy: Policy, data: tuple[F64, F64, F64], part: slice = slice(None)) -> tuple[Any, float]:
    """Arms played, and microseconds of processor time a step."""
    contexts, rewards, _ = (each[part] for each in data)
    uniforms = np.random.default_rng(part.start).random(len(contexts))
    outcomes = np.ascontiguousarray(rewards[..., None])
    begin = time.thread_time()
    arms, _ = play(policy, contexts, outcomes, uniforms, QUALITY)
    return arms, (time.thread_time() - begin) * 1e6 / len(contexts)


def step_us(n_arms: int, dim: int, precision: int) -> float:
    """Median over parts of a run of about 20 decisions a parameter, shorter where steps are long."""
    steps = max(400, min(20_000, 400_000_000 // (n_arms * dim * dim)))
    data = linear(n_arms, dim, steps)
    policy = LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA, precision=precision)
    edges = np.linspace(0, steps, 11).astype(int).tolist()
    return statistics.median(run(policy, data, slice(*pair))[1] for pair in pairwise(edges))


def arms() -> list[dict[str, float]]:
    """At dimension 32."""
    counts = (4, 8, 16, 32, 64, 128, 256, 512)
    return [{"arms": n, "dim": 32, "f64_us": step_us(n, 32, 64), "f32_us": step_us(n, 32, 32)} for n in counts]


def dimensions() -> list[dict[str, float]]:
    """At 16 arms."""
    sizes = (8, 16, 32, 64, 128, 256, 384, 768)
    return [{"arms": 16, "dim": d, "f64_us": step_us(16, d, 64), "f32_us": step_us(16, d, 32)} for d in sizes]


def horizon(n_arms: int = 64, dim: int = 64, steps: int = 50_000) -> list[dict[str, float]]:
    """Tenths of one run."""
    policy, data = LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA), linear(n_arms, dim, steps)
    rows = []
    for start in range(0, steps, steps // 10):
        rows.append({"until": start + steps // 10, "step_us": run(policy, data, slice(start, start + steps // 10))[1]})
    return rows


def skipping() -> list[dict[str, Any]]:
    """`select` against the argmax of every index."""
    rows = []
    for n_arms, dim, steps in ((16, 32, 20_000), (16, 64, 20_000), (64, 64, 20_000), (256, 64, 40_000)):
        for alpha in (0.1, 0.3, 1.0):
            policy, data = LinUCB(n_arms=n_arms, dim=dim, alpha=alpha), linear(n_arms, dim, steps)
            run(policy, data)
            model, probes = policy.statistics, list(data[0][-1000:])
            skipped, full, differ = [], [], 0
            for x in probes:
                begin = time.perf_counter_ns()
                choice = model.select(x, QUALITY, alpha)
                middle = time.perf_counter_ns()
                index = model.index(x, QUALITY, alpha)
                full.append(time.perf_counter_ns() - middle)
                skipped.append(middle - begin)
                differ += int(choice != index.argmax())
            times = {"select_us": statistics.median(skipped) / 1e3, "every_index_us": statistics.median(full) / 1e3}
            rows.append({"arms": n_arms, "dim": dim, "alpha": alpha, "steps": steps, **times, "different": differ})
    return rows


def threads(turns: int = 9) -> list[dict[str, Any]]:
    """Four seeds in one and in two threads."""
    rows = []
    for n_arms, dim, steps in ((16, 32, 100_000), (16, 64, 40_000), (256, 64, 4_000)):
        data = linear(n_arms, dim, steps)
        inputs = (data[0], np.ascontiguousarray(data[1][..., None]), np.random.default_rng(1).random(steps), QUALITY)

        def seed(_: int, sizes: dict[str, Any], inputs: Any) -> Any:
            return play(LinUCB(**sizes), *inputs)

        sizes = {"n_arms": n_arms, "dim": dim, "alpha": ALPHA}
        taken: dict[int, list[float]] = {1: [], 2: []}
        busy: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(turns):
            for count in taken:
                begin, cpu = time.perf_counter(), time.process_time()
                with ThreadPoolExecutor(count) as pool:
                    list(pool.map(seed, range(4), [sizes] * 4, [inputs] * 4))
                taken[count].append(time.perf_counter() - begin)
                busy[count].append(time.process_time() - cpu)
        ratios = sorted(one / two for one, two in zip(taken[1], taken[2], strict=True))
        rows.append(
            {
                "arms": n_arms,
                "dim": dim,
                "seed_steps_per_s": {str(n): 4 * steps / statistics.median(each) for n, each in taken.items()},
                "two_over_one": {"median": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]},
                "processor_time_one_over_two": statistics.median(busy[1]) / statistics.median(busy[2]),
                "load_average": round(os.getloadavg()[0], 2),
            }
        )
    return rows


def sketch(steps: int = 10_000) -> list[dict[str, Any]]:
    """Regret as a share of what the best arm of every request earns."""
    n_arms, dim, rows = 16, 384, []
    for decay in (0.0, 0.75, 1.0):
        data = linear(n_arms, dim, steps, decay=decay)
        best = data[2].max(axis=1)
        policies: dict[str, Policy] = {"LinUCB": LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA)}
        for rank in (8, 32, 64, 128):
            policies[f"rank {rank}"] = SketchedLinUCB(n_arms=n_arms, dim=dim, rank=rank, alpha=ALPHA)
        for name, policy in policies.items():
            played, step = run(policy, data)
            regret = best - data[2][np.arange(steps), played]
            late = slice(3 * steps // 4, None)
            shares = {"regret": regret.sum() / best.sum(), "late_regret": regret[late].sum() / best[late].sum()}
            memory = sum(array.nbytes for array in policy.state().values()) / 2**20
            rows.append({"decay": decay, "policy": name, **shares, "step_us": step, "state_mib": memory})
            say(f"sketch: decay {decay}, {name}")
    return rows


def hybrid(n_arms: int = 200, dim: int = 32) -> list[dict[str, Any]]:
    """Decide and learn at the start and after 2,000 outcomes, microseconds at the median."""
    rows = []
    for features in (0, 3, 7):
        rng, policy = np.random.default_rng(0), HybridLinUCB(n_arms=n_arms, dim=dim, features=features)
        for arm, values in enumerate(rng.normal(size=(n_arms, features))):
            policy.describe(arm, values)
        contexts, rewards, _ = linear(n_arms, dim, 2_000)
        decides, learns = [], []
        for x, reward in zip(contexts, rewards, strict=True):
            begin = time.perf_counter_ns()
            arm = int(policy.probabilities(x).argmax())
            middle = time.perf_counter_ns()
            policy.learn(x, arm, reward[arm : arm + 1])
            learns.append(time.perf_counter_ns() - middle)
            decides.append(middle - begin)
        ends = {"first_decides_us": decides[:200], "last_decides_us": decides[-200:], "learn_us": learns}
        rows.append(
            {"arms": n_arms, "dim": dim, "features": features}
            | {name: statistics.median(values) / 1e3 for name, values in ends.items()}
        )
    return rows


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "arms": arms,
    "dimensions": dimensions,
    "horizon": horizon,
    "skipping": skipping,
    "threads": threads,
    "sketch": sketch,
    "hybrid": hybrid,
}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    options = parser.parse_args()
    document: dict[str, Any] = machine()
    for name in options.parts or PARTS:
        document[name] = PARTS[name]()
        say(f"{name}, load {os.getloadavg()[0]:.1f}")
    publish(document)


if __name__ == "__main__":
    main()
