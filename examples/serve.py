"""Serve 2,000 requests by the file router.toml, from a SQLite store; a fifth of the qualities come 50 requests late.

The answers are those of the shipped table. What it leaves in events.db can be replayed, exported and valued:

    bandit-router simulate scenario.toml
    bandit-router replay sqlite:///events.db --policy LinTS --price cost_usd=0.2 --scale cost_usd=0.0145
    bandit-router state export sqlite:///events.db state.safetensors
    bandit-router replay sqlite:///events.db --policy state.safetensors --price cost_usd=0.2 --scale cost_usd=0.0145
"""

import random
from collections import Counter
from pathlib import Path

from bandit_router import Outcome, Request, Router, load_table

table = load_table("models_llm")
column = {arm: i for i, arm in enumerate(table.arms)}
chance = random.Random(0)
late: list[tuple[int, str, float]] = []
served: Counter[str] = Counter()

with Router.from_config(Path(__file__).parent / "router.toml", key=b"example") as router:
    for step in range(2000):
        while late and late[0][0] <= step:
            _, event, quality = late.pop(0)
            router.observe(event, Outcome(quality=quality))
        row = chance.randrange(len(table.tasks))
        decision = router.decide(Request(task=table.tasks[row]), event_id=f"request-{step}")
        quality, cost = table.outcomes[row, column[decision.arm]]
        served[decision.arm] += 1
        if chance.random() < 0.2:
            router.observe(decision.event_id, Outcome(cost_usd=cost))
            late.append((step + 50, decision.event_id, quality))
        else:
            router.observe(decision.event_id, Outcome(quality=quality, cost_usd=cost))
    for _, event, quality in late:
        router.observe(event, Outcome(quality=quality))
    print(f"{router.counters['decided']} decided, {router.counters['settled']} settled")

for arm, count in served.most_common():
    print(f"  {arm}: {count}")
