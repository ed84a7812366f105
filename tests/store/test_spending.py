"""Budgets across restarts: what was booked is known again, and a hard window holds through kills, threads and all."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import create_engine, text

from bandit_router.budgets.limits import Rate, Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BudgetExhausted
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.ledger import Ledger
from support.databases import ARMS, Clock
from support.spending_campaign import spending_campaign

OpenRouter = Callable[..., Router]
EXPECTED = {"small": Outcome(cost_usd=1.0), "large": Outcome(cost_usd=4.0), "adapter": Outcome(cost_usd=2.0)}
TOTAL, WINDOW_S = 40.0, 100.0


def budgets(margin: float = 0.0, total: float = TOTAL, **changes: Any) -> Budgets:
    limits = [
        Window(name="cap", channel="cost_usd", total=total, window_s=WINDOW_S, margin=margin),
        Rate(name="rate", channel="cost_usd", per_request=2.0, tenant="*"),
    ]
    return Budgets(limits=limits, expected=EXPECTED, **changes)


class Killed(BaseException):
    """Ends a writer thread where it stands."""


def kill(router: Router, place: str | None = None) -> None:
    """Let the process die: its writer stops where it stands, the queue's files stay, the locks on them go."""
    writer, spool = router.events._writer, router.events._spool
    owner, name = {
        None: (writer, "_round"),
        "in the transaction": (writer.spending, "write"),
        "after the commit": (writer, "_fold"),
        "before the queue is released": (spool, "done"),
        "while a state is saved": (writer.spending, "save"),
    }[place]

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    hook = threading.excepthook
    threading.excepthook = lambda told: None if told.exc_type is Killed else hook(told)
    setattr(owner, name, die)
    writer._next_tick = 0.0
    spool.wake()
    writer._thread.join(0.1)
    writer._round = die  # where the place was not reached
    spool.wake()
    writer._thread.join(5.0)
    threading.excepthook = hook
    assert not writer._thread.is_alive()
    spool.close()
    writer.ledger.close()


PLACES = st.sampled_from(
    [None, "in the transaction", "after the commit", "before the queue is released", "while a state is saved"]
)


class Spender(RuleBasedStateMachine):
    """One router under a hard window, served from several threads, killed and restarted at will.

    A request costs what it costs from its decision on, whether or not the bill is ever reported: `share` of what was
    held for it, and for dear ones `over` more.
    """

    @initialize(over=st.sampled_from([0.0, 1.5]), every=st.sampled_from([3, 1000]))
    def start(self, over: float, every: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.over, self.every, self.clock = over, every, Clock()
        self.spent: dict[int, float] = defaultdict(float)
        self.unbilled: list[tuple[str, float]] = []
        self.lock, self.number = threading.Lock(), 0
        self.router = self.open()

    def open(self) -> Router:
        store = Store(f"sqlite:///{self.folder}/events.db", snapshot_every=self.every, wait_s=20.0)
        limits = budgets(self.over, timeout_s=1.5 * WINDOW_S)
        return Router(
            arms=ARMS, context=1, policy="UniformRandom", key=b"k", clock=self.clock, budgets=limits, store=store
        )

    def serve(self, event: str, share: float, bound: float | None, bill: bool) -> None:
        bounds = None if bound is None else {arm.id: Outcome(cost_usd=bound) for arm in ARMS}
        try:
            decision = self.router.decide([1.0], event_id=event, tenant="acme", bounds=bounds)
        except BudgetExhausted:
            return
        assert decision.booking is not None
        part = decision.booking.parts[0]
        cost = share * part.held + self.over * (share > 0.5)
        with self.lock:
            self.spent[part.window] += cost
            if not bill:
                self.unbilled.append((event, cost))
        if bill:
            self.router.observe(event, Outcome(cost_usd=cost))

    @rule(
        count=st.integers(1, 6),
        share=st.sampled_from([0.0, 0.4, 1.0]),
        bound=st.sampled_from([None, 0.5, 6.0]),
        bill=st.booleans(),
    )
    def burst(self, count: int, share: float, bound: float | None, bill: bool) -> None:
        threads = []
        for _ in range(count):
            self.number += 1
            threads.append(threading.Thread(target=self.serve, args=(f"e{self.number}", share, bound, bill)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @precondition(lambda self: self.unbilled)
    @rule(which=st.integers(0, 100))
    def a_late_bill(self, which: int) -> None:
        event, cost = self.unbilled.pop(which % len(self.unbilled))
        self.router.observe(event, Outcome(cost_usd=cost))

    @rule(seconds=st.sampled_from([1.0, 30.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(place=PLACES)
    def killed(self, place: str | None) -> None:
        kill(self.router, place)
        self.router = self.open()

    @rule()
    def restarted(self) -> None:
        self.router.close()
        self.router = self.open()

    @invariant()
    def no_window_is_exceeded_by_more_than_one_error(self) -> None:
        assert max(getattr(self, "spent", {0: 0.0}).values(), default=0.0) <= TOTAL + self._error() + 1e-9

    def _error(self) -> float:
        return getattr(self, "over", 0.0)

    def teardown(self) -> None:
        if hasattr(self, "router"):
            self.router.close()
            shutil.rmtree(self.folder)


TestSpender = pytest.mark.slow(Spender.TestCase)
TestSpender.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)


def serve(router: Router, count: int, *, seed: int = 0, bills: float = 0.7, diverted: str | None = None) -> None:
    rng = np.random.default_rng(seed)
    for n in range(count):
        router.clock.now += rng.random()
        decision = router.decide([1.0], event_id=f"{seed}-{n}", tenant="acme" if n % 2 else None)
        if rng.random() < bills:
            cost = rng.random() * EXPECTED[decision.arm].cost_usd
            outcome = Outcome(cost_usd=cost, quality=rng.random() if n % 3 else None)
            router.observe(decision.event_id, outcome, served_arm=diverted)


@pytest.mark.slow
@pytest.mark.parametrize("place", [None, "in the transaction", "after the commit", "before the queue is released"])
def test_after_a_kill_the_budgets_stand_where_they_stood_number_for_number(
    url: str, place: str | None, open_router: OpenRouter
) -> None:
    settings = {"context": 1, "clock": Clock(), "store": {"snapshot_every": 30}}
    first = open_router(url, budgets=budgets(total=1e6), **settings)
    serve(first, 100)
    first.budgets.reprice("large", "cost_usd", 0.5)
    serve(first, 5, seed=1)
    serve(first, 5, seed=3, diverted="adapter")
    kill(first, place)
    second = open_router(url, budgets=budgets(total=1e6), **settings)
    assert second.budgets.state() == first.budgets.state()
    assert second.budgets.state()["holds"], "some were never billed"
    serve(second, 20, seed=2)
    second.close()
    third = open_router(url, budgets=budgets(total=1e6), **settings)
    assert third.budgets.state() == second.budgets.state()


@pytest.mark.slow
def test_a_hard_window_holds_through_kills(tmp_path: Path) -> None:
    """A hard window holds while a process with threads is killed again and again."""
    report = spending_campaign(f"sqlite:///{tmp_path}/events.db", tmp_path, kills=3, total=500.0)
    assert report["violations"] == []
    assert report["decisions"] > 100
    assert 0.5 * report["total"] < report["spent"] <= report["total"] + report["one_error"]


def follow(*routers: Router) -> None:
    """Let every router's writer look for what the others have written."""
    for _ in range(2):
        for router in routers:
            router.events._writer._next_tick = 0.0
            router.flush()
            router.flush()


def test_routers_on_one_store_know_each_others_bookings(url: str, open_router: OpenRouter) -> None:
    """Routers on one store know what the others have booked and were billed."""
    clock = Clock()
    one, two = (open_router(url, context=1, clock=clock, budgets=budgets(total=12.0)) for _ in range(2))
    only = {"eligible": ["large"]}
    one.decide([1.0], event_id="a", **only)
    one.decide([1.0], event_id="b", **only)
    two.decide([1.0], event_id="c", **only)
    follow(one, two)
    for router in (one, two):
        assert router.budgets.report()[0]["committed"] == 12.0
        with pytest.raises(BudgetExhausted):
            router.decide([1.0], event_id="d")
    two.observe("a", Outcome(cost_usd=1.0))  # the bill may come to either
    follow(one, two)
    assert [router.budgets.report()[0]["committed"] for router in (one, two)] == [9.0, 9.0]


def committed(*routers: Router) -> list[float]:
    return [router.budgets.report()[0]["committed"] for router in routers]


def test_an_event_decided_by_two_routers_is_booked_once(url: str, open_router: OpenRouter) -> None:
    """An event that two routers have decided is booked once in both and after a restart."""
    clock = Clock()
    one, two = (open_router(url, context=1, clock=clock, budgets=budgets()) for _ in range(2))
    for router in (one, two):
        router.decide([1.0], event_id="a", eligible=["large"])
    follow(one, two)
    assert committed(one, two) == [4.0, 4.0]
    one.observe("a", Outcome(cost_usd=1.0))
    follow(one, two)
    assert committed(one, two, open_router(url, context=1, clock=clock, budgets=budgets())) == [1.0, 1.0, 1.0]


def test_a_bill_may_reach_a_router_before_the_decision(url: str, open_router: OpenRouter) -> None:
    """What one router has decided may be billed to another before that one knows of it."""
    clock = Clock()
    one, two = (open_router(url, context=1, clock=clock, budgets=budgets()) for _ in range(2))
    for n in range(9):
        one.decide([1.0], event_id=f"e{n}", eligible=["large"])
        two.observe(f"e{n}", Outcome(cost_usd=0.5))
    follow(one, two)
    assert committed(one, two, open_router(url, context=1, clock=clock, budgets=budgets())) == [4.5, 4.5, 4.5]


def test_a_bill_before_its_decision_is_settled_over_a_restart(url: str, open_router: OpenRouter) -> None:
    clock = Clock()
    first = open_router(url, context=1, clock=clock, budgets=budgets(), store={"snapshot_every": 1})
    assert first.observe("a", Outcome(cost_usd=5.0)).pending
    first.close()
    second = open_router(url, context=1, clock=clock, budgets=budgets())
    second.decide([1.0], event_id="a")
    assert committed(second) == [5.0]
    kill(second)
    assert committed(open_router(url, context=1, clock=clock, budgets=budgets())) == [5.0]


def test_a_corrected_bill_counts_after_a_restart_as_it_did_before(url: str, open_router: OpenRouter) -> None:
    clock = Clock()
    first = open_router(url, context=1, clock=clock, budgets=budgets())
    first.decide([1.0], event_id="a", eligible=["large"])
    for cost in (float("nan"), -1.0, 5.0):
        first.observe("a", Outcome(cost_usd=cost))
    assert committed(first, open_router(url, context=1, clock=clock, budgets=budgets())) == [5.0, 5.0]


def test_a_limit_of_ones_own_name_is_found_in_anothers_state(tmp_path: Path, open_router: OpenRouter) -> None:
    """A process with a limit of its own name finds it again in the state another process captured."""
    clock, url = Clock(), f"sqlite:///{tmp_path}/events.db"

    def open_as(name: str) -> Router:
        limit = Window(name=name, channel="cost_usd", total=20.0, window_s=WINDOW_S)
        own = Budgets(limits=[limit], expected=EXPECTED)
        return open_router(url, context=1, clock=clock, budgets=own, store={"snapshot_every": 2})

    east, west = open_as("east"), open_as("west")
    for n in range(3):
        east.decide([1.0], event_id=f"e{n}", eligible=["large"])
    west.decide([1.0], event_id="w", eligible=["large"])
    follow(east, west)
    kill(east)
    west.close()  # captures the last state
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM spending"))
    engine.dispose()
    committed = [open_as(name).budgets.report()[0]["committed"] for name in ("east", "west")]
    assert committed == [12.0, 4.0]


def test_a_limit_that_was_replaced_while_running_is_the_one_that_is_folded(url: str, open_router: OpenRouter) -> None:
    clock = Clock()
    first = open_router(url, context=1, clock=clock, budgets=budgets(total=1e6))
    serve(first, 10)
    first.budgets.replace(Window(name="cap", channel="cost_usd", total=2e6, window_s=WINDOW_S))
    follow(first)
    serve(first, 10, seed=1)
    first.close()
    second = open_router(url, context=1, clock=clock, budgets=budgets(total=2e6))
    assert second.budgets.state() == first.budgets.state()


def mean(router: Router, arm: str) -> float:
    return router.budgets.state()["seen"]["cap"][arm]["mean"]


def test_a_price_change_is_known_everywhere_and_counts_once(url: str, open_router: OpenRouter) -> None:
    """A price change that no decision follows is known after a restart and to others and counts once."""
    clock = Clock()
    one, two = (open_router(url, context=1, clock=clock, budgets=budgets()) for _ in range(2))
    one.budgets.reprice("large", "cost_usd", 10.0)
    follow(one, two)
    one.decide([1.0], event_id="a")
    follow(one, two)
    assert [mean(router, "large") for router in (one, two)] == [40.0, 40.0]
    one.budgets.reprice("large", "cost_usd", 2.0)
    one.close()
    assert mean(open_router(url, context=1, clock=clock, budgets=budgets()), "large") == 80.0


def test_decisions_before_the_database_are_booked_on_top_of_it(
    url: str, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided before the database could be reached is booked on top of what is in it."""
    clock, only = Clock(), {"eligible": ["large"]}
    first = open_router(url, context=1, clock=clock, budgets=budgets(total=12.0))
    first.decide([1.0], event_id="a", **only)
    first.close()
    real = Ledger.open
    monkeypatch.setattr(Ledger, "open", lambda self: (_ for _ in ()).throw(OSError("away")))
    second = open_router(url, context=1, clock=clock, budgets=budgets(total=12.0), store={"wait_s": 0.1})
    second.decide([1.0], event_id="b", **only)
    second.observe("b", Outcome(cost_usd=3.0))
    second.budgets.reprice("adapter", "cost_usd", 2.0)
    monkeypatch.setattr(Ledger, "open", real)
    second.events._writer._opened.result(20.0)
    second.events.settings.wait_s = 20.0
    follow(second)
    third = open_router(url, context=1, clock=clock, budgets=budgets(total=12.0))
    for router in (second, third):
        assert router.budgets.report()[0]["committed"] == 4.0 + 3.0
        assert mean(router, "adapter") == 4.0


def test_rows_in_kept_states_are_dropped_and_damage_is_passed(tmp_path: Path, open_router: OpenRouter) -> None:
    """Rows that the kept states hold are dropped and damaged states and rows are passed over."""
    url, settings = f"sqlite:///{tmp_path}/events.db", {"context": 1, "clock": Clock(), "store": {"snapshot_every": 20}}
    for life in range(5):
        router = open_router(url, budgets=budgets(total=1e6), **settings)
        serve(router, 30, seed=life)
        router.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        states = connection.execute(text("SELECT position FROM budget_states ORDER BY position")).scalars().all()
        rows = connection.execute(text("SELECT min(id), max(id) FROM spending")).one()
        assert len(states) == 3
        assert rows[0] == states[0] + 1, "what the oldest kept state holds is gone"
        assert rows[1] == states[-1]
        connection.execute(text(f"UPDATE budget_states SET body = x'00' WHERE position = {states[-1]}"))
        unreadable = "INSERT INTO spending (event_id, channels, process, body) VALUES ('x', '', 'p', x'00')"
        connection.execute(text(unreadable))
    engine.dispose()
    again = open_router(url, budgets=budgets(total=1e6), **settings)
    assert again.budgets.state() == router.budgets.state()
    assert (again.counters["snapshots_rejected"], again.counters["failed_records"]) == (1, 1)


def test_a_database_from_before_budgets_were_kept_is_brought_up_to_date(url: str, open_router: OpenRouter) -> None:
    open_router(url, context=1).close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in (
            "DROP TABLE spending",
            "DROP TABLE budget_states",
            "ALTER TABLE decisions DROP COLUMN tenant",
            "ALTER TABLE decisions DROP COLUMN unit",
            "UPDATE schema_version SET version = 1",
        ):
            connection.execute(text(statement))
    engine.dispose()
    clock = Clock()
    first = open_router(url, context=1, clock=clock, budgets=budgets(total=1e6))
    serve(first, 10)
    first.close()
    second = open_router(url, context=1, clock=clock, budgets=budgets(total=1e6))
    assert second.budgets.state() == first.budgets.state()
