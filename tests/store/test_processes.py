"""Several processes and many threads on one database: each reward is counted once."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.inspection import Inspection
from support.databases import query
from support.workers import ARMS, fork_server

PROCESSES, THREADS, EVENTS = 4, 16, 25


def open_router(url: str, spool: Path) -> Router:
    return Router(arms=ARMS, context=1, policy="LinUCB", key=b"k", store=Store(url, spool=spool, wait_s=60.0))


def report_everything(url: str, spool: Path, queue: multiprocessing.Queue[Counter[str]]) -> None:
    """Every thread reports the same rewards as every other one, in an order of its own."""
    router = open_router(url, spool)

    def report(thread: int) -> Counter[str]:
        answers: Counter[str] = Counter()
        for step in range(EVENTS):
            event = f"e{(step * 7 + thread) % EVENTS}"
            settled = router.observe(event, Outcome(quality=0.5))
            answers[settled.refused or ("settled" if settled.reward is not None else "pending")] += 1
        return answers

    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(report, range(THREADS)), Counter())
    router.close()
    queue.put(total)


@pytest.mark.slow
def test_4_processes_of_16_threads_count_each_reward_once(tmp_path: Path) -> None:
    """4 processes of 16 threads that all report the same rewards count each once."""
    url, spool = f"sqlite:///{tmp_path}/events.db", tmp_path / "spool"
    with open_router(url, spool) as router:
        for number in range(EVENTS):
            router.decide([1.0], event_id=f"e{number}")
    context = fork_server()
    queue = context.Queue()
    children = [context.Process(target=report_everything, args=(url, spool, queue)) for _ in range(PROCESSES)]
    for child in children:
        child.start()
    answers = sum((queue.get(timeout=120) for _ in children), Counter())
    for child in children:
        child.join()
    assert answers == {"settled": EVENTS, "duplicate": (PROCESSES * THREADS - 1) * EVENTS}
    assert [tuple(row) for row in query(url, "SELECT count(*), count(DISTINCT event_id) FROM log")] == [
        (EVENTS, EVENTS)
    ]
    assert [tuple(row) for row in query(url, "SELECT count(*) FROM rewards")] == [(EVENTS,)]
    store = Inspection(url)
    assert all(check.fault is None for check in store.verify())
    store.close()
    with open_router(url, spool) as router:
        assert router.policy.steps == EVENTS
