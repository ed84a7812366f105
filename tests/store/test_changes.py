"""What operators change: it stays after a restart, reaches every process, and is on record."""

import time

import pytest
from typer.testing import CliRunner

from bandit_router import (
    Arm,
    Budgets,
    ConservativeGuard,
    InvalidInput,
    Objective,
    Outcome,
    Rate,
    Rollout,
    Router,
    Store,
    Window,
)
from bandit_router.cli import app
from bandit_router.store.inspection import Inspection

ARMS = ("small", "large")
CAP = Window(name="cap", channel="cost_usd", total=10.0, window_s=3600.0)
EXPECTED = {arm: Outcome(cost_usd=1.0) for arm in ARMS}


@pytest.fixture
def make(tmp_path):
    """Routers on one store; the last ones are closed at the end."""
    made = []

    def router(*, price=0.2, rollout=None, limits=(CAP,), replica="one", **arguments):
        made.append(
            Router(
                arms=[Arm(id=arm) for arm in ARMS],
                context=1,
                key=b"k",
                objective=Objective(prices={"cost_usd": price}, scales={"cost_usd": 0.01}),
                rollout=Rollout(baseline="large") if rollout is None else rollout,
                budgets=Budgets(limits=list(limits), expected=EXPECTED),
                store=Store(f"sqlite:///{tmp_path}/events.db", wait_s=10.0, replica=replica),
                **arguments,
            )
        )
        return made[-1]

    yield router
    for one in made:
        one.close()


def operations(folder):
    """What was changed; the features that a process began with are on record beside it."""
    store = Inspection(f"sqlite:///{folder}/events.db")
    try:
        return [row for row in store.operations() if row.name != "features"]
    finally:
        store.close()


def settings(router):
    return dict(router.utility.prices)["cost_usd"], router.rollout.mode, router.budgets.in_force().limits[0].total


def wait_for(wanted, router):
    deadline = time.monotonic() + 20.0
    while settings(router) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert settings(router) == wanted


def change(router):
    router.set_prices({"cost_usd": 0.5}, by="ann")
    router.set_rollout(mode="off", by="ben")
    router.set_limit(Window(name="cap", channel="cost_usd", total=20.0, window_s=3600.0), by="ann")


def test_what_was_changed_is_in_force_after_a_restart(make):
    with make() as router:
        change(router)
    assert settings(make()) == (0.5, "off", 20.0)


def test_a_change_reaches_the_other_processes_of_a_store(make):
    first, second = make(), make(replica="two")
    change(first)
    wait_for((0.5, "off", 20.0), second)
    second.set_rollout(mode="shadow")
    wait_for((0.5, "shadow", 20.0), first)


def test_a_limit_that_is_replaced_in_the_budgets_themselves_is_shared_too(make):
    first, second = make(), make(replica="two")
    first.budgets.replace(Window(name="cap", channel="cost_usd", total=30.0, window_s=3600.0))
    wait_for((0.2, "online", 30.0), second)


def test_both_end_at_the_same_value_where_two_change_at_once(make):
    first, second = make(), make(replica="two")
    for _ in range(5):
        first.set_prices({"cost_usd": 0.7})
        second.set_prices({"cost_usd": 0.9})
    wait_for((0.9, "online", 10.0), first)
    wait_for((0.9, "online", 10.0), second)


def test_a_configuration_that_changes_goes_before_what_was_changed(make, tmp_path):
    with make() as router:
        change(router)
    with make(price=0.3) as router:
        assert settings(router) == (0.3, "off", 20.0), "the price was configured anew, the rest was not"
    assert settings(make(price=0.3)) == (0.3, "off", 20.0)
    assert operations(tmp_path)[-1].by == "configuration"
    assert (operations(tmp_path)[-1].before, operations(tmp_path)[-1].after) == ({"cost_usd": 0.5}, {"cost_usd": 0.3})


def test_every_change_is_on_record_with_who_and_when(make, tmp_path):
    with make(clock=lambda: 1000.0) as router:
        change(router)
        router.decide([1.0], event_id="e")
        router.reprice_arm("small", "cost_usd", 0.5, by="cy")
        router.correct_bill("cap", arm="small", by="cy")
        router.pause("small", by="dan")
    rows = [row for row in operations(tmp_path) if row.by != "configuration"]
    assert [(row.name, row.by) for row in rows] == [
        ("prices", "ann"),
        ("rollout", "ben"),
        ("limits", "ann"),
        ("reprice", "cy"),
        ("bill", "cy"),
        ("arm small", "dan"),
    ]
    assert {row.at_s for row in rows} == {1000.0}
    assert (rows[0].before, rows[0].after) == ({"cost_usd": 0.2}, {"cost_usd": 0.5})
    assert (rows[1].before["mode"], rows[1].after["mode"]) == ("online", "off")
    told = CliRunner().invoke(app, ["state", "operations", f"sqlite:///{tmp_path}/events.db"])
    assert "ann: prices: " in told.stdout


def test_a_change_without_a_name_is_the_process_of_the_store(make, tmp_path):
    with make(replica="eu-1") as router:
        router.set_rollout(mode="off")
    assert operations(tmp_path)[-1].by == "eu-1"


def test_a_change_of_another_process_that_fits_nothing_here_is_left_out(make):
    """A guard needs estimates; the other process has a policy without any."""
    first, second = make(), make(replica="two", policy="UniformRandom")
    first.set_rollout(guard=ConservativeGuard(slack=0.1))
    first.set_prices({"cost_usd": 0.6})
    wait_for((0.6, "online", 10.0), second)
    assert second.rollout.guard is None


@pytest.mark.parametrize("by", ["", "a\0b", 5, "\ud800"])
def test_a_name_that_cannot_be_one_is_refused_before_anything_changes(make, by):
    router = make()
    with pytest.raises(InvalidInput, match="by "):
        router.set_prices({"cost_usd": 0.9}, by=by)
    assert settings(router)[0] == 0.2


def test_a_correction_reaches_the_budgets_of_the_other_processes(make):
    first, second = make(), make(replica="two")
    first.decide([1.0], event_id="e", eligible=["small"])
    first.observe("e", Outcome(cost_usd=500.0))
    deadline = time.monotonic() + 20.0

    def committed():
        rows = second.budgets.report()
        return rows[0]["committed"] if rows else 0.0

    while committed() != 500.0 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.correct_bill("cap", arm="small", amount=499.0)
    while committed() != 1.0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert committed() == 1.0


def test_without_a_store_a_change_ends_with_the_process():
    router = Router(arms=[Arm(id="a"), Arm(id="b")], context=1, rollout=Rollout(baseline="a"))
    router.set_rollout(mode="off", by="ann")
    assert router.rollout.mode == "off"
    with pytest.raises(InvalidInput, match="has no budgets"):
        router.set_limit(Rate(name="r", channel="cost_usd", per_request=1.0))


def test_a_negative_price_is_refused():
    with pytest.raises(InvalidInput, match="at least 0"):
        Objective(prices={"cost_usd": -0.1})
