"""Silent changes are found soon, stay with their arm, and cost little when there are none."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.drift import DriftMonitor, widen
from bandit_router.policies import LinTS, LinUCB
from bandit_router.policies.base import InvalidInput


def run(shift, *, steps=600, at=300, noise=0.2, seed=0, monitor=None, policy=None):
    """Both arms in turn; arm 0 changes by `shift` at its step `at`. Steps of arm 0 at which a change was found."""
    rng = np.random.default_rng(seed)
    policy = LinUCB(n_arms=2, dim=2) if policy is None else policy
    monitor = DriftMonitor(n_arms=2) if monitor is None else monitor
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
def test_a_shift_of_one_deviation_either_way_is_found_within_forty_outcomes_and_the_other_arm_is_left_alone(shift):
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
    widen(policy, 0, 0.1)
    np.testing.assert_allclose(policy.estimate(np.ones(3)).mean, before.mean, atol=1e-12)
    np.testing.assert_allclose(
        policy.statistics.sums()["gram"][0], 0.1 * evidence[0] + 0.9 * 0.5 * np.eye(3), atol=1e-9
    )
    np.testing.assert_allclose(policy.statistics.sums()["gram"][1], other, atol=1e-9)
    assert policy.estimate(np.ones(3)).bonus[0] > before.bonus[0]


def test_after_a_change_the_model_reaches_the_new_level_sooner_than_without_the_monitor():
    def error(monitor):
        _, policy, _ = run(-0.3, steps=360, monitor=monitor)
        return abs(policy.estimate([1.0, 0.0]).mean[0, 0] - 0.4)

    assert error(DriftMonitor(n_arms=2)) < 0.06 < 0.2 < error(DriftMonitor(n_arms=2, threshold=1e9))


def test_a_restored_monitor_goes_on_as_before():
    _, policy, monitor = run(0.0, steps=100)
    other = DriftMonitor(n_arms=1)
    other.restore(monitor.state())
    x = np.array([1.0, 0.0])
    for _ in range(60):
        assert monitor.observe(policy, x, arm=0, quality=0.1) == other.observe(policy, x, arm=0, quality=0.1)
    np.testing.assert_array_equal(monitor.state()["sums"], other.state()["sums"])


def test_an_arm_that_was_added_later_is_watched_too():
    policy, monitor = LinUCB(n_arms=1, dim=1), DriftMonitor(n_arms=1)
    policy.add_arm()
    assert monitor.observe(policy, [1.0], arm=1, quality=0.5) is False
    assert monitor.state()["sums"].shape == (2, 4)


def test_settings_and_states_that_make_no_sense_are_refused():
    for settings in ({"threshold": 0.0}, {"slack": -1.0}, {"patience": 0}, {"keep": 0.0}, {"keep": 1.5}):
        with pytest.raises(InvalidInput, match="threshold must be above 0"):
            DriftMonitor(n_arms=1, **settings)
    for state in ({}, {"sums": np.zeros((2, 3))}, {"sums": np.full((2, 4), np.nan)}):
        with pytest.raises(InvalidInput, match="finite sums"):
            DriftMonitor(n_arms=1).restore(state)
