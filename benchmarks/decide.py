"""The whole path of `Router.decide`: store off and on, LinUCB and the default policy, alone and while others observe.

    python -m benchmarks.decide > benchmarks/results/decide.json

Everyone decides the same requests in turns of fifty, so that a busy machine slows all of them: compare ratios. `numpy
select` is the index of all arms from stacked inverses and its argmax, nothing else. ParetoBandit's `route` is beside it
where that package is installed. `under 4 observing threads` is `decide` while four threads settle decisions as fast as
they can: with a global interpreter lock it waits for them, up to a switch interval (5 ms) each.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router import Arm, Outcome, Router
from bandit_router.arrays import F64
from bandit_router.policies import DEFAULT_POLICY
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.routing.groups import Objective, PolicySpec
from bandit_router.store import Store
from benchmarks.learners import ALPHA, ParetoBanditRouter
from benchmarks.streams import linear, machine, publish, say

POLICIES = {"LinUCB": {"alpha": ALPHA}, DEFAULT_POLICY: {}}
TRAINED, THREADS, TURN = 500, 4, 50


def router(policy: str, n_arms: int, dim: int, store: Store | None, *, quality_alone: bool = False) -> Router:
    """A router that has learned a little."""
    made = Router(
        arms=[Arm(id=f"arm{a}") for a in range(n_arms)],
        context=dim,
        policy=PolicySpec(name=policy, settings=POLICIES[policy]),
        store=store,
        objective=Objective(channels=("quality",)) if quality_alone else Objective(),
    )
    contexts, rewards, _ = linear(n_arms, dim, TRAINED, seed=1)
    for step, (x, reward) in enumerate(zip(contexts, rewards, strict=True)):
        decision = made.decide(x, event_id=f"train-{step}")
        made.observe(f"train-{step}", Outcome(quality=float(reward[decision.arm_index]), cost_usd=0.01))
    return made


def in_turns(calls: dict[str, Callable[[F64, str], Any]], contexts: F64) -> dict[str, dict[str, float]]:
    """Median and p99 of every call, each part of the stream going round all of them."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for start in range(0, len(contexts), TURN):
        for name, call in calls.items():
            for step, x in enumerate(contexts[start : start + TURN], start):
                begin = time.perf_counter_ns()
                call(x, f"r-{step}")
                times[name].append(time.perf_counter_ns() - begin)
    return {name: quantiles(values) for name, values in times.items()}


def quantiles(nanoseconds: list[int]) -> dict[str, float]:
    """Microseconds."""
    return {
        "median_us": statistics.median(nanoseconds) / 1e3,
        "p99_us": float(np.percentile(nanoseconds, 99)) / 1e3,
    }


def numpy_select(n_arms: int, dim: int) -> Callable[[F64, str], Any]:
    """Stacked NumPy: what the fastest textbook form takes for the choice alone."""
    model = RidgeStatistics(n_arms, dim, 1, ridge=1.0)
    theta, inverse = model.theta[:, 0], model.inverse
    return lambda x, event: np.argmax(theta @ x + ALPHA * np.sqrt((inverse @ x) @ x))


def observed(made: Router, contexts: F64) -> dict[str, float]:
    """`decide` in one thread while others observe what it decided."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def observe() -> None:
        for event in iter(waiting.get, None):
            made.observe(event, Outcome(quality=0.5, cost_usd=0.01))

    threads = [threading.Thread(target=observe) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    times = []
    for step, x in enumerate(contexts):
        begin = time.perf_counter_ns()
        made.decide(x, event_id=f"observed-{step}")
        times.append(time.perf_counter_ns() - begin)
        waiting.put(f"observed-{step}")
    left = waiting.qsize()
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    return quantiles(times) | {"observed_meanwhile": len(contexts) - left}


def measure(n_arms: int, dim: int, steps: int, folder: Path) -> dict[str, Any]:
    """All figures of one size."""
    contexts = linear(n_arms, dim, steps)[0]
    routers: dict[str, Router] = {}
    for policy in POLICIES:
        url = f"sqlite:///{folder / policy}.db"
        routers[f"{policy}, no store"] = router(policy, n_arms, dim, None)
        routers[f"{policy}, store"] = router(policy, n_arms, dim, Store(url, spool=folder / policy))
    routers["LinUCB, no store, quality alone"] = router("LinUCB", n_arms, dim, None, quality_alone=True)
    calls: dict[str, Callable[[F64, str], Any]] = {
        name: lambda x, event, each=each: each.decide(x, event_id=event) for name, each in routers.items()
    }
    calls["numpy select"] = numpy_select(n_arms, dim)
    try:
        pareto = ParetoBanditRouter(n_arms, dim, 0)
        calls["ParetoBandit route"] = lambda x, event: pareto.select(x)
    except ImportError:
        say("paretobandit is not installed")
    alone = in_turns(calls, contexts)
    threaded = {name: observed(each, contexts) for name, each in routers.items()}
    for each in routers.values():
        each.close()
    return {"alone": alone, f"under {THREADS} observing threads": threaded, "ratios": ratios(alone)}


def ratios(alone: dict[str, dict[str, float]]) -> dict[str, float]:
    """Our routers' medians over the others'."""
    ours = {name: each["median_us"] for name, each in alone.items() if ", " in name}
    others = {name: each["median_us"] for name, each in alone.items() if ", " not in name}
    return {f"{name} / {other}": us / other_us for name, us in ours.items() for other, other_us in others.items()}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    document: dict[str, Any] = machine() | {"steps": options.steps, "sizes": {}}
    for n_arms, dim in ((16, 32), (256, 64)):
        with tempfile.TemporaryDirectory() as name:
            steps = options.steps if n_arms == 16 else options.steps // 10
            document["sizes"][f"{n_arms}x{dim}"] = measure(n_arms, dim, steps, Path(name))
        say(f"{n_arms}x{dim} done")
    publish(document)


if __name__ == "__main__":
    main()
