"""Entries: the same ones in the same order give the same numbers, and order is no matter for what is committed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.budgets.accounts import EARLY, REMEMBERED, Account, Entry, Hold, State
from bandit_router.budgets.limits import Rate, Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.records.booking import Bill, Booking, Part
from bandit_router.records.outcomes import Outcome

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.sampled_from(["small", "large"]), st.sampled_from([None, "acme"])),
        st.tuples(st.just("bill"), st.integers(0, 9), st.floats(0.0, 9.0)),
        st.tuples(st.just("wait"), st.floats(0.0, 80.0), st.none()),
        st.tuples(st.just("reprice"), st.sampled_from([0.5, 2.0]), st.none()),
    ),
    max_size=40,
)


def fresh() -> Budgets:
    limits = [
        Window(name="day", channel="cost_usd", total=50.0, window_s=100.0),
        Rate(name="rate", channel="cost_usd", per_request=2.0, tenant="*"),
    ]
    return Budgets(limits=limits, expected={"small": Outcome(cost_usd=1.0)}, timeout_s=120.0)


def play(steps: list[tuple[str, object, object]]) -> tuple[Budgets, list[Entry]]:
    """Budgets that lived through the steps, and the entries they left, read back from bytes."""
    budgets, entries, now, booked = fresh(), [], 0.0, 0
    for verb, first, second in steps:
        if verb == "book":
            entries.append(budgets.reserve(str(booked), first, now_s=now, tenant=second))
            booked += 1
        elif verb == "bill":
            bill = Bill(str(first % (booked + 2)), Outcome(cost_usd=second), until_s=1e9)  # some before their booking
            budgets.apply(bill)
            entries.append(bill)
        elif verb == "wait":
            now += first
        elif verb == "reprice":
            budgets.reprice("small", "cost_usd", first)
            entries.append(budgets.reserve(str(booked), "small", now_s=now))  # carries the price change
            booked += 1
    data = [msgspec.msgpack.encode(entry) for entry in entries]
    return budgets, [msgspec.msgpack.decode(one, type=Entry) for one in data]


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_entries_alone_rebuild_the_state_number_for_number(steps):
    lived, entries = play(steps)
    folded = fresh()
    for entry in entries:
        folded.apply(entry)
    assert folded.state() == lived.state()
    for entry in entries:
        if isinstance(entry, Bill):
            folded.apply(entry)
    assert folded.state() == lived.state(), "a bill that is known changes nothing"


def test_the_order_of_folded_bookings_does_not_matter():
    """Two processes that fold the same bookings in another order have the same committed."""
    bookings = [Budgets.reserve(fresh(), str(n), "small", now_s=float(n)) for n in range(4)]
    one, two = fresh(), fresh()
    for booking in bookings:
        one.apply(booking)
    for booking in reversed(bookings):
        two.apply(booking)
    assert one.report()[0]["committed"] == two.report()[0]["committed"] == 4.0


def test_a_stake_in_a_limit_that_is_not_in_force_here_is_left_out():
    part = Part("elsewhere", "elsewhere", 1.0, 1.0, 1.0, 0)
    budgets = fresh()
    budgets.apply(Booking("e", "small", 0.0, (part,)))
    assert budgets.state()["holds"] == {}


def test_an_old_bill_is_one_of_the_decided_arm():
    """A bill written before bills named the arm that served is one of the decided arm."""
    old = msgspec.msgpack.encode(["s1", "e", {"cost_usd": 3.0}])
    assert msgspec.msgpack.decode(old, type=Entry) == Bill("e", Outcome(cost_usd=3.0), None)


def test_a_stake_of_an_older_window_is_not_booked_in_the_newer_one():
    account = Account(window=7, committed=3.0, open=1)
    old = Part("day", "day", 1.0, 1.0, 2.0, 6)
    account.book(old, 600.0)
    account.bill(old, 9.0)
    assert (account.committed, account.open, account.requests, account.total) == (3.0, 1, 1, 9.0)


def test_requests_expire_oldest_first_and_stay_booked():
    part = Part("day", "day", 1.0, 1.0, 2.0, 0)
    state = State(accounts={"day": Account(window=0, committed=4.0, open=2)})
    state.holds = {"a": Hold("small", 0.0, [part]), "b": Hold("small", 5.0, [part])}
    state.expire(5.0)
    assert list(state.holds) == ["b"]
    assert (state.accounts["day"].committed, state.accounts["day"].open) == (4.0, 1)


def test_only_so_many_requests_are_remembered():
    """Only so many requests with nothing under way and bills before their booking are remembered."""
    state = State()
    for n in range(3 * REMEMBERED):
        state.close(str(n))
    assert REMEMBERED // 2 <= len(state.done) <= REMEMBERED
    assert state.knows(str(3 * REMEMBERED - 1))
    assert not state.knows("0")
    for n in range(3 * REMEMBERED):
        state.keep(Bill(f"e{n}", Outcome(cost_usd=1.0)))
    assert REMEMBERED // 2 <= len(state.early) <= REMEMBERED
    for n in range(100):
        state.keep(Bill("one", Outcome(cost_usd=float(n))))
    assert len(state.early["one"]) == EARLY


@pytest.mark.parametrize(("requests", "gap"), [(1, 10.0), (4, 4.0)])
def test_the_time_between_requests_is_averaged_over_those_that_came(requests, gap):
    account = Account(requests=requests, last_s=0.0, gap_s=2.0)
    assert account.gap(10.0) == gap
    assert account.gap(-5.0) == 2.0 * (1 - 1 / requests), "a clock that goes back counts as no time"
