"""Ends and forks: closing is bounded and final, cancelled tasks lose nothing, a forked child loses nothing either."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bandit_router.budgets.limits import Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from support.databases import ARMS, count, locked, query
from support.routers import make_router

OpenRouter = Callable[..., Router]
X = [1.0, 0.0, 0.0]


def in_child(work: Callable[[], None]) -> int:
    """Fork, run `work` in the child under a time limit, and return its exit status."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# -- forks ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_writes_its_decisions_into_a_queue_of_its_own(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    router.decide(X, event_id="before")
    router.events.flush()

    def child() -> None:
        for number in range(50):
            router.decide(X, event_id=f"child{number}")
        assert router.observe("child0", Outcome(quality=0.5)).reward == 0.5
        assert router.observe("before", Outcome(quality=0.5)).reward == 0.5
        router.close()

    for number in range(20):
        router.decide(X, event_id=f"parent{number}")
    assert in_child(child) == 0
    for number in range(20, 40):
        router.decide(X, event_id=f"parent{number}")
    assert router.observe("parent0", Outcome(quality=0.5)).reward == 0.5
    assert router.observe("child1", Outcome(quality=0.5)).reward == 0.5
    router.close()
    assert count(url, "decisions") == 91
    assert query(url, "SELECT count(*) FROM log WHERE learned") == [(4,)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_child_decides_during_an_outage_is_found_after_its_kill(tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url, store={"wait_s": 0.2})
    router.decide(X, event_id="warm")
    router.events.flush()
    with locked(url):
        for number in range(20):
            router.decide(X, event_id=f"parent{number}")
        assert in_child(lambda: [router.decide(X, event_id=f"child{n}") for n in range(50)] and None) == 0
        for number in range(20, 40):
            router.decide(X, event_id=f"parent{number}")
    router.close()
    second = open_router(url)
    assert second.counters["damaged_spools"] == 0
    assert query(url, "SELECT count(*) FROM decisions WHERE event_id LIKE 'parent%'") == [(40,)]
    assert query(url, "SELECT count(*) FROM decisions WHERE event_id LIKE 'child%'") == [(50,)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_child_of_a_busy_process_never_waits_for_a_thread(kind: str, tmp_path: Path, open_router: OpenRouter) -> None:
    """A child of a busy process never waits for a thread that is not there."""
    router = (
        make_router(arms=ARMS, context=3, policy="LinUCB", key=b"k")
        if kind == "memory"
        else open_router(f"sqlite:///{tmp_path}/events.db", store={"max_events": 1000, "wait_s": 0.1})
    )
    stop = threading.Event()

    def traffic(name: str) -> None:
        number = 0
        while not stop.is_set():
            router.decide(X, event_id=f"{name}{number}")
            router.observe(f"{name}{number}", Outcome(quality=0.5)) if kind == "memory" else None
            number += 1
            if number % 100 == 0:
                stop.wait(0.01)

    threads = [threading.Thread(target=traffic, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(lambda: router.decide(X, event_id="child") and None) for _ in range(6)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * 6


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_closed_router_refuses_with_a_sentence(kind: str, tmp_path: Path, open_router: OpenRouter) -> None:
    router = (
        make_router(arms=ARMS, context=3, policy="LinUCB", key=b"k")
        if kind == "memory"
        else open_router(f"sqlite:///{tmp_path}/events.db")
    )
    decision = router.decide(X, event_id="e")
    router.close()
    router.close()
    for use in (
        lambda: router.decide(X, event_id="f"),
        lambda: router.observe("e", Outcome(quality=0.5)),
        lambda: router.pause("small"),
        lambda: asyncio.run(router.adecide(X, event_id="g")),
        lambda: asyncio.run(router.aobserve("e", Outcome(quality=0.5))),
    ):
        with pytest.raises(InvalidInput, match="this router is closed"):
            use()
    assert router.counters["decided"] == 1
    router.explain(decision)  # what was learned can still be looked at


def test_close_ends_while_the_database_is_locked(tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url, store={"wait_s": 0.1})
    with locked(url):
        router.decide(X, event_id="e")
        router.close()  # the test ends only if this does
    second = open_router(url)
    assert second.counters["recovered_records"] <= 1
    second.events.flush()
    assert count(url, "decisions") == 1


def test_cancelled_tasks_and_closed_loops_lose_nothing(tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url, store={"durability": "power", "bound_s": 10.0})

    async def serve() -> None:
        tasks = [asyncio.create_task(router.adecide(X, event_id=f"e{number}")) for number in range(60)]
        await asyncio.sleep(0)  # every task has decided and waits for its commit
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks[1:30:2])
        rewards = [asyncio.create_task(router.aobserve(f"e{n}", Outcome(quality=1.0))) for n in range(60)]
        await asyncio.sleep(0)
        for reward in rewards[::3]:
            reward.cancel()

    asyncio.run(serve())  # the loop closes with work under way
    router.events.flush()
    assert count(url, "decisions") == 60
    assert router.policy.steps == 60
    assert router.counters["store_errors"] == 0


def test_a_decision_cancelled_while_it_waits_for_room_is_counted_as_shed(
    tmp_path: Path, open_router: OpenRouter
) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    options = {"queue_bytes": 4096, "back_pressure": "block", "bound_s": 60.0, "wait_s": 0.1}
    router = open_router(url, store=options)

    async def fill() -> None:
        number = 0
        while True:
            task = asyncio.create_task(router.adecide(X, event_id=f"e{number}"))
            done, _ = await asyncio.wait([task], timeout=0.2)
            if not done:
                task.cancel()
                await asyncio.wait([task])
                return
            number += 1

    with locked(url):
        asyncio.run(fill())
    assert router.counters["shed_decisions"] == 1


def test_a_termination_in_mid_commit_keeps_what_was_answered(tmp_path: Path) -> None:
    code = """
import signal, sys, threading
from bandit_router import Arm, Outcome, Router, Store
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with Router(arms=[Arm(id="a")], context=1, policy="LinUCB", store=Store(sys.argv[1], wait_s=10.0)) as router:
    number = 0
    while True:
        router.decide([1.0], event_id=f"e{number}")
        if router.observe(f"e{number}", Outcome(quality=0.5)).reward is not None:
            print(number, flush=True)
        number += 1
"""
    url = f"sqlite:///{tmp_path}/events.db"
    with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        answered = [int(line) for line in child.stdout.read().split()]
        assert child.wait(timeout=30) == 0
    last = answered[-1] if answered else 19
    assert query(url, "SELECT count(*) FROM log WHERE learned")[0][0] > last
    assert list((tmp_path / "events.db.spool").iterdir()) == []


def test_budgets_may_be_changed_and_read_while_others_decide() -> None:
    def limit(total: float) -> Window:
        return Window(name="day", channel="cost_usd", total=total, window_s=86400.0, hard=False)

    budgets = Budgets(limits=[limit(1e9)], expected={"small": Outcome(cost_usd=1.0)})
    router = make_router(arms=ARMS, context=3, policy="LinUCB", key=b"k", budgets=budgets)
    stop, failures = threading.Event(), []

    def traffic(name: str) -> None:
        number = 0
        while not stop.is_set():
            try:
                router.decide(X, event_id=f"{name}{number}", tenant=f"{name}{number}")
            except Exception as error:
                failures.append(error)
            number += 1

    threads = [threading.Thread(target=traffic, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for number in range(40):
        budgets.replace(Window(name=f"{number % 9}", channel="cost_usd", total=1e9, window_s=60.0, hard=False))
        budgets.report()
        budgets.state()
        budgets.reprice("small", "cost_usd", 1.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
