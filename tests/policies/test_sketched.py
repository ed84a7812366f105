"""LinUCB on a sketched subspace: what it equals, what it keeps when the subspace turns, and what it saves."""

import numpy as np
import pytest

from bandit_router.declared import setting
from bandit_router.errors import InvalidInput
from bandit_router.policies import LinUCB, SketchedLinUCB
from bandit_router.policies.distributions import draw
from bandit_router.testing import POLICY_LAWS


def decaying(rng, steps, dim, power):
    """Contexts whose energy falls along a random orthonormal basis, mean square dim."""
    scale = np.arange(1, dim + 1) ** -power
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return rng.normal(size=(steps, dim)) * (scale * np.sqrt(dim / (scale**2).sum())) @ turn


def trained(policy, contexts, theta, rng):
    for x in contexts:
        arm = int(rng.integers(policy.n_arms))
        policy.learn(x, arm, theta[arm] @ x + 0.1 * rng.normal(size=policy.channels))
    return policy


@pytest.mark.parametrize("rank", [6, 40])
def test_a_sketch_of_full_rank_is_linucb(rank):
    rng, sizes = np.random.default_rng(0), {"n_arms": 4, "dim": 6, "channels": 2, "ridge": 0.5}
    sketched, exact = SketchedLinUCB(**sizes, rank=rank), LinUCB(**sizes)
    theta, prices = rng.normal(size=(4, 2, 6)), np.array([1.0, -0.3])
    for _ in range(300):
        x = rng.normal(size=6)
        p, q = (policy.probabilities(x, prices=prices) for policy in (sketched, exact))
        np.testing.assert_allclose(p, q, atol=1e-12)
        arm = draw(p, rng.random())
        y = theta[arm] @ x + 0.1 * rng.normal(size=2)
        for policy in (sketched, exact):
            policy.learn(x, arm, y)
    assert sketched.state()["recent"].size == 0


def test_contexts_inside_the_subspace_are_scored_as_linucb_scores_them():
    rng = np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(40, 3)))[0].T
    sketched, exact = (form(n_arms=3, dim=40) for form in (SketchedLinUCB, LinUCB))
    sketched = SketchedLinUCB(n_arms=3, dim=40, rank=5)
    trained(
        sketched, rng.normal(size=(10, 3)) @ plane, np.zeros((3, 1, 40)), rng
    )  # ten outcomes, then the subspace turns
    sketched.inside.restore(SketchedLinUCB(n_arms=3, dim=5, rank=5).inside.arrays())
    sketched.outside[:], sketched.precision[:] = 0.0, 1.0
    for x in rng.normal(size=(9, 3)) @ plane:
        arm, y = int(rng.integers(3)), rng.normal(size=1)
        for policy in (sketched, exact):
            policy.learn(x, arm, y)
        one, two = sketched.estimate(x), exact.estimate(x)
        np.testing.assert_allclose(one.mean, two.mean, atol=1e-9)
        np.testing.assert_allclose(one.bonus, two.bonus, atol=1e-9)


def test_the_subspace_is_that_of_the_contexts():
    rng = np.random.default_rng(2)
    plane = np.linalg.qr(rng.normal(size=(60, 4)))[0].T
    contexts = rng.normal(size=(64, 4)) @ plane + 0.01 * rng.normal(size=(64, 60))
    policy = trained(SketchedLinUCB(n_arms=2, dim=60, rank=4), contexts, np.zeros((2, 1, 60)), rng)
    cosines = np.linalg.svd(policy.basis @ plane.T)[1]
    assert cosines.min() > 0.99
    np.testing.assert_allclose(policy.basis @ policy.basis.T, np.eye(4), atol=1e-12)


def test_a_turn_keeps_every_estimate_and_the_trace_of_every_precision():
    rng = np.random.default_rng(3)
    policy = SketchedLinUCB(n_arms=3, dim=30, channels=2, rank=4)
    trained(policy, decaying(rng, 40, 30, 1.0), rng.normal(size=(3, 2, 30)), rng)

    def traces():
        return np.trace(policy.inside.sums()["gram"], axis1=1, axis2=2) + (30 - 4) * policy.precision

    probes = rng.normal(size=(20, 30))
    basis, before, means = policy.basis, traces(), [policy.estimate(x).mean for x in probes]
    policy.recent = decaying(rng, 8, 30, 1.0)
    policy._turn()
    assert np.abs(policy.basis - basis).max() > 0.1
    np.testing.assert_allclose(traces(), before, rtol=1e-9)
    np.testing.assert_allclose([policy.estimate(x).mean for x in probes], means, atol=1e-9)


def test_decaying_embeddings_cost_no_more_regret_than_in_full():
    """Embeddings with decaying energy cost no more regret than full statistics."""
    n_arms, dim, steps = 6, 96, 1500
    regrets = {SketchedLinUCB: [], LinUCB: []}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        contexts, theta = decaying(rng, steps, dim, 1.0), rng.normal(size=(n_arms, dim)) / dim**0.5
        means, uniforms = contexts @ theta.T, rng.random(steps)
        rewards = means + 0.3 * rng.normal(size=means.shape)
        for form, regret in regrets.items():
            policy = form(n_arms=n_arms, dim=dim)
            arms = []
            for x, reward, uniform in zip(contexts, rewards, uniforms, strict=True):
                arms.append(draw(policy.probabilities(x), uniform))
                policy.learn(x, arms[-1], reward[arms[-1:]])
            regret.append((means.max(axis=1) - means[np.arange(steps), arms]).sum())
    assert np.mean(regrets[SketchedLinUCB]) < 1.1 * np.mean(regrets[LinUCB])


def test_a_channel_that_was_not_metered_keeps_its_estimate():
    rng = np.random.default_rng(4)
    policy = SketchedLinUCB(n_arms=2, dim=20, channels=2, rank=3)
    trained(policy, rng.normal(size=(30, 20)), rng.normal(size=(2, 2, 20)), rng)
    x = rng.normal(size=20)
    before = policy.estimate(x).mean[1]
    policy.learn(x, 1, [5.0, np.nan])
    after = policy.estimate(x).mean[1]
    assert after[0] != before[0]
    assert after[1] == pytest.approx(before[1])


def test_an_arm_added_like_another_starts_from_its_estimate():
    rng = np.random.default_rng(5)
    policy = SketchedLinUCB(n_arms=2, dim=20, rank=3)
    trained(policy, rng.normal(size=(30, 20)), rng.normal(size=(2, 1, 20)), rng)
    policy.add_arm(like=1, strength=4.0)
    x = rng.normal(size=20)
    estimate = policy.estimate(x)
    assert estimate.mean[2] == pytest.approx(estimate.mean[1])
    assert estimate.bonus[2] == pytest.approx(0.3 * np.sqrt(x @ x / 4.0))


def test_a_rank_below_one_is_refused():
    with pytest.raises(InvalidInput, match="rank must be at least 1, got 0"):
        SketchedLinUCB(n_arms=2, dim=4, rank=0)


class RankTwo(SketchedLinUCB):
    """A subspace smaller than the contexts of the laws."""

    rank: int = setting(default=2)


@pytest.mark.parametrize("law", POLICY_LAWS, ids=lambda law: law.__name__)
def test_the_laws_hold_where_the_subspace_turns(law):
    law(RankTwo)
