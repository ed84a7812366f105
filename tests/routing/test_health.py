"""Arms that fail are left alone, tried, and let back in; what is drawn stays exact, and the record says who was out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandit_router import (
    Arm,
    Failure,
    Health,
    InvalidInput,
    NoArmAvailable,
    Outcome,
    Rollout,
    Router,
    Store,
    load_config,
    read_logs,
)
from bandit_router.replay.logs import write_log
from bandit_router.replay.logs.intake import Intake
from support.databases import Clock

ARMS = [Arm(id="a"), Arm(id="b"), Arm(id="c")]
DOWN = Failure("error")


def router(*, arms: list[Arm] = ARMS, **given: Any) -> Router:
    return Router(**{"arms": arms, "context": 1, "policy": "UniformRandom", "key": b"k", "clock": Clock(), **given})


def call(engine: Router, event: str, arm: str, failure: Failure | None = None) -> None:
    """One call of one arm, and what came of it."""
    assert engine.decide([1.0], event_id=event, eligible=[arm]).arm == arm
    engine.observe(event, Outcome() if failure else Outcome(quality=1.0), failure=failure)


def break_down(engine: Router, arm: str = "a", times: int = 5) -> None:
    for number in range(times):
        call(engine, f"{arm} down {engine.counters['decided']} {number}", arm, DOWN)


def state(engine: Router, arm: str = "a") -> str:
    return engine.health.state(arm, engine.clock.now)


def test_an_arm_opens_after_failures_in_a_row_and_nothing_else() -> None:
    engine = router()
    break_down(engine, times=4)
    call(engine, "good", "a")
    break_down(engine, "a", times=4)
    assert state(engine) == "closed"
    call(engine, "fifth", "a", DOWN)
    assert (state(engine), engine.counters["arms_opened"]) == ("open", 1)
    for kind in ("refusal", "cancelled"):
        for number in range(30):
            call(engine, f"{kind}{number}", "b", Failure(kind))
    assert state(engine, "b") == "closed"


def test_an_arm_opens_at_a_share_of_failures() -> None:
    engine = router()
    for number in range(20):
        call(engine, str(number), "a", None if number % 2 else DOWN)
    assert state(engine) == "closed"
    call(engine, "20", "a", DOWN)  # the tenth of the last twenty
    assert state(engine) == "open"


def test_an_open_arm_is_out_of_the_draw_and_the_record_says_why() -> None:
    engine = router()
    assert engine.decide([1.0], event_id="before").unhealthy is None
    break_down(engine)
    decision = engine.decide([1.0], event_id="e")
    assert decision.unhealthy.tolist() == [True, False, False]
    assert decision.eligible.tolist() == [False, True, True]
    assert decision.propensity == 0.5
    with pytest.raises(ValueError, match="read-only"):
        decision.unhealthy[0] = False


def test_the_time_doubles_with_every_probe_that_fails_up_to_the_longest() -> None:
    engine = router(health=Health(open_s=10.0, longest_s=30.0))
    break_down(engine)
    for wait_s in (10.0, 20.0, 30.0, 30.0):
        engine.clock.now += wait_s - 0.5
        assert state(engine) == "open"
        engine.clock.now += 0.5
        assert state(engine) == "half-open"
        call(engine, f"probe {engine.clock.now}", "a", DOWN)


def test_one_probe_at_a_time_and_a_lost_one_is_given_up() -> None:
    engine = router(health=Health(lost_s=50.0))
    break_down(engine)
    engine.clock.now += 10.0
    assert engine.decide([1.0], event_id="probe", eligible=["a"]).arm == "a"
    with pytest.raises(NoArmAvailable, match="half-open") as refused:
        engine.decide([1.0], event_id="second", eligible=["a"])
    assert refused.value.retry_after_s == 1.0
    engine.clock.now += 51.0
    assert engine.decide([1.0], event_id="third", eligible=["a"]).arm == "a"


def test_a_good_probe_lets_a_growing_share_of_the_events_in() -> None:
    engine = router(health=Health(ramp_s=100.0))
    break_down(engine)
    engine.clock.now += 10.0
    call(engine, "probe", "a")
    for share in (0.25, 0.75):
        engine.clock.now += 100.0 * (share - (engine.clock.now - engine.health.cooldowns()["a"].healed_s) / 100.0)
        made = [engine.decide([1.0], event_id=f"{share}-{number}") for number in range(2000)]
        within = sum(decision.unhealthy is None for decision in made)
        assert stats.binomtest(within, 2000, share).pvalue > 1e-3
        assert all(decision.propensity == (1 / 3 if decision.unhealthy is None else 0.5) for decision in made)
    assert state(engine) == "ramp"
    engine.clock.now += 30.0
    call(engine, "whole", "a")
    assert (state(engine), engine.health.cooldowns()["a"].times) == ("closed", 0)


def test_propensities_are_exact_given_who_is_eligible() -> None:
    engine = router(policy="LinTS", health=Health(longest_s=1e9, open_s=1e8))
    for number in range(30):
        engine.decide([1.0], event_id=f"l{number}")
        engine.observe(f"l{number}", Outcome(quality=float(number % 3 == 0)))
    break_down(engine)
    twenty = 20_000
    made = [engine.decide([1.0], event_id=str(number)) for number in range(twenty)]
    assert all(np.array_equal(decision.probabilities, made[0].probabilities) for decision in made)
    p = made[0].probabilities
    assert (p[0], round(p.sum(), 9)) == (0.0, 1.0)
    drawn = np.bincount([decision.arm_index for decision in made], minlength=3)
    assert drawn[0] == 0
    assert stats.chisquare(drawn[1:], twenty * p[1:]).pvalue > 1e-3


def test_a_rate_limit_cools_down_as_long_as_it_says_and_is_no_bad_quality() -> None:
    engine = router(policy="LinUCB")
    call(engine, "e", "a", Failure("rate_limit", retry_after_s=20))
    assert engine.policy.steps == 0
    engine.clock.now += 19.5
    assert state(engine) == "open"
    engine.clock.now += 0.5
    assert state(engine) == "half-open"
    call(engine, "f", "b", Failure("rate_limit", retry_after_s=1e12))
    engine.clock.now += 600.0
    assert state(engine, "b") == "half-open"  # no header shuts an arm for ever


def test_nobody_left_is_an_error_that_says_when_and_changes_nothing() -> None:
    engine = router()
    for arm, wait_s in (("a", 30.0), ("b", 20.0), ("c", 40.0)):
        call(engine, arm, arm, Failure("rate_limit", wait_s))
    engine.clock.now += 5.0
    decided = engine.counters["decided"]
    with pytest.raises(NoArmAvailable, match="a open, b open, c open") as refused:
        engine.decide([1.0], event_id="e")
    assert (refused.value.retry_after_s, engine.counters["decided"]) == (15.0, decided)
    assert engine.counters["unavailable"] == 1
    assert engine.events.find("e") is None
    assert engine.decide([1.0], event_id="a").arm == "a"  # a retry gets its answer


def test_a_ramp_gives_way_where_nobody_else_is_left() -> None:
    engine = router(arms=ARMS[:2])
    break_down(engine)
    engine.clock.now += 10.0
    call(engine, "probe", "a")
    break_down(engine, "b")
    assert [engine.decide([1.0], event_id=str(number)).arm for number in range(50)] == ["a"] * 50


def test_the_flow_onto_the_next_arm_is_bounded_by_its_concurrency() -> None:
    """Two arms, one dead, 200 requests a second, answers after half a second: 8 under way are 16 a second."""
    engine = router(arms=ARMS[:2], health=Health(in_flight={"b": 8}))
    break_down(engine)
    pending: list[tuple[float, str, str]] = []
    inflow: dict[int, int] = {}
    for number in range(200 * 5):
        engine.clock.now += 1 / 200
        while pending and pending[0][0] <= engine.clock.now:
            _, event, arm = pending.pop(0)
            engine.observe(event, failure=DOWN) if arm == "a" else engine.observe(event, Outcome(quality=1.0))
        try:
            decision = engine.decide([1.0], event_id=str(number))
        except NoArmAvailable:
            continue
        pending.append((engine.clock.now + 0.5, str(number), decision.arm))
        if decision.arm == "b":
            second = int(engine.clock.now)
            inflow[second] = inflow.get(second, 0) + 1
        assert sum(arm == "b" for _, _, arm in pending) <= 8
    assert max(inflow.values()) <= 24  # 8 at once, and 16 a second
    assert engine.counters["unavailable"] > 800


def test_an_open_baseline_is_not_served_if_another_arm_can() -> None:
    for rollout in (Rollout(mode="off", baseline="a"), Rollout(holdout=0.99, baseline="a")):
        engine = router(rollout=rollout)
        for number in range(5):
            engine.decide([1.0], event_id=f"d{number}", eligible=["a"])
            engine.observe(f"d{number}", failure=DOWN)
        assert {engine.decide([1.0], event_id=str(number)).arm for number in range(50)} <= {"b", "c"}


def test_floors_and_the_allow_list_go_with_the_mask() -> None:
    engine = router(rollout=Rollout(floors={"a": 0.5, "b": 0.4}, allowed=("a", "b"), baseline="c"))
    break_down(engine)
    assert engine.decide([1.0], event_id="e").probabilities.tolist() == [0.0, 1.0, 0.0]
    break_down(engine, "b")
    assert engine.decide([1.0], event_id="f").arm == "c"
    break_down(engine, "c")
    with pytest.raises(NoArmAvailable):
        engine.decide([1.0], event_id="g")


def test_a_call_counts_once_however_often_it_is_reported() -> None:
    engine = router()
    engine.decide([1.0], event_id="e", eligible=["a"])
    for _ in range(20):
        engine.observe("e", failure=DOWN)
        engine.observe("e", Outcome(quality=0.0), served_arm="b")
    assert state(engine) == "closed"
    for number in range(4):
        engine.decide([1.0], event_id=f"d{number}", eligible=["a"])
        engine.observe(f"d{number}", Outcome(quality=1.0), served_arm="b")
    assert state(engine) == "open"


def test_a_clock_that_was_wrong_shuts_no_arm_for_longer_than_the_longest() -> None:
    engine = router()
    engine.clock.now += 86_400.0
    break_down(engine)
    engine.clock.now -= 86_400.0
    assert state(engine) == "half-open"


def test_who_was_out_is_in_the_log_and_its_formats(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    with router(store=Store(url, wait_s=30.0)) as engine:
        engine.decide([1.0], event_id="before")
        call(engine, "e", "a", Failure("rate_limit", 100.0))
        engine.decide([1.0], event_id="after")
    log = read_logs([url], Intake())
    expected = [False, True]
    assert [log.unhealthy[log.event_id.tolist().index(event), 0] for event in ("before", "after")] == expected
    for name in ("jsonl", "parquet"):
        path = tmp_path / f"log.{name}"
        write_log(log, path, format=name)
        again = read_logs([path], Intake(), format=name)
        assert np.array_equal(again.unhealthy, log.unhealthy)
        assert again.failure.tolist() == log.failure.tolist()


def test_health_is_read_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text('context = 1\n[[arms]]\nid = "a"\n[health]\nfailures = 3\nin_flight = { a = 4 }\n')
    assert load_config(path).health == Health(failures=3, in_flight={"a": 4})
    path.write_text('context = 1\n[[arms]]\nid = "a"\n[health]\nin_flight = { b = 4 }\n')
    with pytest.raises(InvalidInput, match="health"):
        load_config(path)


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"share": 0.0}, {"open_s": -1.0}, {"in_flight": {"a": 0}}, {"counts": ("boom",)}]
)
def test_rules_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Health(**wrong)
