"""Hard windows as caps: what one wrong bill, one step of the clock and requests without a bill leave behind."""

import math

import numpy as np
import pytest

from bandit_router import Arm, BudgetExhausted, Budgets, InvalidInput, Memory, Outcome, Rate, Rollout, Router, Window
from bandit_router.budgets.accounts import HOLDS

ARMS = ("small", "large")
CAP = Window(name="cap", channel="cost_usd", total=10.0, window_s=60.0)
CENT = {arm: Outcome(cost_usd=0.01) for arm in ARMS}


ASIDE = [{"mode": "shadow"}, {"mode": "off"}, {"mode": "apprentice"}, {"holdout": 0.999999}]


def report(budgets):
    return {row["limit"]: row for row in budgets.report()}


def days(bill):
    """Requests refused of 10 in each of 20 windows, after a first window with one bill of this size for `small`."""
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("typo", "small", now_s=0.0)
    budgets.settle("typo", Outcome(cost_usd=bill))
    counts = []
    for window in range(1, 21):
        now_s, refusals = window * 60.0, 0
        for n in range(10):
            offered = budgets.terms(arms=ARMS, now_s=now_s)
            allowed = offered.eligible is None or bool(offered.eligible[0])
            refusals += not allowed
            if allowed:
                budgets.reserve(f"{window}-{n}", "small", now_s=now_s)
                budgets.settle(f"{window}-{n}", Outcome(cost_usd=0.01))
        counts.append(refusals)
    return counts


@pytest.mark.parametrize("bill", [4.0, 12.0, 500.0, 1e160])
def test_one_wrong_bill_is_forgiven_in_the_next_windows(bill):
    assert days(bill) == [0] * 20


def test_one_wrong_bill_binds_its_own_window():
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("typo", "small", now_s=0.0)
    budgets.settle("typo", Outcome(cost_usd=500.0))
    with pytest.raises(BudgetExhausted):
        budgets.terms(arms=ARMS, now_s=59.0)


def test_the_largest_bill_and_error_are_halved_with_every_window():
    """A bill of $8 against a hold of $0.01: the error of 7.99 counts as 3.995 one window later, 1.9975 two later."""
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("a", "small", now_s=0.0)
    budgets.settle("a", Outcome(cost_usd=8.0))
    for window, half in ((1, 0.5), (2, 0.25)):
        budgets.reserve(f"b{window}", "small", now_s=60.0 * window)
        assert budgets.report()[0]["reserved"] == 8.0 * half
        assert budgets.terms(arms=ARMS, now_s=60.0 * window) is not None
        assert budgets.state()["accounts"]["cap"]["error"] == pytest.approx(7.99 * half)


def test_a_refused_outcome_is_spent_and_says_nothing_of_later_requests():
    budgets = Budgets(limits=[CAP], expected=CENT)
    router = Router(arms=[Arm(id="small")], context=1, budgets=budgets, clock=lambda: 0.0)
    router.decide([1.0], event_id="e")
    assert router.observe("e", Outcome(quality=7.0, cost_usd=500.0)).refused == "out_of_range"
    assert report(budgets)["cap"]["committed"] == 500.0
    budgets.reserve("next", "small", now_s=60.0)
    assert report(budgets)["cap"]["reserved"] == 0.01


def test_a_corrected_bill_frees_its_window_at_once():
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("typo", "small", now_s=0.0)
    budgets.settle("typo", Outcome(cost_usd=500.0))
    budgets.correct("cap", arm="small", amount=499.99)
    assert budgets.terms(arms=ARMS, now_s=1.0).eligible is None
    assert report(budgets)["cap"]["committed"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": "day"}, "there is no limit 'day'; there are cap"),
        ({"amount": -1.0}, "at least 0"),
        ({"amount": math.nan}, "finite"),
    ],
)
def test_a_correction_of_nothing_is_refused(arguments, message):
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("a", "small", now_s=0.0)
    with pytest.raises(InvalidInput, match=message):
        budgets.correct(**{"limit": "cap", "arm": "small", **arguments})


def test_a_step_of_the_clock_leaves_no_window_in_the_future():
    """One request with the clock a day ahead; then five of $1 a minute under $10 a minute, all of them served."""
    dollar = {arm: Outcome(cost_usd=1.0) for arm in ARMS}
    budgets = Budgets(limits=[CAP], expected=dollar)
    budgets.reserve("before", "small", now_s=0.0)
    budgets.reserve("ahead", "small", now_s=86400.0)
    assert budgets.terms(arms=ARMS, now_s=1.0).eligible is None
    assert report(budgets)["cap"]["committed"] == 2.0, "both sides of the step are spent"
    for minute in range(1, 1500):
        for n in range(5):
            assert budgets.terms(arms=ARMS, now_s=60.0 * minute).eligible is None
            budgets.reserve(f"{minute}-{n}", "small", now_s=60.0 * minute)


def test_requests_without_a_bill_are_held_up_to_a_bound():
    budgets = Budgets(limits=[Window(name="cap", channel="cost_usd", total=1e9, window_s=60.0)], expected=CENT)
    for n in range(HOLDS + 500):
        budgets.reserve(str(n), "small", now_s=0.0)
    budgets.terms(arms=ARMS, now_s=0.0)
    state = budgets.state()
    assert len(state["holds"]) == HOLDS
    assert next(iter(state["holds"])) == "500", "the oldest went first"
    assert report(budgets)["cap"]["committed"] == pytest.approx(0.01 * (HOLDS + 500)), "and stays booked"
    assert report(budgets)["cap"]["reserved"] == pytest.approx(0.01 * HOLDS)


def test_a_cap_far_away_changes_no_decision():
    """500 requests in 50 s, $5 at most, under $100 a day: unpaced, nothing is charged; paced, the dear arm is."""
    charged = {}
    for pace in (None, True):
        day = Window(name="day", channel="cost_usd", total=100.0, window_s=86400.0, pace=pace)
        budgets = Budgets(limits=[day], expected={"small": Outcome(cost_usd=0.001), "large": Outcome(cost_usd=0.01)})
        for n in range(500):
            budgets.reserve(str(n), "large", now_s=0.1 * n)
            budgets.settle(str(n), Outcome(cost_usd=0.01))
        charged[pace] = budgets.terms(arms=ARMS, now_s=50.0).penalty
    assert charged[None] is None
    assert charged[True][1] > charged[True][0] > 0.0


def test_a_window_that_is_neither_hard_nor_paced_is_refused():
    with pytest.raises(InvalidInput, match="limits nothing"):
        Window(name="w", channel="cost_usd", total=1.0, window_s=1.0, hard=False, pace=False)


def test_an_exhausted_budget_says_which_limit_and_when_it_resets():
    hour = Window(name="hour", channel="cost_usd", total=10.0, window_s=3600.0)
    budgets = Budgets(limits=[CAP, hour], expected={arm: Outcome(cost_usd=6.0) for arm in ARMS})
    budgets.reserve("a", "small", now_s=30.0)
    with pytest.raises(BudgetExhausted) as refused:
        budgets.terms(arms=ARMS, now_s=40.0)
    assert (refused.value.limit, refused.value.resets_s) == ("hour", 3560.0), "the last of both to open"
    with pytest.raises(BudgetExhausted) as refused:
        budgets.terms(arms=ARMS, now_s=40.0, bounds={arm: Outcome(cost_usd=11.0) for arm in ARMS})
    assert refused.value.resets_s is None, "no window could ever pay for it"


def test_the_report_says_what_is_reserved_what_remains_and_when_it_resets():
    budgets = Budgets(limits=[CAP, Rate(name="rate", channel="cost_usd", per_request=1.0)], expected=CENT)
    budgets.reserve("a", "small", now_s=61.0, bounds={"small": Outcome(cost_usd=3.0)})
    budgets.reserve("b", "small", now_s=61.0, bounds={"small": Outcome(cost_usd=2.0)})
    budgets.settle("a", Outcome(cost_usd=1.0))
    row = report(budgets)["cap"]
    assert {name: row[name] for name in ("committed", "reserved", "remaining", "resets_at_s")} == {
        "committed": 3.0,
        "reserved": 2.0,
        "remaining": 7.0,
        "resets_at_s": 120.0,
    }
    assert report(budgets)["rate"]["remaining"] is None


# -- what the policy did not choose ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rollout", [{"mode": "shadow"}, {"mode": "off"}, {"mode": "apprentice"}, {"holdout": 0.999999}]
)
def test_what_the_policy_did_not_choose_is_not_its_debt(rollout):
    """20,000 requests of the dear baseline, ten times over the rate, leave no price and no debt; a cap counts them."""
    rate = Rate(name="rate", channel="cost_usd", per_request=0.001)
    day = Window(name="day", channel="cost_usd", total=1e6, window_s=1e9)
    budgets = Budgets(limits=[rate, day], expected={arm: Outcome(cost_usd=0.01) for arm in ARMS})
    router = Router(
        arms=[Arm(id=arm) for arm in ARMS],
        context=1,
        policy="UniformRandom",
        budgets=budgets,
        rollout=Rollout(baseline="large", **rollout),
        store=Memory(max_events=10),
    )
    for n in range(20_000 if rollout == {"mode": "shadow"} else 500):
        router.decide([1.0], event_id=str(n))
        router.observe(str(n), Outcome(cost_usd=0.01))
    assert report(budgets)["rate"]["shadow_price"] == 0.0
    assert budgets.state()["accounts"]["rate"]["debt"] == 0.0
    assert report(budgets)["day"]["committed"] == pytest.approx(0.01 * (n + 1))


@pytest.mark.parametrize(
    "rollout", [{"mode": "shadow"}, {"mode": "off"}, {"mode": "apprentice"}, {"holdout": 0.999999}]
)
def test_an_arm_that_stands_in_for_the_baseline_is_marked_degraded(rollout):
    expected = {"small": Outcome(cost_usd=0.01), "large": Outcome(cost_usd=50.0)}
    router = Router(
        arms=[Arm(id=arm) for arm in ARMS],
        context=1,
        budgets=Budgets(limits=[CAP], expected=expected),
        rollout=Rollout(baseline="large", **rollout),
        clock=lambda: 0.0,
    )
    decision = router.decide([1.0], event_id="e")
    assert (decision.arm, decision.degraded, decision.learnable) == ("small", True, False)


def test_a_state_before_caps_is_still_read():
    """An account and an arm's record as they were saved before they had `reserved`, `log` and `window`."""
    budgets = Budgets(limits=[CAP], expected=CENT)
    budgets.reserve("a", "small", now_s=0.0)
    state = budgets.state()
    for name in ("reserved", "left_window", "left_committed"):
        del state["accounts"]["cap"][name]
    for seen in state["seen"]["cap"].values():
        del seen["log"], seen["window"]
    again = Budgets(limits=[CAP], expected=CENT)
    again.restore(state)
    again.settle("a", Outcome(cost_usd=0.5))
    assert np.isclose(report(again)["cap"]["committed"], 0.5)


@pytest.mark.parametrize("wrong", [{"name": "a\0b"}, {"name": "\ud800"}, {"tenant": "x" * 600}, {"tenant": "\ud800"}])
def test_a_limit_is_named_as_an_id_can_be(wrong):
    with pytest.raises(InvalidInput, match="a limit's"):
        Rate(**{"name": "rate", "channel": "cost_usd", "per_request": 1.0, **wrong})
