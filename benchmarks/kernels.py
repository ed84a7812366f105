"""The compiled kernels against their NumPy form, and what a call from Python adds to them; JSON on stdout.

    python -m benchmarks.kernels > benchmarks/results/kernels.json
    python -m benchmarks.kernels --agreement 1000000    # equal choices of both forms on random steps, nothing else
    python -m benchmarks.kernels --drift 10000000       # error of the maintained inverse after so many updates

`agreement` compares three choices at every step: the largest index of the NumPy form, the largest index of the compiled
form, and the compiled choice that skips arms which cannot win. `calls` is select and update from Python, one event at a
time, over the whole loop in C, which has the kernels and nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.compiled import CompiledRidge
from bandit_router.policies.linear import RidgeStatistics, Rule
from benchmarks.learners import ALPHA
from benchmarks.streams import linear, machine, publish, say

QUALITY = np.ones(1)


def agreement(steps: int, n_arms: int, dim: int) -> dict[str, Any]:
    """How many choices differ along random steps, and by how much the index does."""
    forms = [form(n_arms, dim, 1, ridge=1.0) for form in (RidgeStatistics, CompiledRidge)]
    differ, skipped, error, part = 0, 0, 0.0, 10_000
    theta = np.random.default_rng(0).normal(size=(n_arms, dim)) / dim**0.5
    for start in range(0, steps, part):
        rng = np.random.default_rng([1, start])
        contexts, noise = rng.normal(size=(min(part, steps - start), dim)), 0.3 * rng.normal(size=part)
        for step, x in enumerate(contexts):
            one, two = (form.index(x, QUALITY, ALPHA) for form in forms)
            arm = int(one.argmax())
            differ += int(arm != two.argmax())
            skipped += int(arm != forms[1].select(x, QUALITY, ALPHA))
            error = max(error, float(np.abs(one - two).max()))
            y = np.array([theta[arm] @ x + noise[step]])
            for form in forms:
                form.learn(arm, x, y, 1.0)
        if start % 100_000 == 0:
            say(f"agreement ({n_arms}, {dim}): step {start}")
    found = {"different_choices": differ, "different_with_skipping": skipped, "largest_index_error": error}
    return {"arms": n_arms, "dim": dim, "steps": steps, **found}


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
        rows += [_error(bits, form, mark, gram, moment, probes) for bits, form in forms.items()]
        say(f"drift: {mark} updates")
    return rows


def _error(bits: int, form: CompiledRidge, updates: int, gram: F64, moment: F64, probes: F64) -> dict[str, float]:
    widths = np.sqrt((probes * np.linalg.solve(gram, probes.T).T).sum(axis=1))
    return {
        "bits": bits,
        "updates": updates,
        "width_relative_error": float(np.abs(form.predict_many(probes)[1][:, 0] / widths - 1).max()),
        "theta_error": float(np.abs(form.theta[0, 0] - np.linalg.solve(gram, moment)).max()),
        "repairs": form.refreshes,
    }


def calls(n_arms: int, dim: int, steps: int, part: int = 200) -> dict[str, float]:
    """Select and update from Python beside the loop in C, microseconds an event at the median, in turns."""
    contexts, rewards, _ = linear(n_arms, dim, steps)
    called, looped = (CompiledRidge(n_arms, dim, 1, ridge=1.0) for _ in range(2))
    rule, nothing = Rule("greedy", ALPHA, 0.0), np.zeros(n_arms, dtype=bool)
    events: list[float] = []
    loops: list[float] = []
    for start in range(0, steps, part):
        few, some = contexts[start : start + part], rewards[start : start + part]
        taken = 0
        for x, reward in zip(few, some, strict=True):
            begin = time.perf_counter_ns()
            arm = called.select(x, QUALITY, ALPHA)
            called.learn(arm, x, reward[arm : arm + 1], 1.0)
            taken += time.perf_counter_ns() - begin
        events.append(taken / len(few))
        inputs = (few, some[..., None].copy(), np.zeros(len(few)), QUALITY, np.zeros(n_arms), nothing)
        outputs = np.empty(len(few), dtype=np.int64), np.empty(len(few))
        begin = time.perf_counter_ns()
        looped.play(rule, np.zeros(len(few)), inputs, outputs)
        loops.append((time.perf_counter_ns() - begin) / len(few))
    us = {"from_python_us": statistics.median(events) / 1e3, "in_c_us": statistics.median(loops) / 1e3}
    return {"arms": n_arms, "dim": dim, **us, "ratio": us["from_python_us"] / us["in_c_us"]}


def main() -> None:
    """Run what was asked for and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agreement", type=int, metavar="STEPS")
    parser.add_argument("--drift", type=int, metavar="UPDATES")
    options = parser.parse_args()
    everything = not (options.agreement or options.drift)
    document: dict[str, Any] = machine()
    if everything or options.agreement:
        steps = options.agreement or 1_000_000
        document["agreement"] = [agreement(steps, 8, 12), agreement(steps, 64, 24)]
    if everything or options.drift:
        document["drift"] = drift(options.drift or 100_000)
    if everything:
        document["calls"] = [calls(*size, 20_000) for size in ((16, 32), (16, 64), (64, 64), (256, 64))]
    publish(document)


if __name__ == "__main__":
    main()
