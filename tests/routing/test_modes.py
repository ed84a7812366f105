"""Modes, holdout, bounds and the allow-list."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.budgets.limits import Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BudgetExhausted, InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.guard import ConservativeGuard
from bandit_router.routing.rollout import Rollout, project
from bandit_router.routing.router import Router
from support.routers import make_router

ARMS = [Arm(id="base"), Arm(id="b"), Arm(id="c")]


def router(rollout: Rollout | None = None, **settings: Any) -> Router:
    defaults = {
        "arms": ARMS,
        "context": 2,
        "key": b"k",
        "baseline": "base",
        "policy": "LinUCB",
        "settings": {"floor": 1.0},
    }
    return make_router(**{**defaults, **settings}, rollout=rollout or Rollout())


def serve(engine: Router, count: int) -> list[Any]:
    decisions = [engine.decide([1.0, 0.5], event_id=str(number)) for number in range(count)]
    for decision in decisions:
        assert engine.observe(decision.event_id, Outcome(quality=0.5)).reward == 0.5
    return decisions


@pytest.mark.parametrize("mode", ["apprentice", "shadow"])
def test_the_baseline_serves_while_the_policy_proposes(mode: Any) -> None:
    decisions = serve(router(Rollout(mode=mode)), 60)
    assert {(d.arm, d.propensity, d.mode) for d in decisions} == {("base", 1.0, mode)}
    assert {d.proposed for d in decisions} == {"base", "b", "c"}


@pytest.mark.parametrize(("mode", "learned"), [("online", 30), ("apprentice", 30), ("shadow", 0), ("off", 0)])
def test_only_online_and_apprentice_learn(mode: Any, learned: int) -> None:
    engine = router(Rollout(mode=mode))
    serve(engine, 30)
    assert engine.policy.steps == learned
    assert engine.counters["settled"] == 30


def test_an_apprentice_learns_about_the_arm_that_served() -> None:
    engine = router(Rollout(mode="apprentice"))
    serve(engine, 20)
    assert engine.policy.state()["counts"].tolist() == [20, 0, 0]


def test_the_kill_switch_does_not_ask_the_policy_and_can_be_undone() -> None:
    engine = router()
    engine.policy.probabilities = None
    engine.set_rollout(mode="off")
    decision = engine.decide([1.0, 0.5], event_id="e")
    assert (decision.arm, decision.mode, decision.proposed, decision.degraded) == ("base", "off", None, False)
    del engine.policy.probabilities
    engine.set_rollout(mode="online")
    assert engine.decide([1.0, 0.5], event_id="f").mode == "online"


def test_a_whole_rollout_keeps_the_baseline_and_guard_it_does_not_name() -> None:
    guard = ConservativeGuard(slack=0.1)
    engine = router(Rollout(holdout=0.3, guard=guard))
    engine.set_rollout(Rollout(mode="off"))
    assert engine.rollout == Rollout(mode="off", baseline="base", guard=guard)
    engine.set_rollout(Rollout(mode="shadow"), holdout=0.1, guard=None)
    assert engine.rollout == Rollout(mode="shadow", holdout=0.1, baseline="base")
    engine.set_rollout(Rollout(baseline=engine.catalogue.ids[1]))
    assert engine.rollout == Rollout(baseline=engine.catalogue.ids[1])


@pytest.mark.parametrize("wrong", ["off", {"mode": "off"}, 0.1])
def test_what_is_no_rollout_is_refused_with_the_way_out(wrong: Any) -> None:
    engine = router()
    with pytest.raises(InvalidInput, match="mode='off'"):
        engine.set_rollout(wrong)
    assert engine.rollout.mode == "online"


def test_a_held_out_unit_is_held_out_in_every_request_and_replica() -> None:
    one, two = router(Rollout(holdout=0.3)), router(Rollout(holdout=0.3))
    held = 0
    for number in range(400):
        unit = f"user-{number % 200}"
        modes = {r.decide([1.0, 0.5], event_id=str(number), unit=unit).mode for r in (one, two)}
        assert len(modes) == 1
        held += modes == {"holdout"}
    assert abs(held - 0.3 * 400) < 4 * math.sqrt(2 * 400 * 0.3 * 0.7)
    first = {u: one.decide([1.0, 0.5], event_id=f"x{u}", unit=f"user-{u}").mode for u in range(50)}
    assert first == {u: one.decide([1.0, 0.5], event_id=f"y{u}", unit=f"user-{u}").mode for u in range(50)}


def test_held_out_outcomes_are_settled_and_never_learned() -> None:
    engine = router(Rollout(holdout=0.5))
    decisions = serve(engine, 100)
    held = [d for d in decisions if d.mode == "holdout"]
    assert 20 < len(held) < 80
    assert {(d.arm, d.propensity) for d in held} == {("base", 1.0)}
    assert engine.policy.steps == 100 - len(held)


def test_what_is_logged_within_bounds_is_what_is_drawn() -> None:
    rollout = Rollout(floors={"c": 0.2}, caps={"base": 0.5})
    engine = router(rollout, policy="Fixed", settings={"arm": 0})
    decisions = [engine.decide([1.0, 0.5], event_id=str(number)) for number in range(3000)]
    p = decisions[0].probabilities
    assert p is not None
    assert p.tolist() == pytest.approx([0.5, 0.25, 0.25])
    drawn = np.bincount([d.arm_index for d in decisions], minlength=3)
    chi_square = ((drawn - 3000 * p) ** 2 / (3000 * p)).sum()
    assert chi_square < 13.8  # the 0.999 quantile with 2 degrees of freedom


def test_bounds_do_not_bring_back_an_arm_that_is_not_eligible() -> None:
    engine = router(Rollout(floors={"c": 0.5}, caps={"b": 0.1}))
    p = engine.decide([1.0, 0.5], event_id="e", eligible=["base", "b"]).probabilities
    assert p is not None
    assert p.tolist() == pytest.approx([0.9, 0.1, 0.0])
    assert engine.decide([1.0, 0.5], event_id="f", eligible=["b"]).propensity == 1.0


def test_only_allowed_arms_are_drawn() -> None:
    engine = router(Rollout(allowed=("b", "c")))
    assert {engine.decide([1.0, 0.5], event_id=str(number)).arm for number in range(40)} == {"b", "c"}


@pytest.mark.parametrize(
    ("rollout", "mode"),
    [
        (Rollout(allowed=("b",)), "off"),
        (Rollout(allowed=("b",), floors={"b": 0.1}), "off"),
        (Rollout(allowed=("b",), mode="shadow"), "shadow"),
        (Rollout(allowed=("b",), mode="apprentice"), "apprentice"),
        (Rollout(allowed=("b",), holdout=0.999), "holdout"),
    ],
)
def test_the_baseline_serves_where_the_policy_may_choose_no_eligible_arm(rollout: Rollout, mode: Any) -> None:
    decision = router(rollout).decide([1.0, 0.5], event_id="e", eligible=["base", "c"])
    assert (decision.arm, decision.propensity, decision.mode, decision.proposed) == ("base", 1.0, mode, None)
    assert decision.degraded is False


@pytest.mark.parametrize(("baseline", "eligible"), [(None, ["base"]), ("base", ["c"]), ("base", [])])
def test_a_request_that_no_arm_may_serve_is_refused(baseline: str | None, eligible: list[str]) -> None:
    """Where neither the policy nor a declared baseline may serve the request is refused."""
    with pytest.raises(InvalidInput, match="no arm is eligible"):
        router(Rollout(allowed=("b",)), baseline=baseline).decide([1.0, 0.5], event_id="e", eligible=eligible)


# What a request takes of a budget of 1: "base" 0.1, "b" 3 and "c" 2.
@pytest.mark.parametrize(
    ("rollout", "baseline", "exhausted", "served"),
    [
        (Rollout(allowed=("b",)), None, "refuse", None),
        (Rollout(allowed=("b",)), None, "cheapest", "b"),
        (Rollout(allowed=("b", "c")), None, "cheapest", "c"),
        (Rollout(allowed=("b",)), "base", "refuse", "base"),
        (Rollout(allowed=("b",)), "base", "cheapest", "base"),
        (Rollout(allowed=("b",)), "c", "refuse", None),
        (Rollout(allowed=("b",)), "c", "cheapest", "c"),
        (Rollout(allowed=("b",), mode="shadow"), "base", "refuse", "base"),
        (Rollout(allowed=("b",), mode="apprentice"), "base", "refuse", "base"),
    ],
)
def test_budgets_are_asked_only_about_arms_that_may_serve(
    rollout: Rollout, baseline: str | None, exhausted: Any, served: str | None
) -> None:
    """Budgets are asked about the arms that may serve and not about others."""
    costs = {"base": 0.1, "b": 3.0, "c": 2.0}
    budgets = Budgets(
        limits=[Window(name="day", channel="cost_usd", total=1.0, window_s=86400.0)],
        expected={arm: Outcome(cost_usd=cost) for arm, cost in costs.items()},
        exhausted=exhausted,
    )
    engine = router(rollout, baseline=baseline, budgets=budgets)
    if served is None:
        with pytest.raises(BudgetExhausted):
            engine.decide([1.0, 0.5], event_id="e")
    else:
        assert engine.decide([1.0, 0.5], event_id="e").arm == served


distributions = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda v: sum(v) > 0.01)


@settings(max_examples=60)
@given(distributions, st.data())
def test_the_projection_is_the_closest_distribution_within_the_bounds(
    weights: list[float], data: st.DataObject
) -> None:
    n = len(weights)
    p = np.array(weights) / sum(weights)
    low = np.array(data.draw(st.lists(st.floats(0.0, 1.0 / n), min_size=n, max_size=n)))
    high = np.array(data.draw(st.lists(st.floats(1.0 / n, 1.0), min_size=n, max_size=n)))
    got = project(p, low, high)
    assert got.sum() == pytest.approx(1.0)
    assert (got >= low - 1e-9).all()
    assert (got <= high + 1e-9).all()
    start = np.full(n, 1.0 / n)
    best = scipy.optimize.minimize(
        lambda q: ((q - p) ** 2).sum(),
        start,
        jac=lambda q: 2 * (q - p),
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1.0, "jac": lambda q: np.ones(n)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert ((got - p) ** 2).sum() <= best.fun + 1e-8


def test_bounds_without_room_are_widened_in_proportion() -> None:
    assert project(np.array([0.5, 0.5]), np.zeros(2), np.array([0.1, 0.3])).tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "sometimes"},
        {"holdout": 1.0},
        {"holdout": -0.1},
        {"floors": {"b": 1.5}},
        {"caps": {"b": math.nan}},
        {"floors": {"b": 0.6, "c": 0.6}},
        {"floors": {"b": 0.6}, "caps": {"b": 0.5}},
    ],
)
def test_impossible_rollouts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Rollout(**wrong)


def test_a_rollout_that_does_not_fit_changes_nothing() -> None:
    """A rollout that does not fit the router is refused and changes nothing."""
    engine = router(baseline=None)
    for rollout in (Rollout(mode="off"), Rollout(holdout=0.1), Rollout(allowed=("nobody",)), Rollout(caps={"x": 1.0})):
        with pytest.raises(InvalidInput):
            engine.set_rollout(**msgspec.structs.asdict(rollout))
    assert engine.rollout == Rollout()


@pytest.mark.parametrize("mode", ["off", "online"])
def test_a_wrong_context_is_refused_in_every_mode(mode: Any) -> None:
    engine = router(Rollout(mode=mode))
    for context in ([1.0], [1.0, math.nan]):
        with pytest.raises(InvalidInput):
            engine.decide(context, event_id="e")


def test_a_changed_rollout_keeps_the_rest_and_the_guard_s_record() -> None:
    guarded = Rollout(guard=ConservativeGuard(slack=0.5), caps={"b": 0.5})
    engine = router(guarded, settings={"alpha": 0.1, "floor": 1.0})
    for event in map(str, range(20)):
        engine.decide([1.0, 0.5], event_id=event)
        engine.observe(event, Outcome(quality=0.5))
    saved = engine.chooser.record.budget
    assert saved > 0
    engine.set_rollout(holdout=0.1)
    assert (engine.rollout.baseline, engine.rollout.caps, engine.rollout.holdout) == ("base", {"b": 0.5}, 0.1)
    assert engine.chooser.record.budget == saved
    with pytest.raises(InvalidInput, match="a rollout has no 'hold_out'; it has mode, holdout"):
        engine.set_rollout(hold_out=0.1)
    engine.set_rollout(guard=ConservativeGuard(slack=0.25))
    assert engine.chooser.record.budget == 0.0
