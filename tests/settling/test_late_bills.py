"""Bills that come after the feedback: learned where their channel has a scale, before it has a price."""

import numpy as np
import pytest

from bandit_router import Arm, Memory, Objective, Outcome, Router, Store

SCALED = Objective(scales={"cost_usd": 0.01})


@pytest.fixture(params=["memory", "store"])
def make(request, tmp_path):
    made = []

    def router(**arguments):
        store = Memory() if request.param == "memory" else Store(f"sqlite:///{tmp_path}/events.db", wait_s=20.0)
        arms = [Arm(id="cheap"), Arm(id="dear")]
        made.append(Router(arms=arms, context=1, policy="LinUCB", key=b"k", store=store, **arguments))
        return made[-1]

    yield router
    for one in made:
        one.close()


def test_a_bill_after_the_feedback_is_learned_once_with_it(make):
    """Feedback first, bill second: the state is that of both at once."""
    parts, whole = (
        make(objective=SCALED),
        Router(arms=[Arm(id="cheap"), Arm(id="dear")], context=1, policy="LinUCB", key=b"k"),
    )
    for n in range(40):
        bill = 0.001 * (1 + n % 3)
        parts.decide([1.0], event_id=str(n))
        arm = whole.decide([1.0], event_id=str(n)).arm
        whole.observe(str(n), Outcome(quality=0.8, cost_usd=bill))
        assert parts.observe(str(n), Outcome(quality=0.8)).pending
        settled = parts.observe(str(n), Outcome(cost_usd=bill))
        assert (settled.arm, settled.reward) == (arm, 0.8)
        assert parts.observe(str(n), Outcome(cost_usd=9.0)).refused == "duplicate"
    for name, array in whole.policy.state().items():
        np.testing.assert_array_equal(parts.policy.state()[name], array)
    parts.set_prices({"cost_usd": 0.5})
    assert parts.utility.priced("cost_usd")


def test_feedback_whose_bill_never_comes_is_learned_when_the_window_closes():
    now = [0.0]
    router = Router(arms=[Arm(id="a")], context=1, objective=SCALED, clock=lambda: now[0])
    router.decide([1.0], event_id="e")
    assert router.observe("e", Outcome(quality=0.9)).pending
    now[0] = SCALED.rewards.window_s + 1.0
    router.decide([1.0], event_id="later")
    assert (router.policy.steps, router.counters["settled_rewarded"]) == (1, 1)


def test_without_a_scale_feedback_settles_at_once(make):
    router = make()
    router.decide([1.0], event_id="e")
    assert router.observe("e", Outcome(quality=0.9)).reward == 0.9


def test_feedback_of_the_next_day_counts_by_default():
    now = [0.0]
    router = Router(arms=[Arm(id="a")], context=1, clock=lambda: now[0])
    router.decide([1.0], event_id="e")
    now[0] = 1.5 * 86400.0
    assert router.observe("e", Outcome(quality=0.9)).reward == 0.9
