"""Kill workers that share one hard budget; never is more spent than its total and one error."""

from __future__ import annotations

import math
import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.budgets.limits import Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BudgetExhausted
from bandit_router.records.outcomes import Outcome

from .databases import count
from .workers import DIM, THREADS, fork_server, open_router

ERROR = 0.5
PRICES = {"a": 1.0, "b": 2.0, "c": 3.0}


def spend(url: str, spool: Path, acks: Path, round_: int, total: float, ready: Any) -> None:
    """Serve under a hard window until it is spent or this process is killed; one line for everything that is spent.

    A request costs up to what was held for it, or `ERROR` more; two in three are billed.
    """
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    window = Window(name="cap", channel="cost_usd", total=total, window_s=1e12, margin=ERROR)
    budgets = Budgets(limits=[window], expected={arm: Outcome(cost_usd=cost) for arm, cost in PRICES.items()})
    router = open_router(url, spool, budgets=budgets)

    def serve(thread: int) -> None:
        rng = np.random.default_rng([round_, thread])
        for number in range(10**9):
            event = f"{round_}-{thread}-{number}"
            try:
                decision = router.decide(rng.normal(size=DIM), event_id=event)
            except BudgetExhausted:
                return
            cost = PRICES[decision.arm] * rng.random() + ERROR * (rng.random() < 0.5)
            os.write(file, f"{event} {cost.hex()}\n".encode())
            if number % 3:
                router.observe(event, Outcome(quality=0.75, cost_usd=cost))

    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.send_bytes(b"ready")
    for thread in threads:
        thread.join()
    router.close()


def spending_campaign(url: str, folder: Path, *, kills: int, seed: int = 0, total: float = 10_000.0) -> dict[str, Any]:
    """Kill workers that share one hard window over all their lives, then let the last one spend what is left."""
    context, chance = fork_server(), random.Random(seed)
    spool, acks = folder / "spool", folder / "spent"
    for round_ in range(kills + 1):
        heard, ready = context.Pipe(duplex=False)
        child = context.Process(target=spend, args=(url, spool, acks, round_, total, ready), daemon=True)
        child.start()
        ready.close()
        if not heard.poll(60.0):
            raise TimeoutError("the worker did not start")
        heard.close()
        child.join(chance.uniform(0.0, 0.2) if round_ < kills else 60.0)
        child.kill()
        child.join()
    costs = [float.fromhex(line.split()[1]) for line in acks.read_text().splitlines()]
    spent, kept = math.fsum(costs), count(url, "decisions")
    wrong = [f"{spent} of {total} was spent"] if spent > total + ERROR else []
    wrong += [f"{len(costs)} decisions were answered, {kept} kept"] if len(costs) > kept else []
    return {
        "kills": kills,
        "decisions": len(costs),
        "total": total,
        "spent": spent,
        "one_error": ERROR,
        "violations": wrong,
    }
