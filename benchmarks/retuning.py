"""What tuning the default policy costs in many dimensions: `decide` in another thread, `learn`, and regret.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.retuning [--dims 128 256 512] [--arms 8] [--steps 1500] [--regret SEEDS]

Prints JSON. `at_once` is the same policy with the model that solves everything at the doubling of the outcomes.
Regret is on synthetic streams of `steps` requests, as a share of the gap between the best arm of every request and a
uniform choice.
"""

from __future__ import annotations

import argparse
import json
import threading
import time

import numpy as np

from bandit_router import Arm, Outcome, Router
from bandit_router.policies import EvidenceThompson
from bandit_router.policies.compiled_hierarchy import CompiledHierarchy
from bandit_router.policies.distributions import draw


def policy_of(form, **sizes):
    """The default policy in one of the two forms."""
    policy = EvidenceThompson(**sizes)
    if form == "at_once":
        policy.model = CompiledHierarchy(sizes["n_arms"], sizes["dim"], sizes.get("channels", 1))
    return policy


def latency(form, arms, dim, steps, seed=0):
    """Milliseconds of `decide` in one thread while another observes, and of each `observe`."""
    router = Router(arms=[Arm(id=f"m{i}") for i in range(arms)], dim=dim, key=b"k", max_events=500)
    router.learner.policy = policy_of(form, n_arms=arms, dim=dim, channels=router.policy.channels)
    contexts = np.random.default_rng(seed).normal(size=(64, dim))
    waits, learns, stop = [], [], threading.Event()

    def serve():
        for i in range(10**9):
            if stop.is_set():
                return
            begun = time.perf_counter()
            router.decide(contexts[i % 64], event_id=f"s{i}")
            waits.append(time.perf_counter() - begun)
            time.sleep(0.001)

    thread = threading.Thread(target=serve)
    thread.start()
    for i in range(steps):
        router.decide(contexts[i % 64], event_id=f"e{i}")
        begun = time.perf_counter()
        router.observe(f"e{i}", Outcome(quality=0.5 + 0.4 * np.tanh(contexts[i % 64, 0])))
        learns.append(time.perf_counter() - begun)
    stop.set()
    thread.join()
    return {"decide_ms": spread(waits), "observe_ms": spread(learns)}


def steps_alone(form, arms, dim, steps, seed=0):
    """Milliseconds of processor time of each `learn`."""
    rng, policy, times = np.random.default_rng(seed), policy_of(form, n_arms=arms, dim=dim), []
    for i in range(steps):
        x = rng.normal(size=dim)
        begun = time.thread_time()
        policy.learn(x, i % arms, [0.5 + 0.1 * float(np.tanh(x[0]))])
        times.append(time.thread_time() - begun)
    return spread(times)


def spread(seconds):
    """Median, 99 % and slowest, in milliseconds."""
    ms = np.array(seconds) * 1e3
    return {
        "median": round(float(np.median(ms)), 2),
        "p99": round(float(np.percentile(ms, 99)), 2),
        "max": round(float(ms.max()), 1),
    }


def stream(kind, arms, dim, steps, seed):
    """Contexts and mean qualities of a synthetic stream."""
    rng = np.random.default_rng([seed, 7])
    scale = np.arange(1, dim + 1) ** (-0.75 if kind == "decaying" else 0.0)
    x = rng.normal(size=(steps, dim)) * scale / np.sqrt((scale**2).sum())
    slopes = rng.normal(0, 0.15, (dim, arms)) if kind != "noise" else np.zeros((dim, arms))
    means = 0.5 + rng.normal(0, 0.1, arms) + x @ slopes
    if kind == "change":
        means[steps // 2 :] = means[steps // 2 :, ::-1]
    if kind == "tasks":
        x[:, :8] = np.eye(8)[rng.integers(0, 8, steps)]
        means = means + x[:, :8] @ rng.normal(0, 0.1, (8, arms))
    return x, means


def regret(form, kind, arms, dim, steps, seed):
    """Regret of one run, as a share of a uniform choice's."""
    x, means = stream(kind, arms, dim, steps, seed)
    rng, policy, lost = np.random.default_rng([seed, 8]), policy_of(form, n_arms=arms, dim=dim), 0.0
    noise = rng.normal(0, 0.15, means.shape)
    for t, u in enumerate(rng.random(steps)):
        p = policy.probabilities(x[t])
        arm = draw(p, u)
        policy.learn(x[t], arm, [means[t, arm] + noise[t, arm]], propensity=min(1.0, float(p[arm])))
        lost += means[t].max() - means[t, arm]
    return lost / (means.max(axis=1) - means.mean(axis=1)).sum()


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--arms", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--forms", nargs="+", default=["sliced", "at_once"])
    parser.add_argument("--regret", type=int, default=0, metavar="SEEDS")
    given = parser.parse_args()
    rows = []
    for dim in given.dims:
        for form in given.forms:
            row = {"dim": dim, "arms": given.arms, "steps": given.steps, "form": form}
            if given.regret:
                for kind in ("isotropic", "decaying", "noise", "tasks", "change"):
                    runs = [regret(form, kind, given.arms, dim, given.steps, s) for s in range(given.regret)]
                    row[kind] = [round(float(np.mean(runs)), 3), round(float(np.std(runs) / len(runs) ** 0.5), 3)]
            else:
                row |= latency(form, given.arms, dim, given.steps)
                row["learn_cpu_ms"] = steps_alone(form, given.arms, dim, given.steps)
            rows.append(row)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
