"""The router in memory: idempotent decisions, rewards counted once, windows, operations, failures."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
import threading
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import RewardRule
from support.routers import make_router

ARMS = [Arm(id="small"), Arm(id="large")]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def router(**settings: Any) -> Router:
    return make_router(**{"arms": ARMS, "context": 2, "policy": "LinUCB", "key": b"k", "clock": Clock(), **settings})


def test_the_same_event_gets_the_same_decision() -> None:
    """The same event gets the same decision whatever was learned in between."""
    engine = router()
    first = engine.decide([1.0, 0.0], event_id="e")
    engine.observe("e", Outcome(quality=1.0))
    assert engine.decide([0.0, 1.0], event_id="e") is first
    assert engine.counters["decided"] == 1


def test_a_reward_is_counted_once() -> None:
    engine = router()
    decided = engine.decide([1.0, 0.0], event_id="e")
    assert engine.observe("e", Outcome(quality=0.9)).reward == 0.9
    assert engine.observe("e", Outcome(quality=0.9)).refused == "duplicate"
    assert engine.observe("e", Outcome(quality=0.9), reward_id="other").refused == "settled"
    assert engine.policy.steps == 1
    assert engine.policy.state()["counts"][decided.arm_index] == 1


def test_cost_now_and_quality_later_are_one_outcome() -> None:
    engine = router(prices={"cost_usd": 1.0})
    engine.decide([1.0, 0.0], event_id="e")
    assert engine.observe("e", Outcome(cost_usd=0.25)).pending
    assert engine.policy.steps == 0
    assert engine.observe("e", Outcome(cost_usd=0.25)).refused == "duplicate"
    assert engine.observe("e", Outcome(quality=1.0)).reward == 0.75
    assert engine.policy.steps == 1


def test_a_refused_outcome_changes_nothing_and_can_be_corrected() -> None:
    engine = router()
    engine.decide([1.0, 0.0], event_id="e")
    assert engine.observe("e", Outcome(quality=math.nan)).refused == "invalid"
    assert engine.observe("e", Outcome(quality=7.0)).refused == "out_of_range"
    assert engine.observe("e", Outcome(quality=0.7)).reward == 0.7
    assert (engine.counters["refused_invalid"], engine.counters["refused_out_of_range"]) == (1, 1)


def test_an_early_reward_waits_for_its_decision_and_not_longer() -> None:
    engine = router(store=Memory(early_s=5.0))
    clock = engine.clock
    assert engine.observe("soon", Outcome(quality=0.5)).pending
    assert engine.observe("never", Outcome(quality=0.5)).pending
    clock.now += 4.0
    engine.decide([1.0, 0.0], event_id="soon")
    assert engine.policy.steps == 1
    clock.now += 4.0
    engine.decide([1.0, 0.0], event_id="other")
    assert engine.counters["refused_unknown"] == 1
    assert router().observe("x", Outcome(quality=0.5)).refused == "unknown"


def test_a_window_closes_at_the_default_and_what_comes_later_is_late() -> None:
    engine = router(rewards=RewardRule(window_s=10.0, default=Outcome(quality=0.0)))
    clock = engine.clock
    engine.decide([1.0, 0.0], event_id="e")
    clock.now += 11.0
    assert engine.observe("e", Outcome(quality=1.0)).refused == "late"
    assert (engine.policy.steps, engine.counters["settled_default"]) == (1, 1)
    assert engine.policy.statistics.sums()["moment"].sum() == pytest.approx(0.0)


def test_the_largest_of_several_rewards_is_learned_when_the_window_closes() -> None:
    engine = router(rewards=RewardRule(window_s=10.0, aggregate="max"))
    engine.decide([1.0, 0.0], event_id="e")
    for number, quality in enumerate((0.25, 0.75, 0.5)):
        assert engine.observe("e", Outcome(quality=quality), reward_id=str(number)).pending
    engine.clock.now += 11.0
    engine.decide([1.0, 0.0], event_id="other")
    assert engine.policy.statistics.sums()["moment"][:, 0].sum() == pytest.approx(0.75)


def test_a_reward_of_another_arm_than_the_decided_one_is_kept_apart() -> None:
    engine = router()
    decided = engine.decide([1.0, 0.0], event_id="e")
    other = "large" if decided.arm == "small" else "small"
    assert engine.observe("e", Outcome(quality=1.0), served_arm=other).refused == "diverted"
    assert engine.observe("e", Outcome(quality=1.0)).refused == "settled"
    assert engine.policy.estimate([1.0, 0.0]).mean[decided.arm_index, 0] == 0.0  # that it failed is known
    engine.decide([1.0, 0.0], event_id="f")
    assert engine.observe("f", Outcome(quality=1.0), served_arm=engine.decide([1.0, 0.0], event_id="f").arm).reward == 1


def test_a_failing_policy_serves_the_baseline_and_is_not_learned_from(caplog: pytest.LogCaptureFixture) -> None:
    engine = router(baseline="large")

    def fail(*_: object) -> None:
        raise FloatingPointError("broken")

    engine.policy._distribution = fail
    decided = engine.decide([1.0, 0.0], event_id="e")
    assert (decided.arm, decided.propensity, decided.degraded) == ("large", 1.0, True)
    assert engine.observe("e", Outcome(quality=1.0)).refused == "degraded"
    assert engine.policy.steps == 0
    assert "serving the baseline" in caplog.text


def test_a_policy_that_cannot_use_a_settled_outcome_does_not_stop_the_log(caplog: pytest.LogCaptureFixture) -> None:
    engine = router()
    engine.decide([1.0, 0.0], event_id="e")

    def fail(*_: object) -> None:
        raise FloatingPointError("broken")

    engine.policy._learn = fail
    assert engine.observe("e", Outcome(quality=1.0)).reward == 1.0
    assert (engine.learner.position, engine.learner.skipped) == (1, 1)
    assert "was not learned" in caplog.text


NO_IDS: list[Any] = ["", "a\0b", "\ud800", "x" * 513, ["e"], 7]


@pytest.mark.parametrize("event_id", NO_IDS)
def test_an_id_that_no_database_can_keep_is_refused(event_id: Any) -> None:
    with pytest.raises(InvalidInput, match="event_id"):
        router().decide([1.0, 0.0], event_id=event_id)


@pytest.mark.parametrize("wrong", NO_IDS)
@pytest.mark.parametrize("field", ["event_id", "reward_id", "served_arm"])
def test_an_outcome_with_such_an_id_is_refused_and_counted(field: str, wrong: Any) -> None:
    engine = router()
    engine.decide([1.0, 0.0], event_id="e")
    report = {"event_id": "e", field: wrong}
    assert engine.observe(outcome=Outcome(quality=1.0), **report).refused == "invalid"
    assert engine.counters["refused_invalid"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": [1.0]},
        {"context": [1.0, math.nan]},
        {"eligible": []},
        {"eligible": ["nobody"]},
        {"penalty": {"nobody": 1.0}},
        {"penalty": {"small": math.inf}},
        {"penalty": {"small": "dear"}},
        {"context": [1e200, 1e200]},
    ],
)
def test_wrong_arguments_are_refused_before_anything_changes(wrong: dict[str, Any]) -> None:
    engine = router()
    with pytest.raises(InvalidInput):
        engine.decide(**{"context": [1.0, 0.0], "event_id": "e", **wrong})
    assert engine.counters["decided"] == 0
    assert not engine.decide([1.0, 0.0], event_id="e").degraded


def test_an_added_arm_can_be_drawn_and_a_retired_one_cannot() -> None:
    engine = router(settings={"floor": 1.0})
    engine.add_arm(Arm(id="new"), like="small")
    engine.retire("small")
    assert {engine.decide([1.0, 0.0], event_id=str(i)).arm for i in range(50)} == {"large", "new"}
    with pytest.raises(InvalidInput, match="another id"):
        engine.add_arm(Arm(id="new"))


@pytest.mark.parametrize("strength", [0.0, -1.0, math.nan, math.inf])
def test_an_arm_with_an_impossible_strength_is_refused_and_changes_nothing(strength: float) -> None:
    engine = router()
    with pytest.raises(InvalidInput, match="strength"):
        engine.add_arm(Arm(id="new"), like="small", strength=strength)
    assert (len(engine.catalogue), engine.policy.n_arms, engine.learner.position) == (2, 2, 0)


def test_no_added_arm_is_lost_under_traffic() -> None:
    engine, over = router(), threading.Event()

    def serve(name: str) -> None:
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            engine.decide([1.0, 0.0], event_id=f"{name}-{number}")
            engine.observe(f"{name}-{number}", Outcome(quality=0.5))

    interval = sys.getswitchinterval()
    threads = [threading.Thread(target=serve, args=(name,)) for name in "ab"]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for number in range(100):
            engine.add_arm(Arm(id=str(number)))
    finally:
        over.set()
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join()
    assert (len(engine.catalogue), engine.policy.n_arms) == (102, 102)


def test_a_price_on_a_channel_nobody_metered_is_refused() -> None:
    engine = router()
    engine.set_prices({"energy_j": 1.0})
    engine.set_prices({"energy_j": 0.0})
    engine.decide([1.0, 0.0], event_id="e")
    engine.observe("e", Outcome(quality=1.0, cost_usd=0.5))
    engine.set_prices({"cost_usd": 1.0})
    with pytest.raises(InvalidInput, match="never metered"):
        engine.set_prices({"energy_j": 1.0})


def test_the_oldest_decision_is_forgotten_and_counted() -> None:
    engine = router(store=Memory(max_events=2))
    for event_id in "abc":
        engine.decide([1.0, 0.0], event_id=event_id)
    assert engine.counters["forgotten"] == 1
    assert engine.observe("c", Outcome(quality=1.0)).reward == 1.0


def test_frequencies_of_drawn_arms_match_the_logged_propensities() -> None:
    engine = router(settings={"floor": 0.4})
    engine.decide([1.0, 0.0], event_id="warm")
    engine.observe("warm", Outcome(quality=1.0))
    drawn = [engine.decide([1.0, 0.0], event_id=f"e{i}") for i in range(4000)]
    p = drawn[0].probabilities
    assert p is not None
    assert all(d.propensity == p[d.arm_index] for d in drawn)
    observed = np.bincount([d.arm_index for d in drawn], minlength=2)
    z = (observed[0] - 4000 * p[0]) / math.sqrt(4000 * p[0] * p[1])
    assert abs(z) < 4


def test_the_async_verbs_do_the_same() -> None:
    async def serve() -> float | None:
        engine = router()
        decided = await engine.adecide([1.0, 0.0], event_id="e")
        assert decided is engine.decide([1.0, 0.0], event_id="e")
        return (await engine.aobserve("e", Outcome(quality=0.5))).reward

    assert asyncio.run(serve()) == 0.5


def test_importing_the_router_imports_no_database() -> None:
    import subprocess
    import sys

    code = "import sys, bandit_router.routing.router; print('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_an_arm_that_the_caller_chose_is_on_record_and_not_learned():
    engine = Router(arms=[Arm(id="a"), Arm(id="b")], context=1)
    decision = engine.decide([1.0], event_id="e", eligible=["b"], drawn=False)
    assert (decision.arm, decision.propensity, decision.degraded, decision.learnable) == ("b", 1.0, True, False)
    assert engine.counters["degraded_decisions"] == 0
    assert engine.observe("e", Outcome(quality=1.0)).refused == "degraded"
    assert engine.policy.steps == 0
