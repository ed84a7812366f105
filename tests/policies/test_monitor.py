"""Silent changes are found soon, stay with their arm, and cost little when there are none."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, LinTS, LinUCB
from bandit_router.policies.linear_base import LinearPolicy
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.rules import RewardRule
from bandit_router.store import Store
from bandit_router.store.inspection import Inspection
from bandit_router.store.settings import Sharing
from support.routers import make_router


def run(shift, *, steps=600, at=300, noise=0.2, seed=0, monitor=None, policy=None):
    """Both arms in turn; arm 0 changes by `shift` at its step `at`. Steps of arm 0 at which a change was found."""
    rng = np.random.default_rng(seed)
    policy = LinUCB(n_arms=2, dim=2) if policy is None else policy
    monitor = DriftMonitor() if monitor is None else monitor
    found = ([], [])
    for n in range(steps):
        for arm in (0, 1):
            x = np.array([1.0, rng.normal()])
            quality = 0.7 + 0.1 * x[1] + noise * rng.normal() + (shift if arm == 0 and n >= at else 0.0)
            if monitor.observe(policy, x, arm=arm, quality=quality):
                found[arm].append(n)
            policy.learn(x, arm, [quality])
    return found, policy, monitor


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_a_shift_of_one_deviation_is_found_within_forty_outcomes(shift):
    """A shift of one deviation either way is found within forty outcomes and the other arm is left alone."""
    for seed in range(5):
        found, _, _ = run(shift, seed=seed)
        assert found[1] == []
        assert 300 <= found[0][0] <= 340


def test_without_a_change_false_alarms_are_rare():
    alarms = sum(len(found) for seed in range(10) for found in run(0.0, seed=seed)[0])
    assert alarms <= 3, "12,000 outcomes, about one alarm in 10,000"


@pytest.mark.parametrize("make", [LinUCB, LinTS])
def test_widening_keeps_the_estimate_and_the_stated_share_of_the_evidence(make):
    rng = np.random.default_rng(1)
    policy = make(n_arms=2, dim=3, ridge=0.5)
    for _ in range(50):
        policy.learn(rng.normal(size=3), int(rng.integers(2)), [rng.random()])
    before, evidence = policy.estimate(np.ones(3)), policy.statistics.sums()["gram"]
    other = policy.statistics.sums()["gram"][1]
    policy.widen(0, 0.1)
    np.testing.assert_allclose(policy.estimate(np.ones(3)).mean, before.mean, atol=1e-12)
    np.testing.assert_allclose(
        policy.statistics.sums()["gram"][0], 0.1 * evidence[0] + 0.9 * 0.5 * np.eye(3), atol=1e-9
    )
    np.testing.assert_allclose(policy.statistics.sums()["gram"][1], other, atol=1e-9)
    assert policy.estimate(np.ones(3)).bonus[0] > before.bonus[0]


def test_the_monitor_makes_the_model_reach_a_new_level_sooner():
    """After a change the model reaches the new level sooner than without the monitor."""

    def error(monitor):
        _, policy, _ = run(-0.3, steps=360, monitor=monitor)
        return abs(policy.estimate([1.0, 0.0]).mean[0, 0] - 0.4)

    assert error(DriftMonitor()) < 0.06 < 0.2 < error(DriftMonitor(threshold=1e9))


def test_a_restored_monitor_goes_on_as_before():
    _, policy, monitor = run(0.0, steps=100)
    other = DriftMonitor()
    other.restore(monitor.state())
    x = np.array([1.0, 0.0])
    for _ in range(60):
        assert monitor.observe(policy, x, arm=0, quality=0.1) == other.observe(policy, x, arm=0, quality=0.1)
    np.testing.assert_array_equal(monitor.state()["sums"], other.state()["sums"])


def test_an_arm_that_was_added_later_is_watched_too():
    policy, monitor = LinUCB(n_arms=1, dim=1), DriftMonitor()
    policy.add_arm()
    assert monitor.observe(policy, [1.0], arm=1, quality=0.5) is False
    assert monitor.state()["sums"].shape == (2, 4)


def drifting(router, steps=400, at=200, seed=0):
    """Arm 0 earns 0.3 less from step `at` on; both arms are asked in turn."""
    rng = np.random.default_rng(seed)
    for n in range(steps):
        arm = ("a", "b")[n % 2]
        event = f"{seed}-{n}"
        router.decide([1.0, rng.normal()], event_id=event, eligible=[arm])
        quality = 0.7 + 0.1 * rng.normal() - 0.3 * (arm == "a" and n >= at)
        router.observe(event, Outcome(quality=min(max(quality, 0.0), 1.0)))


def watched(**settings):
    return make_router(
        arms=[Arm(id="a"), Arm(id="b")],
        context=2,
        key=b"k",
        **{"policy": "LinUCB", "monitor": DriftMonitor(), **settings},
    )


def test_a_router_with_a_monitor_trusts_only_a_changed_arm_less():
    """A router with a monitor trusts a changed arm less and leaves the other alone."""
    plain, router = watched(monitor=None), watched()
    drifting(plain)
    drifting(router)
    before, after = plain.policy.statistics.sums()["gram"], router.policy.statistics.sums()["gram"]
    assert after[0, 0, 0] < 0.7 * before[0, 0, 0]
    assert after[1].tobytes() == before[1].tobytes()


def test_a_quality_that_never_comes_is_not_watched():
    router = watched(prices={"cost_usd": 1.0}, rewards=RewardRule(window_s=1e-6))
    router.decide([1.0, 0.0], event_id="e", eligible=["a"])
    router.observe("e", Outcome(cost_usd=0.1))
    assert router.learner.monitor.state()["sums"].shape == (0, 4)


def test_a_monitor_goes_on_at_the_same_bytes_after_a_restart(tmp_path):
    """A monitor goes on after a restart and from the log alone at the same bytes."""

    def opened():
        return watched(store=Store(f"sqlite:///{tmp_path}/events.db", snapshot_every=150, wait_s=20.0))

    with opened() as first:
        drifting(first, steps=350)
        position, state = first.learner.capture()
    assert state["monitor.sums"][0, 0] < state["monitor.sums"][1, 0], "a change was found, and its arm began anew"
    for statement in ("SELECT 1", "DELETE FROM snapshots WHERE position > 0"):
        with sqlite3.connect(tmp_path / "events.db") as database:
            database.execute(statement)
        with opened() as again:
            there, found = again.learner.capture()
            assert there == position
            assert {name: array.tobytes() for name, array in found.items()} == {
                name: array.tobytes() for name, array in state.items()
            }
            drifting(again, steps=20, seed=1)
            position, state = again.learner.capture()
    inspection = Inspection(f"sqlite:///{tmp_path}/events.db")
    assert [check.fault for check in inspection.verify()] == [None] * len(inspection.verify())
    inspection.close()


def test_a_state_from_a_router_without_a_monitor_starts_it_anew():
    plain, router = watched(monitor=None), watched()
    drifting(plain)
    drifting(router, steps=10)
    router.learner.restore(*plain.learner.capture())
    assert router.learner.monitor.state()["sums"].shape == (0, 4)


def test_a_watched_policy_is_not_shared_by_deltas(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/events.db", share=Sharing(), replica="a", wait_s=20.0)
    with pytest.raises(InvalidInput, match="cannot be shared by deltas"):
        watched(store=store)


def test_only_linear_policies_are_watched_and_every_one_of_them_can_be():
    for name, policy in POLICIES.items():
        if issubclass(policy, LinearPolicy):
            made = policy(n_arms=2, dim=2)
            made.learn([1.0, 0.5], 1, [0.5])
            made.widen(1, 0.5)
            assert np.isfinite(made.probabilities([1.0, 0.0])).all(), name
    with pytest.raises(InvalidInput, match="EvidenceThompson watches for changes itself"):
        watched(policy="EvidenceThompson")


def test_settings_and_states_that_make_no_sense_are_refused():
    for settings in ({"threshold": 0.0}, {"slack": -1.0}, {"patience": 0}, {"keep": 0.0}, {"keep": 1.5}):
        with pytest.raises(InvalidInput, match=f"DriftMonitor: {next(iter(settings))} must be "):
            DriftMonitor(**settings)
    for state in ({}, {"settings": np.ones(3)}, {"settings": np.zeros(4), "sums": np.zeros((1, 4))}):
        with pytest.raises(InvalidInput):
            DriftMonitor.from_state(state)
    for state in ({}, {"sums": np.zeros((2, 3))}, {"sums": np.full((2, 4), np.nan)}):
        with pytest.raises(InvalidInput, match="finite sums"):
            DriftMonitor().restore(state)
