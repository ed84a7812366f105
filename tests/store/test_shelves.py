"""One settlement on every shelf: the same calls get the same answers in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.budgets.limits import Rate, Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BanditRouterError
from bandit_router.records.arms import Arm
from bandit_router.records.failures import Failure
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.groups import Objective
from bandit_router.routing.rollout import Rollout
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import Reward, RewardRule
from bandit_router.store import Store
from support.databases import ARMS, DIM, Clock, tick

EARLY_S, WINDOW_S = 12.0, 100.5  # no window closes in the last second of a clock that moves by fives
REWARD_IDS = (None, None, "one", "two")
GOOD = (0.0, 0.25, 0.5, 1.0, 1, True, np.float32(0.5))
BAD: tuple[Any, ...] = (-0.5, 1.5, float("nan"), float("inf"), 10**30, "high", object())
NO_IDS: tuple[Any, ...] = ("", "a\0b", "x" * 513, 7)
FAILED = (*[None] * 9, Failure("error"), Failure("timeout"), Failure("rate_limit", 3.0), Failure("cancelled"))
SERVED = (None, None, None, None, None, "small", "large", "elsewhere")
STEPS = (5.0, 5.0, 10.0, 15.0, 105.0)
Call = tuple[str, dict[str, Any]]


def calls(seed: int, count: int) -> Iterator[Call]:
    """What a loop may do, in any order, near enough in time for all that can go wrong with rewards."""
    rng = np.random.default_rng(seed)

    def one(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    def outcome() -> Outcome:
        quality = one(GOOD) if rng.random() < 0.7 else None
        cost = one((0.0, 0.5, 2.0, 3)) if rng.random() < 0.6 else None
        if rng.random() < 0.1:
            quality, cost = one([(one(BAD), cost), (quality, one(BAD[2:])), (one(BAD), one(BAD))])
        return Outcome(quality=quality, cost_usd=cost)

    kinds = ("decide", "observe", "nonsense", "step", "refuse", "pause", "resume", "prices", "add", "off", "rollout")
    odds = (0.28, 0.5, 0.03, 0.09, 0.02, 0.02, 0.02, 0.01, 0.004, 0.013, 0.013)
    names = itertools.count()
    for number in range(count):
        event = f"e{number // 9 + int(rng.integers(-5, 6))}"
        kind = str(rng.choice(kinds, p=odds))
        if kind == "decide":
            unit = one((None, "u1", "u2", "u3"))
            yield kind, {"context": rng.normal(size=DIM), "event_id": event, "unit": unit}
        elif kind == "observe":
            yield (
                kind,
                {
                    "event_id": event,
                    "outcome": outcome(),
                    "reward_id": one(REWARD_IDS),
                    "served_arm": one(SERVED),
                    "failure": one(FAILED),
                },
            )
        elif kind == "nonsense":
            wrong = one(("event_id", "reward_id", "served_arm"))
            yield "observe", {"event_id": event, "outcome": outcome(), wrong: one(NO_IDS)}
        elif kind == "step":
            yield kind, {"seconds": one(STEPS)}
        elif kind == "refuse":
            yield kind, {"context": rng.normal(size=DIM), "event_id": event}
        elif kind in ("pause", "resume"):
            yield kind, {"arm_id": one(("small", "large"))}
        elif kind == "prices":
            yield kind, {"prices": {"cost_usd": one((0.0, 0.25, 0.5))}}
        elif kind == "add":
            yield kind, {"arm": Arm(id=f"new{next(names)}")}
        else:
            yield "rollout", {"mode": "off" if kind == "off" else one(("online", "shadow", "apprentice"))}


def answer(router: Router, call: Call) -> Any:
    """What a router answers, to be compared."""
    kind, given = call
    if kind == "step":
        router.clock.now += given["seconds"]
        tick(router)
        return None
    try:
        if kind in ("decide", "refuse"):
            with pytest.MonkeyPatch.context() as patch:
                if kind == "refuse":
                    patch.setattr(router.events, "accepting", lambda: False)
                decided = router.decide(**given)
            router.flush()
            return decided.arm, decided.propensity, decided.mode, decided.degraded, decided.timestamp_s
        if kind == "observe":
            settled = router.observe(**given)
            return settled.arm, settled.reward, settled.refused, settled.failure
        {
            "pause": router.pause,
            "resume": router.resume,
            "prices": router.set_prices,
            "add": router.add_arm,
            "rollout": router.set_rollout,
        }[kind](**given)
    except BanditRouterError as problem:
        return type(problem), str(problem)
    return None


def compared(router: Router) -> dict[str, Any]:
    """Everything that must be equal at the end, whatever keeps the events."""
    counted = ("decided", "degraded_decisions", "settled", "refused_")
    return {
        "counters": {name: n for name, n in router.counters.items() if name.startswith(counted) and n},
        "position": router.learner.position,
        "budgets": None if router.budgets is None else router.budgets.report(),
        "state": {name: array.tobytes() for name, array in router.policy.state().items()},
    }


def open_router(store: Any, rule: RewardRule) -> Router:
    limits = [Rate(name="rate", channel="cost_usd", per_request=0.5)]
    day = Window(name="day", channel="cost_usd", total=20.0, window_s=1000.0)
    return Router(
        arms=ARMS,
        context=DIM,
        policy="LinUCB",
        key=b"k",
        clock=Clock(),
        objective=Objective(prices={"cost_usd": 0.5}, rewards=rule),
        rollout=Rollout(baseline="adapter", holdout=0.2),
        budgets=None
        if rule.aggregate == "sum"
        else Budgets(limits=[*limits, day], expected={"small": Outcome(cost_usd=0.5)}),
        store=store,
    )


RULES = [
    RewardRule(window_s=WINDOW_S),
    RewardRule(window_s=WINDOW_S, default=Outcome(quality=0.25, cost_usd=0.0)),
    RewardRule(window_s=WINDOW_S, aggregate="sum"),
    RewardRule(window_s=WINDOW_S, aggregate="last"),
]


def differences(place: Any, rule: RewardRule, *, seed: int, count: int) -> list[Any]:
    """Calls that a router in memory and one on a store answer differently, and what differs at the end."""
    with (
        open_router(Memory(early_s=EARLY_S), rule) as memory,
        open_router(Store(place, early_s=EARLY_S, durability="relaxed", wait_s=30.0), rule) as stored,
    ):
        stored.events._writer._tick_s = float("inf")
        stored.flush()
        found: list[Any] = []
        for call in calls(seed, count):
            if call[0] == "decide":  # decisions at times of their own: windows then close in the order of deciding
                answer(memory, ("step", {"seconds": 5.0})), answer(stored, ("step", {"seconds": 5.0}))
            one, other = answer(memory, call), answer(stored, call)
            if one != other:
                found.append((call, one, other))
        for router in (memory, stored):
            answer(router, ("step", {"seconds": 1000.0}))
        ended, other_end = compared(memory), compared(stored)
        assert min(ended["counters"].get(f"refused_{reason}", 0) for reason in REACHED) > 0
        return found + [(name, ended[name], other_end[name]) for name in ended if ended[name] != other_end[name]]


REACHED = ("unknown", "duplicate", "settled", "late", "invalid", "out_of_range", "degraded", "diverted")


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.aggregate + "+default" * (rule.default is not None))
def test_memory_and_sqlite_answer_alike(rule: RewardRule, tmp_path: Path) -> None:
    assert differences(f"sqlite:///{tmp_path}/events.db", rule, seed=RULES.index(rule), count=1500) == []


@pytest.mark.slow
def test_memory_and_postgresql_answer_alike(postgres_url: str) -> None:
    assert differences(postgres_url, RULES[1], seed=9, count=1500) == []


@pytest.mark.parametrize("quality", [True, np.int64(1), 1])
def test_a_quality_that_is_no_float_counts_as_one(quality: Any, url: str, open_router: Callable[..., Router]) -> None:
    for router in (open_router(url), Router(arms=ARMS, context=DIM)):
        router.decide(np.ones(DIM), event_id="e")
        assert router.observe("e", Outcome(quality=quality)).reward == 1.0
        router.decide(np.ones(DIM), event_id="f")
        assert router.observe("f", Outcome(quality=0.5, tokens=10**30)).refused == "out_of_range"
        assert router.observe("g", Outcome(quality=0.5, tokens=10**400)).refused == "invalid"
        assert router.healthy


def test_rewards_that_wait_in_vain_do_not_hold_up_those_behind_them(
    url: str, open_router: Callable[..., Router]
) -> None:
    router = open_router(url, store={"early_s": 50.0})
    for number in range(1001):
        reward = Reward(event_id=f"v{number}", reward_id="r", at_s=router.clock(), outcome=Outcome(quality=0.5))
        assert router.events._submit(reward) is not None
    assert router.observe("e", Outcome(quality=0.5)).pending
    router.decide(np.ones(DIM), event_id="e")
    router.flush()
    tick(router)
    assert router.counters["settled_rewarded"] == 1


def test_each_early_reward_waits_for_its_own_time(url: str, open_router: Callable[..., Router]) -> None:
    for router in (
        open_router(url, store={"early_s": EARLY_S}),
        Router(arms=ARMS, context=DIM, store=Memory(early_s=EARLY_S), clock=Clock()),
    ):
        assert router.observe("e", Outcome(quality=0.25), reward_id="first").pending
        router.clock.now += 9.0
        assert router.observe("e", Outcome(quality=0.5), reward_id="second").pending
        router.clock.now += 9.0
        tick(router)
        router.decide(np.ones(DIM), event_id="e")
        router.flush()
        assert (router.counters["refused_unknown"], router.counters["settled_rewarded"]) == (1, 1)
