"""What wrong reports cost each policy behind a router: bills in a wrong unit, huge features, bursts of zeros, lies.

    python -m benchmarks.poison > benchmarks/results/poison.json

Four arms of quality .8, .65, .6 and .5 (0/1 outcomes) that cost .2, .1, .1 and .4 (log-normal, deviation .3 of the log,
price .2), a level and three features that matter to none. From request 1,000 on: one bill of the best arm is 1e4; one
feature of a request of the best arm is 1e6, 1e18; bursts of ten false zeros of the best arm every 500 requests; 1, 5
and 10 % of all reports say the opposite. Shares of the best arm over the 3,000 requests after it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bandit_router import Arm, Objective, Outcome, PolicySpec, Router
from bandit_router.policies import DEFAULT_POLICY

ARMS, QUALITY, COST = ("best", "b", "c", "d"), (0.8, 0.65, 0.6, 0.5), (0.2, 0.1, 0.1, 0.4)
NAMES = (DEFAULT_POLICY, "LinTS", "LinUCB", "BetaThompson", "DriftLinTS")
START, STEPS, DIM = 1000, 3000, 4


class Fault:
    """What goes wrong: `context` changes a request, `outcome` a report of (quality, cost)."""

    def __init__(self, *, bill: float = 0.0, feature: float = 0.0, burst: int = 0, lies: float = 0.0) -> None:
        self.bill, self.feature, self.burst, self.lies = bill, feature, burst, lies
        self.left = self.told = 0

    def context(self, step: int, x: Any) -> Any:
        """The features of a request; the huge one comes once."""
        if self.feature and step == START:
            x[1] = self.feature
        return x

    def outcome(self, step: int, best: bool, quality: float, cost: float, luck: float) -> tuple[float, float]:
        """What is reported."""
        if step < START:
            return quality, cost
        if self.bill and best and not self.told:
            self.told, cost = 1, self.bill
        if self.burst and (step - START) % 500 == 0:
            self.left = self.burst
        if self.left and best:
            self.left, quality = self.left - 1, 0.0
        return (1.0 - quality if luck < self.lies else quality), cost


FAULTS: dict[str, Callable[[], Fault]] = {
    "none": Fault,
    "bill_1e4": lambda: Fault(bill=1e4),
    "feature_1e6": lambda: Fault(feature=1e6),
    "feature_1e18": lambda: Fault(feature=1e18),
    "bursts_10_of_500": lambda: Fault(burst=10),
    "lies_1": lambda: Fault(lies=0.01),
    "lies_5": lambda: Fault(lies=0.05),
    "lies_10": lambda: Fault(lies=0.1),
}


def run(name: str, seed: int, fault: Fault) -> float:
    """Share of the best arm after the fault began."""
    rng = np.random.default_rng(seed)
    objective = Objective(prices={"cost_usd": 0.2}, channels=("quality", "cost_usd"))
    arms = [Arm(id=arm) for arm in ARMS]
    router = Router(arms=arms, context=DIM, policy=PolicySpec(name=name), objective=objective, key=b"%d" % seed)
    best = 0
    for step in range(START + STEPS):
        x = fault.context(step, np.append(1.0, rng.normal(size=DIM - 1)))
        forced = ["best"] if step == START and fault.feature else None
        decision = router.decide(x, event_id=f"{seed}-{step}", eligible=forced)
        arm = decision.arm_index
        quality, cost = float(rng.random() < QUALITY[arm]), COST[arm] * float(np.exp(0.3 * rng.normal()))
        quality, cost = fault.outcome(step, arm == 0, quality, cost, float(rng.random()))
        router.observe(decision.event_id, Outcome(quality=quality, cost_usd=cost))
        best += step >= START and arm == 0
    return best / STEPS


def table(document: dict[str, Any]) -> str:
    """The table of docs/wrong-reports.md."""
    lines = ["| policy | " + " | ".join(FAULTS) + " |", "| --- |" + " ---: |" * len(FAULTS)]
    for name, row in document["shares"].items():
        cells = " | ".join(f"{row[fault]['mean']:.3f} ({row[fault]['min']:.2f})" for fault in FAULTS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print one JSON document, and the table on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    shares: dict[str, Any] = {}
    for name in NAMES:
        shares[name] = {}
        for fault, make in FAULTS.items():
            found = [run(name, seed, make()) for seed in range(seeds)]
            shares[name][fault] = {"mean": float(np.mean(found)), "min": float(np.min(found))}
    document = {"seeds": seeds, "shares": shares}
    print(table(document), file=sys.stderr)
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
