"""Cascades: both steps drawn with what is logged, each credited with what it decides."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import LinUCB, UniformRandom
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, Outcome
from bandit_router.routing.cascade import ESCALATE, GATE_ARMS, STOP, Cascade
from bandit_router.routing.groups import Objective
from bandit_router.routing.router import Router

OPEN, PRICED = Objective(), Objective(prices={"cost_usd": 0.2}, scales={"cost_usd": 1.0})


def cascade(*, first="UniformRandom", gate="UniformRandom", objective=OPEN):
    arms = [Arm(id="small"), Arm(id="large")]
    return Cascade(
        first=Router(arms=arms, context=1, policy=first, objective=objective, key=b"k"),
        gate=Router(arms=GATE_ARMS, context=2, policy=gate, objective=objective, key=b"k"),
        last="large",
    )


def serve(engine, n, *, answers):
    """Serve n requests; `answers(i)` gives both arms' outcomes and the signal. Returns (arm, escalated) of each."""
    courses = []
    for i in range(n):
        outcomes, signal = answers(i)
        decision = engine.decide([1.0], event_id=f"e{i}")
        escalated = engine.escalates(decision, signals=signal)
        engine.observe(f"e{i}", outcomes[decision.arm], outcomes["large"] if escalated else None)
        courses.append((decision.arm, escalated))
    return courses


def step(engine, arm):
    """The first event in which the first arm was `arm`, its decision, and the gate's."""
    for i in range(100):
        decision = engine.decide([1.0], event_id=f"s{i}")
        if decision.arm == arm:
            return decision
    raise AssertionError(arm)


def test_the_product_of_propensities_is_the_share_of_a_course():
    """Were both steps drawn with the same number, small-and-stop would never happen here."""
    engine = cascade()
    courses = serve(engine, 4000, answers=lambda i: ({a: Outcome(quality=0.5) for a in ("small", "large")}, 0.5))
    assert {p for i in range(50) for p in _propensities(engine, i, courses[i])} == {0.5}
    share = np.mean([course == ("small", False) for course in courses])
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))


def _propensities(engine, i, course):
    yield engine.first.events.find(f"e{i}").propensity
    if course[0] == "small":
        yield engine.gate.events.find(f"e{i}:gate").propensity


def test_a_learning_cascade_values_another_course_without_bias():
    """Always small, then always escalate: worth the large arm's quality, 0.7."""
    rng, engine = np.random.default_rng(0), cascade(first="LinTS", gate="LinUCB")
    total = []
    for i in range(4000):
        quality = {"small": float(rng.random() < 0.5), "large": float(rng.random() < 0.7)}
        decision = engine.decide([1.0], event_id=f"e{i}")
        escalated = engine.escalates(decision, signals=[quality["small"]])
        served = Outcome(quality=quality[decision.arm])
        engine.observe(f"e{i}", served, Outcome(quality=quality["large"]) if escalated else None)
        gate = engine.gate.events.find(f"e{i}:gate")
        total.append(quality["large"] / (decision.propensity * gate.propensity) if escalated else 0.0)
    assert np.mean(total) == pytest.approx(0.7, abs=3 * np.std(total) / np.sqrt(len(total)))


def test_the_gate_learns_to_escalate_what_looks_bad_and_only_that():
    """The small arm's quality is its signal; the large one earns 0.8 less a priced call: the break-even is 0.6."""
    rng, engine = np.random.default_rng(1), cascade(first="Fixed", gate="LinTS", objective=PRICED)

    def answers(i):
        score = rng.random()
        small, large = Outcome(quality=score, cost_usd=0.1), Outcome(quality=0.8, cost_usd=1.0)
        scores.append(score)
        return {"small": small, "large": large}, score

    scores = []
    courses = serve(engine, 1500, answers=answers)
    late = [(score, escalated) for score, (_, escalated) in zip(scores, courses, strict=True)][500:]
    assert np.mean([escalated for score, escalated in late if score < 0.5]) > 0.98
    assert np.mean([escalated for score, escalated in late if score > 0.7]) < 0.02


def test_both_decisions_are_credited_with_what_they_decided():
    """The first decision is credited with the whole course and the gate with what was still open."""
    always_exploring = {dim: LinUCB(n_arms=2, dim=dim, channels=len(CHANNELS), floor=1.0) for dim in (1, 2)}
    engine = cascade(first=always_exploring[1], gate=always_exploring[2], objective=PRICED)
    small, large = Outcome(quality=0.2, cost_usd=0.1), Outcome(quality=0.9, cost_usd=1.0, latency_s=2.0)
    rewards = {}
    for i in range(60):
        decision = engine.decide([1.0], event_id=f"e{i}")
        if decision.arm == "small":
            escalated = engine.escalates(decision, signals=0.2)
            rewards[escalated] = engine.observe(f"e{i}", small, large if escalated else None).reward
        else:
            assert not engine.escalates(decision, signals=0.2)
            assert engine.observe(f"e{i}", large).reward == pytest.approx(0.9 - 0.2)
    assert rewards[True] == pytest.approx(0.9 - 0.2 * 1.1)
    assert rewards[False] == pytest.approx(0.2 - 0.2 * 0.1)
    gate = engine.gate.policy.estimate([1.0, 0.2]).mean
    assert gate[0, 1] == 0.0  # stopping is free: the first call is paid already
    assert gate[1, 1] == pytest.approx(1.0, abs=0.2)  # escalating costs the second call alone


def test_a_retry_gets_the_same_answer_and_a_duplicate_changes_nothing():
    engine = cascade()
    decision = step(engine, "small")
    escalated = engine.escalates(decision, signals=0.5)
    assert engine.escalates(decision, signals=0.9) == escalated
    second = Outcome(quality=0.9) if escalated else None
    assert engine.observe(decision.event_id, Outcome(quality=0.5), second).refused is None
    assert engine.observe(decision.event_id, Outcome(quality=0.5), second).refused == "duplicate"
    assert engine.gate.policy.steps == engine.first.policy.steps == 1


def test_a_second_outcome_must_be_there_just_when_the_gate_escalated():
    for wanted in (STOP, ESCALATE):
        engine = cascade(gate=UniformRandom(n_arms=2, dim=2, channels=len(CHANNELS)))
        engine.gate.pause(STOP if wanted == ESCALATE else ESCALATE)
        decision = step(engine, "small")
        assert engine.escalates(decision, signals=0.5) == (wanted == ESCALATE)
        wrong = Outcome(quality=0.9) if wanted == STOP else None
        with pytest.raises(InvalidInput, match="stopped" if wanted == STOP else "escalated"):
            engine.observe(decision.event_id, Outcome(quality=0.5), wrong)
        assert engine.gate.policy.steps == engine.first.policy.steps == 0


@pytest.mark.parametrize("wanted", [STOP, ESCALATE])
def test_what_the_gate_forgot_counts_for_the_first_decision(wanted):
    """What the gate has forgotten is unknown to it and still counts for the first decision."""
    engine = cascade(objective=PRICED)
    engine.gate.pause(STOP if wanted == ESCALATE else ESCALATE)
    engine.gate.events.max_events = 1
    first, second = Outcome(quality=0.2, cost_usd=0.1), Outcome(quality=0.9, cost_usd=1.0)
    decision = step(engine, "small")
    assert engine.escalates(decision, signals=0.5) == (wanted == ESCALATE)
    engine.gate.decide([1.0, 0.5], event_id="another")
    settled = engine.observe(decision.event_id, first, second if wanted == ESCALATE else None)
    assert settled.reward == pytest.approx(0.9 - 0.2 * 1.1 if wanted == ESCALATE else 0.2 - 0.2 * 0.1)
    assert engine.gate.counters["refused_unknown"] == 1
    assert engine.observe("never decided", first, second).refused == "unknown"
    assert (engine.first.policy.steps, engine.gate.policy.steps) == (1, 0)


def test_a_request_that_began_at_the_last_arm_has_no_gate():
    """A request that began at the last arm has no second outcome and nothing for the gate."""
    engine = cascade()
    decision = step(engine, "large")
    with pytest.raises(InvalidInput, match="no second outcome"):
        engine.observe(decision.event_id, Outcome(quality=0.5), Outcome(quality=0.9))
    assert engine.observe(decision.event_id, Outcome(quality=0.5)).reward == 0.5
    assert engine.gate.counters.total() == 0


def test_quality_may_follow_the_bill():
    engine = cascade(objective=PRICED)
    engine.gate.pause(STOP)
    decision = step(engine, "small")
    assert engine.escalates(decision, signals=0.5)
    assert engine.observe(decision.event_id, Outcome(cost_usd=0.1), Outcome(cost_usd=1.0)).pending
    settled = engine.observe(decision.event_id, Outcome(), Outcome(quality=0.9))
    assert settled.reward == pytest.approx(0.9 - 0.2 * 1.1)


def test_prices_move_for_both_steps():
    engine = cascade(objective=PRICED)
    serve(engine, 20, answers=lambda i: ({a: Outcome(quality=0.5, cost_usd=0.1) for a in ("small", "large")}, 0.5))
    engine.set_prices({"cost_usd": 0.7})
    assert engine.first.utility.prices == engine.gate.utility.prices == {"cost_usd": 0.7}


def test_routers_that_do_not_fit_are_refused():
    first = Router(arms=[Arm(id="small"), Arm(id="large")], context=1)
    gate = Router(arms=GATE_ARMS, context=2)
    with pytest.raises(InvalidInput, match="GATE_ARMS"):
        Cascade(first=first, gate=first, last="large")
    with pytest.raises(InvalidInput, match="dim must be 1 plus the signals, got 1"):
        Cascade(first=first, gate=Router(arms=GATE_ARMS, context=1), last="large")
    with pytest.raises(InvalidInput, match="huge"):
        Cascade(first=first, gate=gate, last="huge")
