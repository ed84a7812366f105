"""The bootstrap against the standard error of a mean, and its shares against a count by hand."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import BootstrapLinear


def test_replicates_spread_like_the_standard_error_of_each_arm():
    """Poisson weights: the variance of a bootstrapped mean of n outcomes is that of the outcomes over n."""
    rng, n = np.random.default_rng(0), 400
    policy = BootstrapLinear(n_arms=2, dim=1, replicates=800, ridge=1e-6, prior=0.0)
    samples = [0.5 + sd * rng.normal(size=n) for sd in (0.05, 0.4)]
    for arm, sample in enumerate(samples):
        for y in sample:
            policy.learn([1.0], arm, [y])
    estimate = policy.estimate([1.0])
    assert estimate.mean[:, 0] == pytest.approx([s.mean() for s in samples], abs=2e-3)
    assert estimate.bonus == pytest.approx([s.std() / np.sqrt(n) for s in samples], rel=0.1)


def test_propensities_are_the_share_of_replicates_that_find_an_arm_best():
    policy = BootstrapLinear(n_arms=3, dim=2, channels=2, replicates=25, floor=0.1)
    rng = np.random.default_rng(1)
    for _ in range(40):
        policy.learn(rng.normal(size=2), int(rng.integers(3)), rng.random(2))
    x, prices, penalty = np.array([0.4, -1.0]), np.array([1.0, -0.5]), np.array([0.0, 0.1, 0.0])
    theta = policy.statistics.theta.reshape(3, 25, 2, 2)
    winners = [max(range(3), key=lambda a, b=b: prices @ (theta[a, b] @ x) - penalty[a]) for b in range(25)]
    expected = 0.9 * np.bincount(winners, minlength=3) / 25 + 0.1 / 3
    assert policy.probabilities(x, prices=prices, penalty=penalty) == pytest.approx(expected, abs=1e-12)


def test_before_any_outcome_all_arms_are_drawn_about_alike():
    """Before any outcome all arms are drawn about alike and without priors exactly."""
    p = BootstrapLinear(n_arms=4, dim=2, replicates=1000).probabilities([1.0, 0.5])
    assert p == pytest.approx([0.25] * 4, abs=0.06)
    assert BootstrapLinear(n_arms=4, dim=2, prior=0.0).probabilities([1.0, 0.5]).tolist() == [0.25] * 4


def test_seeds_give_other_replicates_and_a_new_arm_has_priors_of_its_own():
    p = [BootstrapLinear(n_arms=4, dim=1, seed=seed).probabilities([1.0]).tolist() for seed in (0, 0, 1)]
    assert p[0] == p[1] != p[2]
    policy = BootstrapLinear(n_arms=1, dim=1)
    policy.add_arm()
    theta = policy.statistics.theta.reshape(2, -1)
    assert np.abs(theta[1]).min() > 0
    assert not np.isclose(theta[0], theta[1]).any()
    with pytest.raises(InvalidInput, match="replicates must be at least 1"):
        BootstrapLinear(n_arms=1, dim=1, replicates=0)
