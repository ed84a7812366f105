"""A cascade on real outcome tables: how good must the look at the first answer be, before escalating pays?

    BANDIT_ROUTER_DATA=FOLDER python -m benchmarks.cascade > cascade.json

The last arm is the best fixed one with cost priced at 0.2 of the dearest arm's mean; the arms that cost less may begin.
Run at that price, and at one that makes the last arm's own mean bill weigh 0.2. The signal is simulated: the first
answer's real score plus normal noise, as a judge of that accuracy would give it. Both steps run the default policy;
the router beside it may pick every arm, once a request.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.base import utility
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.cascade import GATE_ARMS, Cascade
from bandit_router.routing.groups import Objective
from bandit_router.routing.router import Router
from bandit_router.simulators.environment import generator
from bandit_router.simulators.results import interval
from bandit_router.simulators.table import TableEnvironment, load_table

NOISE = (0.0, 0.1, 0.2, 0.4, 1.0)
SEEDS, HORIZON, PRICE = 5, 1785, 0.2
KEY = b"benchmark"


class Table:
    """One table as a serving loop sees it."""

    def __init__(self, path: str, scale: str) -> None:
        self.environment = TableEnvironment(load_table(path), contexts=["task"])
        outcomes, channels = self.environment.table.outcomes, self.environment.channels
        cost = outcomes[:, :, channels.index("cost_usd")].mean(axis=0)
        self.last = int((outcomes[:, :, 0].mean(axis=0) - PRICE * cost / cost.max()).argmax())
        self.begin = [arm for arm in range(len(cost)) if cost[arm] < cost[self.last]]
        reference = float(cost[self.last] if scale == "last" else cost.max())
        self.objective = Objective(prices={"cost_usd": PRICE}, scales={"cost_usd": reference})
        self.weights = self.objective.utility.weights(channels)

    def router(self, arms: list[Arm], signals: int = 0) -> Router:
        """The default policy over some arms."""
        return Router(arms=arms, context=self.environment.dim + signals, objective=self.objective, key=KEY)

    def stream(self, seed: int) -> tuple[F64, F64]:
        """Contexts and every arm's outcomes of one shuffled pass."""
        blocks = list(self.environment.blocks(seed, min(HORIZON, self.environment.horizon)))
        return np.concatenate([b.contexts for b in blocks]), np.concatenate([b.outcomes for b in blocks])

    def outcome(self, row: F64) -> Outcome:
        """What one arm did, of the channels that are priced."""
        return Outcome(quality=row[0], cost_usd=row[self.environment.channels.index("cost_usd")])


def alone(table: Table, seed: int) -> float:
    """Mean utility of a router that asks one arm a request."""
    router, rewards = table.router(list(table.environment.arms)), []
    for i, (x, outcomes) in enumerate(zip(*table.stream(seed), strict=True)):
        decision = router.decide(x, event_id=f"e{i}")
        rewards.append(router.observe(f"e{i}", table.outcome(outcomes[decision.arm_index])).reward)
    return float(np.mean(rewards))


def cascaded(table: Table, seed: int, noise: float) -> tuple[float, float]:
    """Mean utility of a cascade and the share of requests that were escalated."""
    order = [*table.begin, table.last]
    arms = [table.environment.arms[arm] for arm in order]
    cascade = Cascade(first=table.router(arms), gate=table.router(list(GATE_ARMS), signals=1), last=arms[-1].id)
    rewards, escalations = [], 0
    rng = generator(table.environment.name, "judge", seed)
    for i, (x, outcomes) in enumerate(zip(*table.stream(seed), strict=True)):
        decision = cascade.decide(x, event_id=f"e{i}")
        row = outcomes[order[decision.arm_index]]
        escalated = cascade.escalates(decision, signals=row[0] + noise * rng.normal())
        second = table.outcome(outcomes[table.last]) if escalated else None
        rewards.append(cascade.observe(f"e{i}", table.outcome(row), second).reward)
        escalations += escalated
    return float(np.mean(rewards)), escalations / len(rewards)


def run(path: str, scale: str) -> dict[str, Any]:
    """Everything on one table at one price."""
    table = Table(path, scale)
    worth = [utility(table.stream(seed)[1], table.weights) for seed in range(SEEDS)]
    result: dict[str, Any] = {
        "table": Path(path).name,
        "last": table.environment.arms[table.last].id,
        "begin": [table.environment.arms[arm].id for arm in table.begin],
        "price": f"{PRICE} per mean bill of the {scale} arm",
        "best_fixed": interval([w.mean(axis=0).max() for w in worth]),
        "oracle_per_request": interval([w.max(axis=1).mean() for w in worth]),
        "router_alone": interval([alone(table, seed) for seed in range(SEEDS)]),
    }
    for noise in NOISE:
        runs = np.array([cascaded(table, seed, noise) for seed in range(SEEDS)])
        result[f"cascade, noise {noise}"] = interval(runs[:, 0]) | {"escalated": float(runs[:, 1].mean())}
        print(result["table"], scale, noise, result[f"cascade, noise {noise}"], file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Print a list with one entry per table."""
    folder, tables = os.environ.get("BANDIT_ROUTER_DATA"), ["models_llm"]
    if folder is not None:
        tables += [str(Path(folder) / "outcomes" / name) for name in ("paretobandit_val_k4", "routerbench_zs")]
    json.dump([run(path, scale) for path in tables for scale in ("dearest", "last")], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
