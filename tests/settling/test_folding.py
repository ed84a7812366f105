"""A learner that folds many entries leaves room for decisions, and its state can be copied beside them."""

import threading

import numpy as np
import pytest

from bandit_router.policies import LinUCB
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.outcomes import Utility
from bandit_router.settling import learner as module
from bandit_router.settling.learner import ArmAdded, Learner


@pytest.fixture
def learner():
    return Learner(
        catalogue=Catalogue([Arm(id="a"), Arm(id="b")]),
        policy=LinUCB(n_arms=2, dim=3),
        channels=["quality"],
        utility=Utility(),
    )


def entries(n):
    return [ArmAdded(position=i, index=1 + i, arm=Arm(id=f"m{i}")) for i in range(1, n + 1)]


def test_a_fold_pauses_without_the_lock_when_its_turn_is_over(learner, monkeypatch):
    """On a clock by which every entry takes two thirds of a turn, two entries are a turn."""
    ticks, free = iter(range(1000)), []

    def decide():
        free.append(learner.lock.acquire(blocking=False))
        learner.lock.release()

    def asleep(_):
        other = threading.Thread(target=decide)
        other.start()
        other.join()

    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks) * module.TURN_S * 2 / 3)
    monkeypatch.setattr(module.time, "sleep", asleep)
    learner.fold(entries(4))
    assert learner.position == 4
    assert free == [True, True]


def test_a_capture_does_not_wait_for_who_holds_the_lock(learner):
    captured = []
    with learner.lock:
        other = threading.Thread(target=lambda: captured.append(learner.capture()), daemon=True)
        other.start()
        other.join(10)
        assert captured
    position, state = captured[0]
    assert position == 0
    assert np.array_equal(state["steps"], learner.policy.state()["steps"])


def test_nothing_is_learned_while_a_state_is_copied(learner, monkeypatch):
    """Another thread that folds waits until the copy is whole."""
    during, state = [], learner.policy.state
    folding = threading.Thread(target=learner.fold, args=(entries(1),))

    def copied():
        folding.start()
        folding.join(0.05)
        during.append(learner.position)
        return state()

    monkeypatch.setattr(learner.policy, "state", copied)
    assert learner.capture()[0] == 0
    folding.join(10)
    assert during == [0]
    assert learner.position == 1
