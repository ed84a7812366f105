"""Processes that serve until they are killed, and write down what they were told after they were told."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.routing.router import Router
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import RewardRule
from bandit_router.store import Store
from bandit_router.store.ledger import Head, Ledger
from bandit_router.store.spool import Spool

KEY, DIM, THREADS, WINDOW_S = b"campaign", 4, 3, 2.0
REWARD = 0.75 - 0.5 * 0.25
ARMS = [Arm(id=name) for name in ("a", "b", "c")]
CRASH_POINTS: dict[str, tuple[type, str]] = {
    "before the log is written": (Head, "write"),
    "after the commit, before the fold": (Learner, "apply"),
    "after the fold, before the spool is released": (Spool, "done"),
    "while a snapshot is written": (Ledger, "put_snapshot"),
}


def open_router(url: str, spool: Path, **settings: Any) -> Router:
    """The router that all workers run."""
    store = Store(url, spool=spool, snapshot_every=50, wait_s=20.0, bound_s=1.0)
    rule = RewardRule(window_s=WINDOW_S, default=Outcome(quality=0.0, cost_usd=0.0), early_s=0.5)
    utility = Utility(prices={"cost_usd": 0.5})
    policy = {"policy": "LinUCB", "settings": {"floor": 0.3}, "rewards": rule, "utility": utility}
    return Router(arms=ARMS, dim=DIM, key=KEY, store=store, **policy, **settings)


def work(url: str, spool: Path, acks: Path, round_: int, crash: str | None, ready: Any) -> None:
    """Serve until killed, writing one line for every answer that was given."""
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(*words: object) -> None:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())

    router = open_router(url, spool)
    if crash is not None:
        kill_at(crash, random.Random(round_).randint(1, 40))

    def serve(thread: int) -> None:
        rng = np.random.default_rng([round_, thread])
        for number in range(10**9):
            event = f"{round_}-{thread}-{number}"
            decision = router.decide(rng.normal(size=DIM), event_id=event)
            tell("decided", event, decision.arm, decision.propensity.hex())
            kind = rng.integers(6)
            if kind == 0:
                continue  # never rewarded: the default
            if kind == 1:
                tell("refused", event, router.observe(event, Outcome(quality=math.nan)).refused)
            if kind == 2:
                router.observe(event, Outcome(cost_usd=0.25))
            for _ in range(2):
                settled = router.observe(event, Outcome(quality=0.75, cost_usd=None if kind == 2 else 0.25))
                if settled.reward is not None:
                    tell("settled", event, settled.reward.hex())
                elif settled.pending:
                    tell("queued", event)

    def guarded(thread: int) -> None:
        try:
            serve(thread)
        except BaseException as error:
            tell("failed", repr(error).replace("\n", " "))
            raise

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.send_bytes(b"ready")
    for thread in threads:
        thread.join()


def kill_at(point: str, calls: int) -> None:
    """Let this process kill itself at the given call of a method, before the call does anything."""
    owner, name = CRASH_POINTS[point]
    method, left = getattr(owner, name), [calls]

    def trap(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)

    setattr(owner, name, trap)


def fork_server() -> Any:
    """A multiprocessing context whose children run the same installed package, hence the same kernels, as this process.

    Without safe paths the server would import a source tree that happens to be the working directory.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bandit_router.routing.router", "bandit_router.store"])
    return context
