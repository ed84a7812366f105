"""Budgets: bills that come early, late, twice, for another arm or of nothing that was booked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bandit_router.budgets.limits import Rate, Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.groups import Objective
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import RewardRule

ARMS = ("small", "large")
HARD = Window(name="cap", channel="cost_usd", total=10.0, window_s=100.0)
EXPECTED = {"small": Outcome(cost_usd=1.0), "large": Outcome(cost_usd=4.0)}


def restarted(budgets, **arguments):
    """A new process that has read the saved state."""
    fresh = Budgets(**arguments)
    fresh.restore(json.loads(json.dumps(budgets.state())))
    return fresh


def test_an_early_bill_waits_over_a_restart_and_counts_once():
    """A bill that comes before its booking waits for it over a restart too and counts once."""
    arguments = {"limits": [HARD, Rate(name="joules", channel="energy_j", per_request=1.0)], "expected": EXPECTED}
    budgets = Budgets(**arguments)
    for bill in (Outcome(cost_usd=5.0), Outcome(cost_usd=5.0), Outcome(cost_usd=7.0), Outcome(energy_j=np.float32(3))):
        budgets.settle("r", bill, until_s=10.0)
    assert budgets.report() == []
    for known in (restarted(budgets, **arguments), budgets):
        known.reserve("r", "small", now_s=0.0)
        known.settle("r", Outcome(cost_usd=9.0))
        assert [row["mean"] for row in known.report()] == [5.0, 3.0]
        assert (known.report()[0]["committed"], known.state()["early"], known.state()["holds"]) == (5.0, {}, {})


def test_rewards_that_add_up_are_refused_with_budgets():
    """Rewards that add up are refused together with budgets which would lose all but the first bill."""
    settings = {
        "arms": [Arm(id=a) for a in ARMS],
        "context": 1,
        "objective": Objective(rewards=RewardRule(aggregate="sum")),
    }
    Router(**settings)
    with pytest.raises(InvalidInput, match="report one bill for the whole request"):
        Router(**settings, budgets=Budgets(limits=[HARD], expected=EXPECTED))


@pytest.mark.parametrize("early", [False, True])
def test_a_bill_of_another_arm_counts_for_the_arm_that_served(early):
    """A bill of another arm than the decided one counts and is expected of the arm that served."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(
        arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets, store=Memory(early_s=120.0), clock=lambda: 0.0
    )
    steps = [
        lambda: router.decide([1.0], event_id="r", eligible=["small"]),
        lambda: router.observe("r", Outcome(quality=0.5, cost_usd=6.0), served_arm="large"),
    ]
    for step in reversed(steps) if early else steps:
        step()
    assert router.counters["settled_diverted"] == 1
    assert budgets.report()[0]["committed"] == 6.0
    seen = budgets.state()["seen"]["cap"]
    assert (seen["small"]["mean"], seen["large"]["mean"]) == (1.0, 5.0)


def test_what_no_limit_counts_does_not_wait_for_a_booking():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    for outcome in (Outcome(quality=0.5), Outcome(cost_usd=float("nan")), Outcome(cost_usd=-1.0)):
        budgets.settle("r", outcome, until_s=10.0)
    budgets.settle("r", Outcome(cost_usd=1.0, quality=float("nan")), until_s=10.0)
    assert budgets.state()["early"] == {"r": [["s1", "r", _plain(Outcome(cost_usd=1.0)), None, 10.0, True]]}


def test_a_bill_that_waited_too_long_pays_no_later_request():
    """A bill that may not wait or has waited too long is none of a later request."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    budgets.settle("r", Outcome(cost_usd=0.0))
    budgets.settle("s", Outcome(cost_usd=0.0), until_s=5.0)
    for event in "rs":
        budgets.reserve(event, "small", now_s=6.0)
    held = budgets.report()[0]["committed"]
    assert held > 0
    for event in "rs":
        budgets.settle(event, Outcome(cost_usd=2.0))
    assert budgets.report()[0]["committed"] == 4.0


def test_refused_bills_of_unknown_requests_do_not_loosen_a_hard_limit():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets, clock=lambda: 0.0)
    for number in range(5):
        assert router.observe(str(number), Outcome(cost_usd=0.0)).refused == "unknown"
        router.decide([1.0], event_id=str(number))
        router.observe(str(number), Outcome(cost_usd=1.0))
    assert budgets.report()[0]["committed"] == 5.0


@pytest.mark.parametrize("wrong", [["x"], 5, ""])
def test_an_outcome_with_refused_ids_bills_nothing(wrong):
    """An outcome whose ids are refused bills nothing and can be corrected."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets, clock=lambda: 0.0)
    router.decide([1.0], event_id="r")
    assert router.observe("r", Outcome(cost_usd=3.0), served_arm=wrong).refused == "invalid"
    router.observe("r", Outcome(cost_usd=2.0))
    assert budgets.report()[0]["committed"] == 2.0


def test_an_arm_from_nowhere_is_paid_for_and_nothing_is_expected_of_it():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    budgets.reserve("r", "small", now_s=0.0)
    budgets.settle("r", Outcome(cost_usd=9.0), served_arm="elsewhere")
    assert budgets.report()[0]["committed"] == 9.0
    assert budgets.state()["seen"][HARD.name].keys() == EXPECTED.keys()


def test_a_router_settles_at_a_bill_before_its_decision():
    """A router settles its budgets at a bill that was observed before the decision."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(
        arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets, store=Memory(early_s=120.0), clock=lambda: 0.0
    )
    assert router.observe("r", Outcome(quality=0.5, cost_usd=5.0)).pending
    router.decide([1.0], event_id="r")
    assert (router.counters["settled"], budgets.report()[0]["committed"]) == (1, 5.0)


def test_a_state_from_before_bills_could_wait_is_still_read():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    budgets.reserve("a", "large", now_s=0.0)
    budgets.settle("a", Outcome(cost_usd=4.0))
    old = {name: part for name, part in budgets.state().items() if name in ("accounts", "seen", "holds")}
    again = Budgets(limits=[HARD], expected=EXPECTED)
    again.restore(old)
    assert again.report() == budgets.report()


def _plain(outcome):
    return {name: getattr(outcome, name) for name in outcome.__struct_fields__}
