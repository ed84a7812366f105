"""What wrong reports cost each policy: a bill in a wrong unit, a huge feature, bursts of false zeros, lies.

    python -m benchmarks.poison > benchmarks/results/poison.json

Four arms of quality .8, .65, .6 and .5 (0/1 outcomes) that cost .2, .1, .1 and .4 (log-normal, deviation .3 of the log;
price .2), a level and three features that matter to none. From request 1,000 on: one bill of the best arm is 1e4; one
request of the best arm has a feature of 1e18; ten false zeros in a row of the best arm every 500 requests; 5 or 10 % of
all reports say the opposite. Shares of the best arm over the 2,000 requests from then on, behind the door of
`settling.door` as in a router, and for bill and feature without it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies import DEFAULT_POLICY, POLICIES, BetaThompson
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.settling.door import Door

QUALITY, COST = np.array([0.8, 0.65, 0.6, 0.5]), np.array([0.2, 0.1, 0.1, 0.4])
PRICES = np.array([1.0, -0.2])
NAMES = (DEFAULT_POLICY, "LinTS", "LinUCB", "BetaThompson", "DriftLinTS")
START, STEPS, DIM = 1000, 2000, 4
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "bill": {"bill": 1e4},
    "bill, no door": {"bill": 1e4, "door": False},
    "feature": {"feature": 1e18},
    "feature, no door": {"feature": 1e18, "door": False},
    "bursts": {"burst": 10},
    "5 % lies": {"lies": 0.05},
    "10 % lies": {"lies": 0.1},
}


def choose(policy: Policy, x: F64, rng: np.random.Generator) -> tuple[int, float]:
    """An arm and its propensity; BetaThompson's is drawn from its posterior, as its integral takes milliseconds."""
    if isinstance(policy, BetaThompson):
        good = policy.prior + policy.sums[:, 0]
        value = rng.beta(good, np.maximum(2 * policy.prior + policy.counts[:, 0] - good, 1e-9))
        cost = policy.sums[:, 1] / np.maximum(policy.counts[:, 1], 1.0)
        return int((value + PRICES[1] * cost).argmax()), 1.0
    p = policy.probabilities(x, None, PRICES)
    arm = draw(p, rng.random())
    return arm, min(1.0, float(p[arm]))


def run(
    name: str, seed: int, *, bill: float = 0, feature: float = 0, burst: int = 0, lies: float = 0, door: bool = True
) -> float:
    """Share of the best arm from request `START` on."""
    rng, policy = np.random.default_rng(seed), POLICIES[name](n_arms=4, dim=DIM, channels=2)
    usual, best, left = Door(n_arms=4, dim=DIM, channels=2), 0, 0
    for step in range(START + STEPS):
        x, luck, liar = np.append(1.0, rng.normal(size=DIM - 1)), rng.random(), rng.random()
        if step == START and feature:
            x[1] = feature
        x = usual.clip(x) if door else x
        arm, propensity = choose(policy, x, rng)
        if step == START and (bill or feature):
            arm, propensity = 0, 1.0
        cost = COST[arm] * np.exp(0.3 * rng.normal())
        quality = float(luck < QUALITY[arm])
        if step >= START:
            best += arm == 0
            cost = bill if bill and step == START else cost
            left = burst if burst and step % 500 == 0 else left
            if arm == 0 and left:
                quality, left = 0.0, left - 1
            quality = 1.0 - quality if liar < lies else quality
        y = np.array([quality, cost])
        if door and usual.suspects(arm, y):
            usual.doubts(arm, y)
        else:
            policy.learn(x, arm, y, propensity=propensity)
            usual.learned(arm, x, y)
    return best / STEPS


def shares(job: tuple[str, str, int]) -> dict[str, float]:
    """Mean and least share of one policy under one fault."""
    name, fault, seeds = job
    found = [run(name, seed, **FAULTS[fault]) for seed in range(seeds)]
    return {"mean": float(np.mean(found)), "min": float(np.min(found))}


def table(document: dict[str, Any]) -> str:
    """The table of docs/howto/wrong-reports.md."""
    lines = ["| policy | " + " | ".join(FAULTS) + " |", "| --- |" + " ---: |" * len(FAULTS)]
    for name, row in document["shares"].items():
        cells = " | ".join(f"{row[fault]['mean']:.3f} ({row[fault]['min']:.2f})" for fault in FAULTS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print one JSON document, and the table on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    jobs = [(name, fault, given.seeds) for name in NAMES for fault in FAULTS]
    with multiprocessing.Pool(given.processes) as pool:
        found = pool.map(shares, jobs, chunksize=1)
    document: dict[str, Any] = {"seeds": given.seeds, "shares": {name: {} for name in NAMES}}
    for (name, fault, _), row in zip(jobs, found, strict=True):
        document["shares"][name][fault] = row
    print(table(document), file=sys.stderr)
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
