"""Shared and own parameters against the joint ridge regression solved directly."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import draw
from bandit_router.policies.hybrid import HierarchicalLinTS, HybridLinUCB
from bandit_router.policies.lints import LinTS
from bandit_router.policies.linucb import LinUCB

K, D, M = 4, 3, 2
RIDGE, SHARED = 2.0, 0.5


def features(seed=0):
    return np.random.default_rng(seed).normal(size=(K, M))


def described(cls, **settings):
    policy = cls(n_arms=K, dim=D, channels=2, features=M, ridge=RIDGE, shared_ridge=SHARED, **settings)
    for arm, values in enumerate(features()):
        policy.describe(arm, values)
    return policy


def joint_vector(x, arm):
    """(z_a, 0, ..., x, ..., 0) of the stacked model (beta, theta_0, ..., theta_K-1)."""
    z = np.concatenate([x, *(value * x for value in features()[arm])])
    own = np.zeros((K, D))
    own[arm] = x
    return np.concatenate([z, own.ravel()])


def events(steps=60):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield rng.normal(size=D), int(rng.integers(K)), rng.normal(size=2), float(rng.uniform(0.5, 2))


def joint_solution():
    shared = (1 + M) * D
    gram = np.diag(np.concatenate([np.full(shared, SHARED), np.full(K * D, RIDGE)]))
    moment = np.zeros((len(gram), 2))
    for x, arm, y, weight in events():
        v = joint_vector(x, arm)
        gram += weight * np.outer(v, v)
        moment += weight * np.outer(v, y)
    return np.linalg.inv(gram), np.linalg.solve(gram, moment)


def test_means_and_widths_are_those_of_the_joint_ridge_regression():
    policy = described(HybridLinUCB, alpha=1.0)
    for x, arm, y, weight in events():
        policy.learn(x, arm, y, weight=weight)
    inverse, theta = joint_solution()
    for x in np.random.default_rng(2).normal(size=(5, D)):
        vectors = np.array([joint_vector(x, arm) for arm in range(K)])
        estimate = policy.estimate(x)
        assert estimate.mean == pytest.approx(vectors @ theta, abs=1e-10)
        assert estimate.bonus == pytest.approx(np.sqrt(np.einsum("ij,jk,ik->i", vectors, inverse, vectors)), abs=1e-10)


def test_arms_whose_shared_variance_is_not_read_could_not_have_won():
    rng = np.random.default_rng(4)
    policy = HybridLinUCB(n_arms=60, dim=8, features=2, alpha=0.2, floor=0.0)
    values, theta = rng.normal(size=(60, 2)), rng.normal(size=(60, 8)) / 3
    for arm in range(60):
        policy.describe(arm, values[arm])
    for _ in range(1500):
        x, penalty = rng.normal(size=8), 0.1 * rng.random(60)
        arms = rng.random(60) < 0.7
        estimate = policy.estimate(x)
        index = np.where(arms, estimate.mean[:, 0] + estimate.bonus - penalty, -np.inf)
        p = policy.probabilities(x, eligible=arms, penalty=penalty)
        assert p[index.argmax()] == 1.0
        policy.learn(x, index.argmax(), [theta[index.argmax()] @ x + 0.1 * rng.normal()])


def test_what_is_kept_does_not_grow_with_arms_times_shared_parameters():
    policy = HybridLinUCB(n_arms=50, dim=16, features=7)
    numbers = sum(array.size for array in policy.state().values())
    assert numbers < 50 * 16 * 17 / 2 + (8 * 16) ** 2 + 50 * 40


def test_an_arm_added_like_another_estimates_what_that_one_does():
    policy = described(HybridLinUCB)
    for x, arm, y, weight in events():
        policy.learn(x, arm, y, weight=weight)
    policy.add_arm(like=2, strength=3.0)
    mean = policy.estimate(np.arange(3.0)).mean
    assert mean[K] == pytest.approx(mean[2])
    again = HybridLinUCB.from_state(policy.state())
    assert again.estimate(np.arange(3.0)).mean == pytest.approx(mean)


def test_the_deviation_of_thompson_leaves_out_what_moves_all_arms_alike():
    policy = described(HierarchicalLinTS, noise=1.0)
    for x, arm, y, weight in events():
        policy.learn(x, arm, y, weight=weight)
    x = np.random.default_rng(3).normal(size=D)
    own = policy.own.predict(x)[1] ** 2
    inverse, _ = joint_solution()
    vectors = np.array([joint_vector(x, arm) for arm in range(K)])
    covariance = vectors @ inverse @ vectors.T - np.diag(own)  # the shared part
    centre = np.eye(K) - 1 / K
    expected = np.sqrt(own + np.diag(centre @ covariance @ centre))
    assert policy.estimate(x).bonus == pytest.approx(expected, abs=1e-10)


def test_an_arm_that_never_played_is_judged_by_its_relatives():
    policy = HybridLinUCB(n_arms=4, dim=1, features=1, ridge=5.0, floor=0.0, alpha=0.05)
    for arm, rank in enumerate([-1.0, -1.0, 1.0, 1.0]):
        policy.describe(arm, [rank])
    for _ in range(100):
        policy.learn([1.0], 0, [0.2])
        policy.learn([1.0], 2, [0.8])
    mean = policy.estimate([1.0]).mean[:, 0]
    assert mean[1] == pytest.approx(0.2, abs=0.1)
    assert mean[3] == pytest.approx(0.8, abs=0.1)


def test_a_new_arm_can_be_described_until_it_learns():
    policy = described(HybridLinUCB)
    arm = policy.add_arm()
    policy.describe(arm, [0.3, -0.1])
    policy.learn(np.ones(D), arm, [1.0, 0.0])
    with pytest.raises(InvalidInput, match="learned already"):
        policy.describe(arm, [0.0, 0.0])
    with pytest.raises(InvalidInput, match="shape"):
        policy.describe(0, [1.0])
    with pytest.raises(InvalidInput, match="arm must be"):
        policy.describe(9, [1.0, 1.0])
    again = HybridLinUCB.from_state(policy.state())
    assert again.described.tolist() == policy.described.tolist()


def test_a_very_large_ridge_makes_arms_one_or_strangers():
    """A very large own ridge makes all arms one and a very large shared one makes them strangers."""
    shared, strangers = HybridLinUCB(n_arms=2, dim=1, ridge=1e9), HybridLinUCB(n_arms=2, dim=1, shared_ridge=1e9)
    alone = LinUCB(n_arms=2, dim=1)
    for policy in (shared, strangers, alone):
        for _ in range(30):
            policy.learn([1.0], 0, [0.9])
    assert shared.estimate([1.0]).mean[:, 0] == pytest.approx([0.9 * 30 / 31] * 2, abs=1e-6)
    assert strangers.estimate([1.0]).mean[:, 0] == pytest.approx(alone.estimate([1.0]).mean[:, 0], abs=1e-6)


@pytest.mark.parametrize(("hybrid", "disjoint"), [(HybridLinUCB, LinUCB), (HierarchicalLinTS, LinTS)])
def test_many_alike_arms_cost_less_regret_than_strangers(hybrid, disjoint):
    def regret(policy, seed):
        rng = np.random.default_rng(seed)
        common, own = rng.normal(size=D) * 0.3, rng.normal(size=(20, D)) * 0.03
        total = 0.0
        for _ in range(300):
            x = np.concatenate([[1.0], rng.uniform(-1, 1, D - 1)])
            means = ranks * (common @ x) + own @ x
            p = policy.probabilities(x)
            arm = draw(p, rng.random())
            policy.learn(x, arm, [means[arm] + 0.1 * rng.normal()])
            total += means.max() - means @ p
        return total

    ranks = np.linspace(-1, 1, 20)
    total = np.zeros(2)
    for seed in range(2):
        ours = hybrid(n_arms=20, dim=D, features=1, ridge=10.0)
        for arm, rank in enumerate(ranks):
            ours.describe(arm, [rank])
        total += regret(ours, seed), regret(disjoint(n_arms=20, dim=D), seed)
    assert total[0] < 0.8 * total[1]


def test_a_negative_number_of_features_is_refused():
    with pytest.raises(InvalidInput, match="at least 0"):
        HybridLinUCB(n_arms=1, dim=1, features=-1)
