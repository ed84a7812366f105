"""Cooldowns of arms are kept over restarts, and shared by the processes of a store."""

from __future__ import annotations

from bandit_router import Arm, Failure, Outcome, Router, Store
from bandit_router.routing.health import State
from conftest import execute
from support.databases import Clock, count, query, tick

ARMS = [Arm(id="a"), Arm(id="b"), Arm(id="c")]


def router(url: str, clock: Clock, name: str | None = None) -> Router:
    store = Store(url, replica=name, wait_s=30.0, durability="relaxed")
    return Router(arms=ARMS, context=1, policy="UniformRandom", key=b"k", clock=clock, store=store)


def call(engine: Router, event: str, arm: str, failure: Failure | None = None) -> None:
    """One call of one arm, and what came of it."""
    assert engine.decide([1.0], event_id=event, eligible=[arm]).arm == arm
    engine.observe(event, Outcome() if failure else Outcome(quality=1.0), failure=failure)


def state(engine: Router, arm: str = "a") -> State:
    return engine.health.state(arm, engine.clock())


def exchange(*routers: Router) -> None:
    """Let each in turn write what it knows and read what the others do."""
    for engine in routers:
        tick(engine)
        engine.flush()  # the round after the tick


def test_a_restart_keeps_cooldowns_and_replicas_share_them(url: str) -> None:
    clock = Clock()

    with router(url, clock, "one") as one, router(url, clock, "two") as two:
        call(one, "e", "a", Failure("rate_limit", 100.0))
        exchange(one, two)
        assert state(two) == "open"
        assert two.decide([1.0], event_id="f").unhealthy.tolist() == [True, False, False]
        clock.now += 100.0
        call(two, "probe", "a")
        exchange(two, one)
        assert state(one) == "ramp"
        for number in range(5):
            call(one, f"b{number}", "b", Failure("timeout"))
    with router(url, clock, "one") as again:
        assert (state(again), state(again, "b")) == ("ramp", "open")


def test_two_replicas_that_open_an_arm_at_once_agree(url: str) -> None:
    clock = Clock()
    one, two = (router(url, clock, name) for name in ("one", "two"))
    with one, two:
        call(one, "e", "a", Failure("rate_limit", 100.0))
        call(two, "f", "a", Failure("rate_limit", 50.0))
        exchange(one, two, one)
        assert one.health.cooldowns() == two.health.cooldowns()


def test_a_cooldown_is_one_row_an_arm_and_a_damaged_one_counts_not(url: str) -> None:
    clock = Clock()
    with router(url, clock) as engine:
        for number in range(3):
            call(engine, str(number), "a", Failure("rate_limit", 10.0))
            exchange(engine)
            clock.now += 10.0
        assert count(url, "cooldowns") == 1
        assert query(url, "SELECT version FROM cooldowns")[0].version == 3
    execute(url, "UPDATE cooldowns SET body = substr(body, 1, 3)")
    with router(url, clock) as again:
        assert again.healthy
        assert state(again) == "closed"
