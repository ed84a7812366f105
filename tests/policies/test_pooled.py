"""Pooled estimates against hand calculations and against the posterior they stand for."""

import numpy as np
import pytest

from bandit_router.policies import LinUCB
from bandit_router.policies.caching.pooled import PRIOR_ARMS, RATE, SPREAD_PRIOR, PooledEstimate


def estimates(policy, x):
    mean, bonus = policy.estimates(x)
    return mean[:, :, 0], bonus


def test_an_arm_without_data_is_worth_the_mean_of_the_others():
    """An arm without data is expected to be worth the mean of the others."""
    ridge = 1e-6  # so that played arms keep nothing of their prior
    policy = LinUCB(n_arms=3, dim=1, alpha=1e-3, ridge=ridge)
    for arm, quality in ((0, 0.4), (1, 0.8)):
        policy.learn([1.0], arm=arm, outcome=[quality])
    x = np.ones((1, 1))
    estimate, deviation = PooledEstimate()(x, *estimates(policy, x))
    assert estimate[0] == pytest.approx([0.4, 0.8, 0.6], abs=1e-5)
    variance = (PRIOR_ARMS * SPREAD_PRIOR + RATE * 2 * 0.2**2) / (PRIOR_ARMS + RATE * 1)
    left = 1 / (1 / variance + 4 / 1.0**2)  # the bonus of an arm without data is 1e-3 / sqrt(1e-6)
    assert deviation[0, 2] == pytest.approx(left**0.5, rel=1e-5)
    assert deviation[0, :2] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_a_ridge_estimate_becomes_that_of_a_prior_at_the_mean_of_all():
    """Of one feature, shrinking to q instead of 0 is exactly what a ridge on the difference to q gives."""
    rng, ridge, counts = np.random.default_rng(0), 2.0, (1, 5, 40, 0)
    policy = LinUCB(n_arms=4, dim=1, alpha=1e-6, ridge=ridge)
    sums = np.zeros(4)
    for arm, count in enumerate(counts):
        for _ in range(count):
            y = 0.5 + 0.1 * arm + 0.05 * rng.normal()
            policy.learn([1.0], arm=arm, outcome=[y])
            sums[arm] += y
    n = np.array(counts)
    known = n / (n + ridge)
    q = (sums / (n + ridge)).sum() / known.sum()
    x = np.ones((1, 1))
    estimate, _ = PooledEstimate()(x, *estimates(policy, x))
    assert estimate[0] == pytest.approx((sums + ridge * q) / (n + ridge), rel=1e-9)


def test_data_count_for_no_more_than_the_bonus_allows():
    mean, bonus = np.array([[0.2, 0.6]]), np.array([[0.3, 0.3]])
    pool = PooledEstimate()
    pool(np.ones((1, 1)), np.zeros((1, 2)), np.full((1, 2), 1e3))  # the bonus without data
    variance = (PRIOR_ARMS * SPREAD_PRIOR + RATE * 2 * 0.2**2) / (PRIOR_ARMS + RATE * 1)
    trust = 1 - (1 / variance + 4 / 0.3**2) ** -1 / variance
    estimate, _ = pool(np.ones((1, 1)), mean, bonus)
    assert estimate[0] == pytest.approx([0.4 - 0.2 * trust, 0.4 + 0.2 * trust], rel=1e-5)


def test_a_router_whose_prior_is_already_the_mean_is_left_alone():
    mean, bonus = np.array([[0.4, 0.8, 0.6]]), np.array([[1e-6, 1e-6, 1.0]])
    estimate, _ = PooledEstimate()(np.ones((1, 1)), mean, bonus)
    assert estimate[0] == pytest.approx([0.4, 0.8, 0.6], abs=1e-9)


def test_the_spread_between_arms_is_learned():
    rng, pool = np.random.default_rng(1), PooledEstimate()
    mean, bonus = 0.5 + 0.03 * rng.normal(size=(4000, 30)), np.full((4000, 30), 1e-4)
    bonus[:, -1] = 1.0
    for part in np.split(np.arange(4000), 40):
        _, deviation = pool(np.ones((100, 1)), mean[part], bonus[part])
    spread = (2 * SPREAD_PRIOR + 29 * 0.03**2) / 31
    assert deviation[0, -1] == pytest.approx((1 / spread + 4) ** -0.5, rel=0.1)


def test_bonuses_that_are_infinite_or_nought_are_no_error():
    pool = PooledEstimate()
    nothing_known = pool(np.ones((1, 1)), np.zeros((1, 2)), np.full((1, 2), np.inf))
    assert np.isfinite(np.concatenate(nothing_known)).all()
    estimate, deviation = pool(np.ones((1, 1)), np.array([[0.2, 0.4]]), np.zeros((1, 2)))
    assert estimate.tolist() == [[0.2, 0.4]]
    assert deviation.tolist() == [[0.0, 0.0]]
