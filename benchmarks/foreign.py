"""What our adapters cost beside the engines they wrap, and what a restart on drift wins back.

    python benchmarks/foreign.py > foreign.json

Every ratio is raw time / our time over the same stream, the two run in alternating blocks of one process, in processor
time and the least of the blocks, so that other work on the machine does not count. The raw loops are the fastest use of
the public interfaces that we know: VW examples built once and refilled with `push_many_features`, River models called
one by one. Ours are called as a serving loop calls them: a NumPy context in, a checked distribution out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bandit_router.policies import EvidenceThompson, LinTS, LinUCB
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.policies.drift import DriftLinTS, DriftLinUCB
from bandit_router.policies.river import RiverSquareCB
from bandit_router.policies.vw import VWPolicy
from bandit_router.policies.vw_explorations import VWBag, VWEpsilonGreedy, VWRegCB, VWSoftmax, VWSquareCB

SIZES = ((5, 16), (16, 32), (64, 64))
BLOCKS = 21


def stream(n_arms: int, dim: int, steps: int) -> list[tuple[np.ndarray, int, float]]:
    """Contexts, arms drawn at random and their qualities."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(n_arms, dim)) / dim**0.5
    contexts, arms = rng.normal(size=(steps, dim)), rng.integers(n_arms, size=steps)
    return [(x, int(a), float(np.clip(0.5 + 0.2 * theta[a] @ x, 0, 1))) for x, a in zip(contexts, arms, strict=True)]


def raw_vw(policy: VWPolicy) -> Callable[[list[Any]], None]:
    """The same learner, straight on vowpal-wabbit-next."""
    import vowpal_wabbit_next as vw

    workspace = vw.Workspace(policy._command_line())
    parser = vw.TextFormatParser(workspace)
    shared = parser.parse_line("shared |S " + " ".join(f"{j}:1" for j in range(policy.dim)))
    actions = [parser.parse_line(f"|A {arm}") for arm in range(policy.n_arms)]
    index, nothing = np.array(shared["S"].indices, dtype=np.uint64), vw.CBLabel()
    examples = [shared, *actions]

    def loop(events: list[Any]) -> None:
        group = shared["S"]
        for x, arm, quality in events:
            group.truncate_to(0)
            group.push_many_features(index, x.astype(np.float32))
            p = np.empty(len(actions))
            for action, probability in workspace.predict_one(examples):
                p[action] = probability
            group.truncate_to(0)
            group.push_many_features(index, x.astype(np.float32))
            actions[arm].set_label(vw.CBLabel(label=(0, -quality, 0.5)))
            workspace.learn_one(examples)
            actions[arm].set_label(nothing)

    return loop


def raw_river(policy: RiverSquareCB) -> Callable[[list[Any]], None]:
    """The same models, straight on River."""
    models = [policy.model(0) for _ in range(policy.n_arms)]

    def loop(events: list[Any]) -> None:
        for x, arm, quality in events:
            features = dict(enumerate(x.tolist()))
            [model.predict_one(features) for model in models]
            models[arm].learn_one(features, quality)

    return loop


def ours(policy: Policy) -> Callable[[list[Any]], None]:
    """The adapter behind the policy contract."""

    def loop(events: list[Any]) -> None:
        for x, arm, quality in events:
            policy.probabilities(x)
            policy.learn(x, arm, [quality], propensity=0.5)

    return loop


def compare(policy: Policy, raw: Callable[[list[Any]], None], steps: int) -> dict[str, float]:
    """Microseconds per event of both loops, each the least of its blocks, and their ratio."""
    events, loops = stream(policy.n_arms, policy.dim, steps), (ours(policy), raw)
    times = np.empty((BLOCKS, 2))
    for block in range(-1, BLOCKS):
        for which, loop in enumerate(loops):
            start = time.process_time()
            loop(events)
            times[block, which] = (time.process_time() - start) / steps * 1e6
    fastest, raw_fastest = times.min(axis=0).tolist()
    return {"ours_us": fastest, "raw_us": raw_fastest, "ours_per_raw": raw_fastest / fastest}


def throughput() -> Iterator[dict[str, Any]]:
    """One row per adapter and size."""
    for n_arms, dim in SIZES:
        for cls in (VWEpsilonGreedy, VWSoftmax, VWSquareCB, VWBag, VWRegCB):
            policy = cls(n_arms=n_arms, dim=dim)
            yield {"policy": cls.__name__, "n_arms": n_arms, "dim": dim, **compare(policy, raw_vw(policy), 200)}
        river = RiverSquareCB(n_arms=n_arms, dim=dim)
        yield {"policy": "RiverSquareCB", "n_arms": n_arms, "dim": dim, **compare(river, raw_river(river), 50)}


def regret(policy: Policy, *, steps: int, flip: int, seed: int) -> np.ndarray:
    """Expected loss against the best arm, per step; at `flip` every quality q becomes 1 - q."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(policy.n_arms, policy.dim - 1)) * 0.1
    level = rng.permutation(np.linspace(0.3, 0.7, policy.n_arms))
    losses = np.zeros(steps)
    for step in range(steps):
        x = np.concatenate([[1.0], rng.uniform(-1, 1, policy.dim - 1)])
        quality = np.clip(level + slopes @ x[1:], 0, 1)
        quality = quality if step < flip else 1 - quality
        p = policy.probabilities(x)
        arm = draw(p, rng.random())
        policy.learn(x, arm, [np.clip(quality[arm] + 0.1 * rng.normal(), 0, 1)], propensity=min(float(p[arm]), 1.0))
        losses[step] = quality.max() - quality @ p
    return losses


def drift(seeds: int = 10, flip: int = 1500) -> Iterator[dict[str, Any]]:
    """Share of the utility lost at a flip that is earned again 400 to 500 steps later, and the cost of vigilance."""
    wide = {"alpha": 1.0}
    runs: list[tuple[type[Policy], dict[str, float]]] = [(DriftLinUCB, {}), (LinUCB, {}), (DriftLinUCB, wide)]
    runs += [(LinUCB, wide), (DriftLinTS, {}), (LinTS, {}), (EvidenceThompson, {})]
    for cls, settings in runs:
        after, steady = [], []
        for seed in range(seeds):
            losses = regret(cls(n_arms=5, dim=4, **settings), steps=flip + 500, flip=flip, seed=seed)
            after.append(1 - losses[flip + 400 :].mean() / losses[flip : flip + 15].mean())
            steady.append(regret(cls(n_arms=5, dim=4, **settings), steps=2000, flip=2000, seed=seed).mean())
        yield {
            "policy": cls.__name__,
            **settings,
            "recovered_mean": float(np.mean(after)),
            "recovered_min": float(np.min(after)),
            "steady_regret_per_step": float(np.mean(steady)),
        }


def main() -> None:
    """Print one JSON document."""
    document: dict[str, list[dict[str, Any]]] = {}
    for name, rows in (("throughput", throughput()), ("drift", drift())):
        document[name] = []
        for row in rows:
            print(row, file=sys.stderr, flush=True)
            document[name].append(row)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
