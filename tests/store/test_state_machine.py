"""Everything that can happen to a router's events, in any order, against a plain model of what should have happened.

One model for every shelf: memory, SQLite and PostgreSQL. With a database two processes serve, restarted at will.
"""

from __future__ import annotations

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bandit_router.policies import LinUCB
from bandit_router.records.failures import Failure
from bandit_router.records.outcomes import CHANNELS, Outcome
from bandit_router.routing.groups import Objective
from bandit_router.routing.health import Health
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import RewardRule, Settled
from bandit_router.store import Store
from support.databases import ARMS, DIM, Clock, query, tick
from support.postgres import Postgres

WINDOW_S, EARLY_S, GRACE_S, PRICE = 100.0, 10.0, 1.0, 0.5
EVENTS = st.sampled_from([f"e{number}" for number in range(3)])
REWARD_IDS = st.sampled_from(["one", "two", "three"])
QUALITIES = st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])
COSTS = st.sampled_from([None, 0.0, 0.5, 2.0])
FAILURES = st.sampled_from(["error", "timeout", "cancelled"])


class Model:
    """What the documentation says, written down once more without looking at the code."""

    def __init__(self, aggregate: str, default: float | None, *, grace_s: float) -> None:
        self.aggregate, self.default, self.grace_s = aggregate, default, grace_s
        self.decided: dict[str, tuple[float, Any]] = {}
        self.rewards: dict[str, dict[str, tuple[float | None, float | None]]] = {}
        self.settled: dict[str, tuple[float | None, bool]] = {}
        self.failed: dict[str, tuple[float | None, float | None, float | None]] = {}
        self.log: list[str] = []
        self.early: list[tuple[str, str, float, tuple[float | None, float | None], str | None]] = []

    def combined(self, event: str) -> tuple[float | None, float | None]:
        parts = list(self.rewards[event].values())
        result = []
        for channel in (0, 1):
            values = [part[channel] for part in parts if part[channel] is not None]
            total = sum(map(Fraction, values))
            ways = {"sum": lambda v, t: float(t), "mean": lambda v, t: float(t) / len(v)}
            ways |= {"min": lambda v, t: min(v), "max": lambda v, t: max(v)}
            ways |= {"first": lambda v, t: v[0], "last": lambda v, t: v[-1]}
            result.append(ways[self.aggregate](values, total) if values else None)
        return result[0], result[1]

    def settle(self, event: str, closed: bool) -> float | None:
        quality, cost = self.combined(event)
        known = quality is not None and cost is not None
        if not closed and (self.aggregate != "first" or not known):
            return None
        if not known and self.default is not None:
            quality = self.default if quality is None else quality
            cost = 0.0 if cost is None else cost
            known = True
        value = quality - PRICE * cost if known else None
        self.settled[event] = (value, known)
        self.log.append(event)
        return value

    def decide(self, event: str, now: float, context: Any) -> None:
        self.decided[event] = (now, context)
        self.rewards[event] = {}
        waiting = [reward for reward in self.early if reward[0] == event]
        self.early = [reward for reward in self.early if reward[0] != event]
        for _, reward_id, at, channels, failure in waiting:
            self.report(event, reward_id, at, now, channels, failure)

    def fail(self, event: str, failure: str) -> float | None:
        """At once, whatever the aggregate; an error bills nothing, a timeout may have, a cancelled call is no fault."""
        quality, cost = self.combined(event)
        fault = failure != "cancelled"
        if fault:
            quality = 0.0 if quality is None else quality
            cost = 0.0 if cost is None and failure == "error" else cost
        value = None if quality is None or cost is None else quality - PRICE * cost
        self.settled[event] = (value, fault)
        if fault:
            self.failed[event] = (quality, cost, 0.0 if failure == "error" else None)
        self.log.append(event)
        return value

    def report(
        self, event: str, reward_id: str, at: float, now: float, channels: Any, failure: str | None = None
    ) -> str | float | None:
        if event not in self.decided:
            self.early.append((event, reward_id, at, channels, failure))
            return None
        decided_at = self.decided[event][0]
        if decided_at - at > EARLY_S:
            return "unknown"
        if reward_id in self.rewards[event]:
            return "duplicate"
        if at > decided_at + WINDOW_S:
            return "late"
        if event in self.settled:
            return "settled"
        self.rewards[event][reward_id] = channels
        if failure is not None:
            return self.fail(event, failure)
        return self.settle(event, closed=False)

    def forget_early(self, now: float) -> None:
        self.early = [reward for reward in self.early if now - reward[2] <= EARLY_S]

    def close_windows(self, now: float) -> None:
        due = [e for e, (at, _) in self.decided.items() if at + WINDOW_S < now - self.grace_s and e not in self.settled]
        if self.grace_s:  # a database closes windows of the same moment in the order of their ids
            due.sort(key=lambda e: (self.decided[e][0], e))
        for event in due:
            self.settle(event, closed=True)


class Serving(RuleBasedStateMachine):
    """Two processes' routers on one database, restarted at will, and the model."""

    grace_s = GRACE_S

    def place(self) -> str:
        """Where a new database is."""
        return f"sqlite:///{self.folder}/events.db"

    @initialize(
        aggregate=st.sampled_from(["first", "last", "sum", "mean", "min", "max"]),
        default=st.sampled_from([None, 0.25]),
    )
    def start(self, aggregate: str, default: float | None) -> None:
        self.begin(aggregate, default)
        self.decide("e0", place=0, seed=0)

    def begin(self, aggregate: str, default: float | None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock, self.model = Clock(), Model(aggregate, default, grace_s=self.grace_s)
        self.rule = RewardRule(
            window_s=WINDOW_S,
            aggregate=aggregate,
            default=None if default is None else Outcome(quality=default, cost_usd=0.0),
        )
        self.arms: dict[str, tuple[str, float]] = {}
        self.open_all()

    def open_all(self) -> None:
        self.url = self.place()
        self.routers = [self.open(0), self.open(1)]

    def store(self, place: int) -> Store | Memory:
        spool = self.folder / "spool"
        return Store(self.url, wait_s=30.0, snapshot_every=3, replica=str(place), early_s=EARLY_S, spool=spool)

    def new_router(self, place: int) -> Router:
        return Router(
            arms=ARMS,
            context=DIM,
            policy="LinUCB",
            key=b"k",
            clock=self.clock,
            objective=Objective(prices={"cost_usd": PRICE}, rewards=self.rule),
            store=self.store(place),
            health=Health(counts=()),  # settlement is the subject, and the clock stands still
        )

    def open(self, place: int) -> Router:
        router = self.new_router(place)
        router.events._writer._tick_s = float("inf")
        router.flush()
        self.passed()
        return router

    def log(self) -> list[tuple[str, float | None, bool]]:
        """Event, reward and whether it was learned, in the order of the log."""
        rows = query(self.url, "SELECT event_id, reward, learned FROM log ORDER BY position")
        return [(row.event_id, row.reward, bool(row.learned)) for row in rows]

    def waiting(self) -> list[str]:
        """Events of the rewards that wait for their decision."""
        return [row.event_id for row in query(self.url, "SELECT event_id FROM early ORDER BY id")]

    def tick(self, router: Router) -> None:
        tick(router)
        self.passed()

    def called(self) -> None:
        """What a call that brings the time has done before it is counted."""
        self.model.forget_early(self.clock.now)

    def passed(self) -> None:
        self.model.forget_early(self.clock.now)
        self.model.close_windows(self.clock.now)

    @rule(event=EVENTS, place=st.integers(0, 1), seed=st.integers(0, 5))
    def only_decide(self, event: str, place: int, seed: int) -> None:
        self.decide(event, place, seed)

    def decide(self, event: str, place: int, seed: int) -> None:
        if event in self.model.decided and self.routers[place].events.find(event) is None:
            return  # the other process made this decision: a retry there is another test's subject
        context = np.random.default_rng(seed).normal(size=DIM)
        decision = self.routers[place].decide(context, event_id=event)
        self.routers[place].flush()
        if event not in self.model.decided:
            self.called()
            self.model.decide(event, self.clock.now, decision)
            self.arms[event] = (decision.arm, decision.propensity)
        assert (decision.arm, decision.propensity) == self.arms[event]

    @rule(
        event=EVENTS,
        place=st.integers(0, 1),
        reward_id=REWARD_IDS,
        quality=QUALITIES.filter(bool),
        cost=COSTS.filter(bool),
    )
    def serve(self, event: str, place: int, reward_id: str, quality: float, cost: float) -> None:
        self.decide(event, place, seed=1)
        self.report(event, place, reward_id, quality, cost)

    @rule(event=EVENTS, place=st.integers(0, 1), reward_id=REWARD_IDS, quality=QUALITIES, cost=COSTS)
    def report_a_part(self, event: str, place: int, reward_id: str, quality: float | None, cost: float | None) -> None:
        self.report(event, place, reward_id, quality, cost)

    def report(
        self, event: str, place: int, reward_id: str, quality: float | None, cost: float | None, kind: Any = None
    ) -> None:
        outcome = Outcome(quality=quality, cost_usd=cost)
        failure = None if kind is None else Failure(kind)
        settled = self.routers[place].observe(event, outcome, reward_id=reward_id, failure=failure)
        self.called()
        now = self.clock.now
        expected = self.model.report(event, reward_id, now, now, (quality, cost), kind)
        assert (settled.refused or settled.reward) == expected

    @rule(event=EVENTS, place=st.integers(0, 1), kind=FAILURES, cost=COSTS)
    def serve_in_vain(self, event: str, place: int, kind: Any, cost: float | None) -> None:
        self.decide(event, place, seed=2)
        self.report(event, place, "one", None, cost, kind)

    @rule(event=EVENTS, place=st.integers(0, 1), reward_id=REWARD_IDS, quality=QUALITIES, kind=FAILURES)
    def report_a_failure(self, event: str, place: int, reward_id: str, quality: float | None, kind: Any) -> None:
        self.report(event, place, reward_id, quality, None, kind)

    @rule(place=st.integers(0, 1), quality=st.sampled_from([-0.5, 1.5, float("nan"), float("inf")]), event=EVENTS)
    def report_nonsense(self, place: int, quality: float, event: str) -> None:
        refused = self.routers[place].observe(event, Outcome(quality=quality)).refused
        assert refused == ("out_of_range" if quality in (-0.5, 1.5) else "invalid")
        self.called()

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 100.5, 200.0]))
    def clock_jumps(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(place=st.integers(0, 1))
    def time_passes(self, place: int) -> None:
        self.tick(self.routers[place])

    @rule(place=st.integers(0, 1))
    def restart(self, place: int) -> None:
        self.reopen(place)

    def reopen(self, place: int) -> None:
        self.routers[place].close()
        self.routers[place] = self.open(place)

    @precondition(lambda self: hasattr(self, "routers"))
    @invariant()
    def the_log_is_the_models(self) -> None:
        assert self.log() == [(event, *self.model.settled[event]) for event in self.model.log]

    def teardown(self) -> None:
        if not hasattr(self, "routers"):
            return
        for router in self.routers:
            self.tick(router)
        self.tick(self.routers[0])
        self.the_log_is_the_models()
        assert self.waiting() == [reward[0] for reward in self.model.early]
        policy = LinUCB(n_arms=len(ARMS), dim=DIM, channels=len(CHANNELS))
        for event in self.model.log:
            if self.model.settled[event][1]:
                policy.learn(*self.observation(event))
        for router in self.routers:
            state = router.policy.state()
            assert all(state[name].tobytes() == array.tobytes() for name, array in policy.state().items())
            router.close()
        shutil.rmtree(self.folder)

    def observation(self, event: str) -> tuple[Any, int, Any]:
        """What the model says was learned of an event."""
        decision = self.model.decided[event][1]
        if event in self.model.failed:
            quality, cost, tokens = self.model.failed[event]
            learned = Outcome(quality=quality, cost_usd=cost, tokens=tokens, failed=1.0)
            return decision.context, decision.arm_index, learned.vector()
        quality, cost = self.model.combined(event)
        if quality is None or cost is None:
            assert self.model.default is not None
            quality, cost = (self.model.default if quality is None else quality), (0.0 if cost is None else cost)
        return decision.context, decision.arm_index, Outcome(quality=quality, cost_usd=cost, failed=0.0).vector()


class OnPostgreSQL(Serving):
    """The same on a PostgreSQL database of its own."""

    server: Postgres

    def place(self) -> str:
        return self.server.new_database()


class InMemory(Serving):
    """One router without a database: each call brings the time, windows have no grace, and nothing restarts."""

    grace_s = 0.0

    def open_all(self) -> None:
        router = self.new_router(0)
        self.routers, self.entries = [router, router], []
        apply = router.learner.apply

        def noted(entry: Settled) -> None:
            self.entries.append((entry.decision.event_id, entry.reward, entry.learned))
            apply(entry)

        router.learner.apply = noted

    def store(self, place: int) -> Store | Memory:
        return Memory(early_s=EARLY_S)

    def log(self) -> list[tuple[str, float | None, bool]]:
        return self.entries

    def waiting(self) -> list[str]:
        store = self.routers[0].events
        return [reward.event_id for reward in store._waiting if reward in store._early.get(reward.event_id, ())]

    def called(self) -> None:
        self.passed()

    def reopen(self, place: int) -> None:
        """What is in memory does not come back."""


@pytest.fixture
def server(postgres: Postgres) -> None:
    """The server for the machines, which take no fixtures."""
    OnPostgreSQL.server = postgres


TestServing = pytest.mark.slow(Serving.TestCase)
TestInMemory = pytest.mark.slow(InMemory.TestCase)
TestOnPostgreSQL = pytest.mark.slow(pytest.mark.usefixtures("server")(OnPostgreSQL.TestCase))
TestServing.settings = TestOnPostgreSQL.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestInMemory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.slow
@pytest.mark.parametrize("shelf", [Serving, InMemory, OnPostgreSQL])
@pytest.mark.parametrize("aggregate", ["first", "last", "sum"])
@pytest.mark.usefixtures("server")
def test_a_long_history_at_random_is_the_models(aggregate: str, shelf: type[Serving]) -> None:
    """Denser than what Hypothesis draws: many events, each with a few rewards, and restarts in between."""
    rng = np.random.default_rng(["first", "last", "sum"].index(aggregate))
    serving = shelf()
    serving.begin(aggregate, 0.25)
    for step in range(150):
        event, place = f"e{step // 8 + rng.integers(-3, 3)}", int(rng.integers(2))
        what = rng.choice(["decide", "report", "jump", "tick", "restart"], p=[0.3, 0.55, 0.06, 0.06, 0.03])
        if what == "decide":
            serving.decide(event, place, int(rng.integers(5)))
        elif what == "report":
            quality, cost = rng.choice([0.0, 0.25, 0.5, 1.0]), rng.choice([None, 0.0, 0.5, 2.0])
            failure = rng.choice(["error", "timeout", "cancelled"]) if rng.random() < 0.2 else None
            serving.report(event, place, str(rng.choice(["one", "two", "three"])), quality, cost, failure)
        elif what == "jump":
            serving.clock.now += float(rng.choice([1.0, 9.0, 11.0, 100.5, 200.0]))
        elif what == "tick":
            serving.tick(serving.routers[place])
        else:
            serving.reopen(place)
    serving.clock.now += 1000.0
    serving.tick(serving.routers[0])
    assert len(serving.model.log) > 10
    serving.teardown()
