"""What a best arm that fails for a while costs each policy: outages, an arm that stays dead, bursts of false zeros.

    python -m benchmarks.forgiving > benchmarks/results/forgiving.json

Four arms of quality .8, .65, .6 and .5, a level and three features that matter to none, 0/1 or normal outcomes
(deviation .25, cut to [0, 1]). The best arm fails from request 1,000 on. In brackets: seeds with less than half of the
traffic back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies import DEFAULT_POLICY, POLICIES, BetaThompson
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw

QUALITY = np.array([0.8, 0.65, 0.6, 0.5])
NAMES = (DEFAULT_POLICY, "LinTS", "LinUCB", "BetaThompson", "DriftLinTS")
NOISE = {"0/1": None, "normal": 0.25}
START, DIM = 1000, 4


def choose(policy: Policy, x: F64, rng: np.random.Generator) -> tuple[int, float]:
    """An arm and its propensity; BetaThompson's is drawn from its posterior, as its integral takes milliseconds."""
    if isinstance(policy, BetaThompson):
        good = policy.prior + policy.sums[:, 0]
        return int(rng.beta(good, 2 * policy.prior + policy.counts[:, 0] - good).argmax()), 1.0
    p = policy.probabilities(x)
    arm = draw(p, rng.random())
    return arm, min(1.0, float(p[arm]))


def run(name: str, seed: int, steps: int, noise: float | None, fails: Callable[[int, int], bool]) -> Any:
    """Whether the best arm was played at each step; `fails(step, how often it has failed since START)`."""
    rng, policy = np.random.default_rng(seed), POLICIES[name](n_arms=4, dim=DIM)
    best, failed = np.zeros(steps, bool), 0
    for step in range(steps):
        x: F64 = np.append(1.0, rng.normal(size=DIM - 1))
        arm, propensity = choose(policy, x, rng)
        luck, error = rng.random(), rng.normal()
        best[step] = arm == 0
        fail = bool(best[step]) and step >= START and fails(step, failed)
        failed += fail
        mean = 0.0 if fail else QUALITY[arm]
        outcome = float(luck < mean) if noise is None else float(np.clip(mean + noise * error, 0, 1))
        policy.learn(x, arm, [outcome], propensity=propensity)
    return best


def rows(name: str, noise: float | None, seeds: int) -> dict[str, Any]:
    """Shares of the best arm: 250 to 350 requests after an outage; while it stays dead; under bursts of false zeros."""
    row: dict[str, Any] = {}
    for length in (30, 50, 200):
        end = START + length
        shares = [
            run(name, s, end + 350, noise, lambda step, _, end=end: step < end)[end + 250 :].mean()
            for s in range(seeds)
        ]
        row[f"outage_{length}"] = {"mean": float(np.mean(shares)), "lost": int(np.sum(np.array(shares) < 0.5))}
    dead = [run(name, s, START + 2000, noise, lambda *_: True)[START:].mean() for s in range(seeds)]
    row["dead"] = {"mean": float(np.mean(dead)), "max": float(np.max(dead))}
    for length, every in ((5, 1000), (10, 500)):
        budget = lambda step, failed, n=length, m=every: failed < n * (1 + (step - START) // m)  # noqa: E731
        shares = [run(name, s, START + 4000, noise, budget)[START:].mean() for s in range(seeds)]
        row[f"bursts_{length}_of_{every}"] = {"mean": float(np.mean(shares)), "min": float(np.min(shares))}
    return row


def table(document: dict[str, Any]) -> str:
    """The table of docs/evidence/changes.md."""
    lines = [
        "| outcomes | policy | outage of 30 | of 50 | of 200 | stays dead | 5 zeros in 1,000 | 10 zeros in 500 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, policies in document["shares"].items():
        for name, row in policies.items():
            cells = [f"{row[f'outage_{n}']['mean']:.2f} ({row[f'outage_{n}']['lost']})" for n in (30, 50, 200)]
            cells.append(f"{100 * row['dead']['mean']:.1f} %")
            cells += [f"{row[key]['mean']:.3f}" for key in ("bursts_5_of_1000", "bursts_10_of_500")]
            lines.append(f"| {kind} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print one JSON document, and the table on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    shares = {kind: {name: rows(name, noise, seeds) for name in NAMES} for kind, noise in NOISE.items()}
    document = {"seeds": seeds, "shares": shares}
    print(table(document), file=sys.stderr)
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
