"""Budgets: what is never exceeded, what is held on average, and what a bill does."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.budgets.limits import Floor, Rate, Tail, Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BudgetExhausted, InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router

ARMS = ("small", "large")
HARD = Window(name="cap", channel="cost_usd", total=10.0, window_s=100.0)
EXPECTED = {"small": Outcome(cost_usd=1.0), "large": Outcome(cost_usd=4.0)}


def terms(budgets, now_s=0.0, **request):
    return budgets.terms(arms=ARMS, now_s=now_s, **request)


def spend(budgets, event, arm, cost, now_s=0.0, **request):
    budgets.reserve(event, arm, now_s=now_s, **request)
    budgets.settle(event, Outcome(cost_usd=cost))


def restarted(budgets, **arguments):
    """A new process that has read the saved state."""
    fresh = Budgets(**arguments)
    fresh.restore(json.loads(json.dumps(budgets.state())))
    return fresh


# -- the hard cap --------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.integers(0, 1), st.sampled_from([0.0, 0.4, 1.0])),
        st.tuples(st.just("settle"), st.integers(0, 5), st.just(0.0)),
        st.tuples(st.just("wait"), st.integers(1, 60), st.just(0.0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0.0)),
    ),
    max_size=60,
)


def worst_window(steps, *, margin, over):
    """Play a script; the largest true spend of any window, whether or not the bill ever came.

    A request truly costs `share` of what was held for it, and under `over` that much more. Every request is billed
    late, after any number of others, or never.
    """
    arguments = {
        "limits": [Window(name="cap", channel="cost_usd", total=10.0, window_s=100.0, margin=margin)],
        "expected": EXPECTED,
        "timeout_s": 150.0,
    }
    budgets, now, truth, under_way = Budgets(**arguments), 0.0, {}, []
    for n, (verb, number, share) in enumerate(steps):
        if verb == "wait":
            now += number
        elif verb == "restart":
            budgets = restarted(budgets, **arguments)
        elif verb == "settle" and under_way:
            event, cost = under_way.pop(number % len(under_way))
            budgets.settle(event, Outcome(cost_usd=cost))
        elif verb == "decide":
            try:
                allowed = terms(budgets, now).eligible
            except BudgetExhausted:
                continue
            arm = number if allowed is None or allowed[number] else int(allowed.argmax())
            budgets.reserve(str(n), ARMS[arm], now_s=now)
            held = budgets.state()["holds"][str(n)]["parts"][0]["held"]
            cost = share * held + over * (share > 0.5)
            under_way.append((str(n), cost))
            window = now // 100.0
            truth[window] = truth.get(window, 0.0) + cost
    return max(truth.values(), default=0.0)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_bills_within_reservations_never_exceed_a_hard_window(steps):
    """Bills within their reservations never exceed a hard window whatever the order."""
    assert worst_window(steps, margin=0.0, over=0.0) <= 10.0 + 1e-9


@settings(max_examples=150, deadline=None)
@given(STEPS, st.floats(0.01, 3.0))
def test_bills_beyond_reservations_exceed_it_by_one_error_only(steps, error):
    """Bills beyond their reservations exceed a hard window by one error only."""
    assert worst_window(steps, margin=error, over=error) <= 10.0 + error + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 30.0), max_size=40))
def test_one_request_at_a_time_exceeds_it_by_its_own_error(costs):
    """One request at a time exceeds a hard window by its own error even when bills are arbitrary."""
    budgets, spent, error = Budgets(limits=[HARD], expected=EXPECTED), 0.0, 0.0
    for n, cost in enumerate(costs):
        try:
            allowed = terms(budgets).eligible
        except BudgetExhausted:
            break
        arm = "small" if allowed is None or allowed[0] else "large"
        budgets.reserve(str(n), arm, now_s=0.0)
        error = max(error, cost - budgets.state()["holds"][str(n)]["parts"][0]["held"])
        budgets.settle(str(n), Outcome(cost_usd=cost))
        spent += cost
    assert spent <= 10.0 + error + 1e-9


def test_room_is_kept_for_the_errors_of_what_is_under_way():
    """Reservations of 1 with a margin of 1 count 2 each while under way: 5 of them fill a cap of 10."""
    limit = Window(name="cap", channel="cost_usd", total=10.0, window_s=100.0, margin=1.0)
    budgets = Budgets(limits=[limit], expected={"small": Outcome(cost_usd=1.0)})
    for n in range(5):
        assert terms(budgets).eligible is None
        budgets.reserve(str(n), "small", now_s=0.0)
    with pytest.raises(BudgetExhausted):
        terms(budgets)
    budgets.settle("0", Outcome(cost_usd=1.0))
    assert terms(budgets).eligible is None


def test_threads_on_one_router_do_not_exceed_a_hard_window_together():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(
        arms=[Arm(id=a) for a in ARMS], context=1, policy="UniformRandom", budgets=budgets, clock=lambda: 0.0
    )
    billed, lock = [], threading.Lock()

    def serve(worker):
        for n in range(100):
            try:
                decision = router.decide([1.0], event_id=f"{worker}-{n}")
            except BudgetExhausted:
                return
            cost = 0.9 if decision.arm == "small" else 3.7
            with lock:
                billed.append(cost)
            router.observe(decision.event_id, Outcome(cost_usd=cost))

    workers = [threading.Thread(target=serve, args=(w,)) for w in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 9.0 < sum(billed) <= 10.0 + 1e-9


def test_only_arms_that_can_be_paid_for_are_eligible():
    """An arm that cannot be paid for is not eligible and the cheaper one still is."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 4.0)
    spend(budgets, "b", "large", 3.0)
    assert terms(budgets).eligible.tolist() == [True, False]


def test_an_exhausted_window_refuses_by_name_until_the_reset():
    """An exhausted hard window refuses by name and opens again at the reset."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 9.5)
    with pytest.raises(BudgetExhausted, match="under cap; wait for the window to reset"):
        terms(budgets, now_s=99.9)
    assert terms(budgets, now_s=100.0).eligible is None


def test_an_exhausted_window_can_serve_the_cheapest_arm():
    """An exhausted hard window serves the cheapest eligible arm when told to and counts it."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED, exhausted="cheapest")
    spend(budgets, "a", "small", 10.0)
    assert terms(budgets).eligible.tolist() == [False, True], "the small one was billed 10, so the large one is cheaper"
    assert terms(budgets, eligible=np.array([True, False])).eligible.tolist() == [True, False]
    spend(budgets, "b", "large", 4.0)
    assert budgets.report()[0]["overruns"] == 1


def test_a_request_that_is_never_billed_stays_booked_at_its_reservation():
    budgets = Budgets(limits=[HARD], expected=EXPECTED, timeout_s=10.0)
    budgets.reserve("lost", "large", now_s=0.0)
    assert terms(budgets, now_s=50.0).eligible is None
    budgets.settle("lost", Outcome(cost_usd=0.0))
    assert budgets.report()[0]["committed"] == 4.0


def test_a_bound_with_the_request_is_held_and_decides_eligibility():
    """A bound given with the request is what is held and what decides eligibility."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    bounds = {"large": Outcome(cost_usd=11.0), "small": Outcome(cost_usd=9.0)}
    assert terms(budgets, bounds=bounds).eligible.tolist() == [True, False]
    budgets.reserve("a", "small", now_s=0.0, bounds=bounds)
    assert budgets.report()[0]["committed"] == 9.0


def test_a_late_bill_corrects_the_window_of_its_decision():
    """A late bill corrects the window of its decision and leaves the present one alone."""
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    budgets.reserve("old", "large", now_s=99.0)
    budgets.reserve("new", "small", now_s=101.0)
    budgets.settle("old", Outcome(cost_usd=9.0))
    assert budgets.report()[0]["committed"] == 1.0


def test_a_clock_that_goes_back_does_not_open_a_spent_window_again():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 9.5, now_s=250.0)
    with pytest.raises(BudgetExhausted):
        terms(budgets, now_s=150.0)


def test_a_hard_window_needs_to_know_what_a_request_may_take():
    with pytest.raises(InvalidInput, match=r"pass expected=.*Outcome\(cost_usd="):
        Budgets(limits=[HARD])


# -- tenants, several limits, changes ------------------------------------------------------------------------


def test_a_limit_for_each_tenant_has_an_account_for_each_tenant():
    budgets = Budgets(limits=[Window(**{**_fields(HARD), "tenant": "*"})], expected=EXPECTED)
    spend(budgets, "a", "large", 9.5, tenant="acme")
    with pytest.raises(BudgetExhausted):
        terms(budgets, tenant="acme")
    assert terms(budgets, tenant="other").eligible is None
    assert terms(budgets).eligible is None, "a request of no tenant is under no tenant's limit"


def test_a_limit_of_one_tenant_does_not_bind_another():
    budgets = Budgets(limits=[Window(**{**_fields(HARD), "tenant": "acme"})], expected=EXPECTED)
    spend(budgets, "a", "large", 9.5, tenant="other")
    assert terms(budgets, tenant="acme").eligible is None
    assert [row["account"] for row in budgets.report()] == ["cap"]


def test_every_one_of_several_limits_must_hold():
    joules = Window(name="joules", channel="energy_j", total=5.0, window_s=100.0)
    expected = {"small": Outcome(cost_usd=1.0, energy_j=6.0), "large": Outcome(cost_usd=4.0, energy_j=1.0)}
    budgets = Budgets(limits=[HARD, joules], expected=expected)
    assert terms(budgets).eligible.tolist() == [False, True]
    spend(budgets, "a", "large", 7.0)
    with pytest.raises(BudgetExhausted, match="the hard limits together"):
        terms(budgets)


def test_a_window_of_gpu_seconds_books_what_was_metered():
    """A window of GPU seconds books what was metered and leaves a null at its reservation."""
    window = Window(name="gpu", channel="gpu_s", total=10.0, window_s=100.0)
    budgets = Budgets(limits=[window], expected={arm: Outcome(gpu_s=4.0) for arm in ARMS})
    for event, outcome in (("metered", Outcome(gpu_s=1.0)), ("null", Outcome(cost_usd=1.0))):
        budgets.reserve(event, "small", now_s=0.0)
        budgets.settle(event, outcome)
    assert budgets.report()[0]["committed"] == 1.0 + 4.0


def test_a_limit_that_is_changed_holds_from_the_next_decision():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 4.0)
    budgets.replace(Window(name="cap", channel="cost_usd", total=6.0, window_s=100.0))
    assert terms(budgets).eligible.tolist() == [True, False]
    with pytest.raises(InvalidInput, match="a new name"):
        budgets.replace(Rate(name="cap", channel="cost_usd", per_request=1.0))


def test_a_known_price_cut_makes_an_arm_affordable_at_once():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 7.0)
    assert terms(budgets).eligible.tolist() == [True, False]
    budgets.reprice("large", "cost_usd", 0.25)
    assert terms(budgets).eligible is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rate(name="r", channel="quality", per_request=1.0), "no cost channel 'quality'"),
        (lambda: Rate(name="r", channel="cost_usd", per_request=0.0), "greater than 0, got 0.0"),
        (lambda: Rate(name="a/b", channel="cost_usd", per_request=1.0), "without a slash"),
        (lambda: Window(name="w", channel="cost_usd", total=1.0, window_s=float("nan")), "window_s must be finite"),
        (lambda: Floor(name="f", quality=1.5), r"quality must be in \(0, 1\]"),
        (lambda: Tail(name="t", at_most=1.0, level=1.0), "level must be between 0 and 1"),
        (lambda: Budgets(limits=[Floor(name="f", quality=0.5)] * 2), "names must be distinct"),
        (lambda: Budgets(limits=[], exhausted="stop"), "refuse or cheapest, got 'stop'"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_the_reason(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_a_price_change_of_a_channel_there_is_not_is_refused():
    with pytest.raises(InvalidInput, match="channel must be a cost"):
        Budgets(limits=[HARD], expected=EXPECTED).reprice("large", "cost", 0.5)


@pytest.mark.parametrize("wrong", [{"larg": Outcome(cost_usd=1.0)}, {"large": Outcome(cost_usd=float("nan"))}])
def test_a_bound_that_would_be_ignored_is_refused(wrong):
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    with pytest.raises(InvalidInput, match="bounds must give amounts"):
        terms(budgets, bounds=wrong)


def test_a_malformed_state_is_refused_and_changes_nothing():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    spend(budgets, "a", "large", 4.0)
    before = budgets.state()
    orphan = {"holds": {"x": {"arm": "small", "at_s": 0.0, "parts": [dict.fromkeys(_PART, 0.0) | _NAMES]}}}
    for broken in ({}, {"accounts": 3}, {"accounts": {}, **orphan}):
        with pytest.raises(InvalidInput, match="not a state of Budgets"):
            budgets.restore(broken)
    assert budgets.state() == before


# -- the shadow prices ---------------------------------------------------------------------------------------


def play(limits, *, steps, outcome, seed=0, billed=1.0, rewarded=1.0, score=(0.5, 0.9), expected=None, gap_s=1.0):
    """A policy that knows the mean qualities, under limits; arrays of chosen arms and true outcomes."""
    budgets, rng = Budgets(limits=limits, expected=expected), np.random.default_rng(seed)
    router = Router(arms=[Arm(id=a) for a in ARMS], context=1, policy="UniformRandom", budgets=budgets)
    router.policy.probabilities = lambda x, mask, w, cost: _best(score, mask, w, cost)
    now = [0.0]
    router.clock = lambda: now[0]
    log = []
    for n in range(steps):
        now[0] = n * gap_s
        arm = router.decide([1.0], event_id=str(n)).arm_index
        truth = outcome(rng, arm)
        seen = {name: value for name, value in truth.items() if name == "quality" or rng.random() < billed}
        if rng.random() >= rewarded:
            seen.pop("quality", None)
        router.observe(str(n), Outcome(**seen))
        log.append((arm, truth))
    return budgets, log


def _best(score, mask, weights, penalty):
    value = weights[0] * np.array(score) - (0.0 if penalty is None else penalty)
    return np.eye(2)[np.where(np.ones(2, bool) if mask is None else mask, value, -np.inf).argmax()]


def lognormal_costs(rng, arm):
    return {"quality": (0.5, 0.9)[arm], "cost_usd": (0.1, 2.0)[arm] * rng.lognormal(-0.125, 0.5)}


@pytest.mark.parametrize(("billed", "rewarded"), [(1.0, 1.0), (1.0, 0.8), (1.0, 0.0), (0.8, 0.8)])
def test_mean_spending_is_within_one_percent_of_a_binding_rate(billed, rewarded):
    """The mean of what is truly spent is within one percent of a rate that binds."""
    limit = Rate(name="rate", channel="cost_usd", per_request=0.6)
    _, log = play([limit], steps=2000, outcome=lognormal_costs, billed=billed, rewarded=rewarded)
    spent = np.mean([truth["cost_usd"] for _, truth in log])
    assert spent == pytest.approx(0.6, rel=0.01 if billed == 1.0 else 0.03)


def test_a_rate_that_does_not_bind_costs_nothing():
    budgets, log = play([Rate(name="rate", channel="cost_usd", per_request=5.0)], steps=300, outcome=lognormal_costs)
    assert {arm for arm, _ in log} == {1}
    assert budgets.report()[0]["shadow_price"] == 0.0


def test_a_window_is_spent_evenly_to_its_end_rather_than_at_its_beginning():
    limit = Window(name="hour", channel="cost_usd", total=600.0, window_s=1000.0, pace=True)
    expected = {"small": Outcome(cost_usd=0.1), "large": Outcome(cost_usd=2.0)}
    _, log = play([limit], steps=3000, outcome=lognormal_costs, expected=expected)
    spent = np.array([truth["cost_usd"] for _, truth in log]).reshape(3, 1000)
    assert (spent.sum(axis=1) <= 600.0 + 10.0).all()
    assert (spent.sum(axis=1) >= 0.95 * 600.0).all()
    assert (spent[:, 500:].sum(axis=1) / spent.sum(axis=1) >= 0.4).all()


def test_a_quality_floor_buys_just_enough_of_the_dearer_arm():
    """Quality 0.5 and 0.9 mix to 0.7 at one half each."""
    score = (0.5, 0.3)  # a utility that prices the dearer arm out

    def outcome(rng, arm):
        return {"quality": float(rng.random() < (0.5, 0.9)[arm])}

    budgets = Budgets(limits=[Floor(name="floor", quality=0.7)])
    rng, chosen = np.random.default_rng(1), []
    for n in range(3000):
        offered = terms(budgets, now_s=float(n))
        arm = int((np.array(score) - (0.0 if offered.penalty is None else offered.penalty)).argmax())
        budgets.reserve(str(n), ARMS[arm], now_s=float(n))
        budgets.settle(str(n), Outcome(**outcome(rng, arm)))
        chosen.append(arm)
    assert np.mean(chosen) == pytest.approx(0.5, abs=0.05)


def test_a_tail_limit_keeps_its_share_of_requests_below_the_bound():
    """The large arm exceeds 2 s in a fifth of its requests, the small one never: a quarter of the traffic fits."""

    def outcome(rng, arm):
        return {"quality": (0.5, 0.9)[arm], "latency_s": float(arm and rng.random() < 0.2) * 3.0}

    _, log = play([Tail(name="p95", at_most=2.0)], steps=3000, outcome=outcome)
    assert np.mean([truth["latency_s"] > 2.0 for _, truth in log]) == pytest.approx(0.05, abs=0.005)
    assert np.mean([arm for arm, _ in log]) == pytest.approx(0.25, abs=0.05)


def test_a_bill_moves_the_price_once_and_needs_no_reward():
    """A bill moves the price without a reward and a second bill moves nothing."""
    budgets = Budgets(limits=[Rate(name="rate", channel="cost_usd", per_request=1.0)])
    router = Router(arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets)
    router.decide([1.0], event_id="r")
    assert router.observe("r", Outcome(cost_usd=3.0)).pending
    after = budgets.report()[0]
    assert after["mean"] == 3.0
    assert after["shadow_price"] > 0.0
    assert router.observe("r", Outcome(quality=1.0, cost_usd=9.0)).refused is None
    assert budgets.report()[0] == after


def test_an_unmetered_channel_stays_booked_as_expected():
    """An unmetered channel leaves the booking at what was expected not at zero."""
    limit = Rate(name="rate", channel="energy_j", per_request=1.0)
    budgets = Budgets(limits=[limit], expected={"large": Outcome(energy_j=5.0)})
    budgets.reserve("r", "large", now_s=0.0)
    for unusable in (None, float("nan"), -1.0):
        budgets.settle("r", Outcome(energy_j=unusable))
    assert budgets.report()[0]["mean"] == 5.0


def test_a_retried_event_is_booked_once():
    budgets = Budgets(limits=[HARD], expected=EXPECTED)
    router = Router(arms=[Arm(id=a) for a in ARMS], context=1, budgets=budgets, clock=lambda: 0.0)
    router.decide([1.0], event_id="r")
    router.decide([1.0], event_id="r")
    assert budgets.report()[0]["requests"] == 1


def test_a_request_decided_by_two_processes_is_booked_once():
    """A request that two processes have decided is booked once before its bill and after it."""
    budgets, elsewhere = (Budgets(limits=[HARD], expected=EXPECTED) for _ in range(2))
    again = elsewhere.reserve("r", "small", now_s=0.0)
    budgets.reserve("r", "small", now_s=0.0)
    budgets.apply(again)
    assert (budgets.report()[0]["requests"], budgets.report()[0]["committed"]) == (1, 1.0)
    budgets.settle("r", Outcome(cost_usd=3.0))
    for known in (budgets, restarted(budgets, limits=[HARD], expected=EXPECTED)):
        known.apply(again)
        assert (known.report()[0]["requests"], known.report()[0]["committed"]) == (1, 3.0)


def test_a_restart_in_the_middle_changes_no_later_decision():
    arguments = {
        "limits": [HARD, Rate(name="rate", channel="cost_usd", per_request=0.5), Tail(name="p95", at_most=1.0)],
        "expected": EXPECTED,
        "exhausted": "cheapest",
    }
    budgets = Budgets(**arguments)
    rng = np.random.default_rng(3)
    for n in range(200):
        budgets.reserve(str(n), ARMS[n % 2], now_s=float(n))
        if n % 3:
            budgets.settle(str(n), Outcome(cost_usd=rng.random(), latency_s=2.0 * rng.random()))
    other = restarted(budgets, **arguments)
    for n in range(200, 260):
        ours, theirs = terms(budgets, float(n)), terms(other, float(n))
        np.testing.assert_array_equal(ours.penalty, theirs.penalty)
        np.testing.assert_array_equal(ours.eligible, theirs.eligible)
        for one in (budgets, other):
            one.reserve(str(n), "small", now_s=float(n))
            one.settle(str(n - 3), Outcome(cost_usd=0.7, latency_s=1.5))
    assert budgets.state() == other.state()


_PART = ("expected", "target", "held")
_NAMES = {"limit": "cap", "account": "gone", "window": 0}


def _fields(limit):
    return {name: getattr(limit, name) for name in limit.__struct_fields__}
