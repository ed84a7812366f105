"""Preferences against a logistic regression solved by SciPy, the pair's rule by hand, and what it learns to serve."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import draw
from bandit_router.policies.dueling import DuelingLinear

ABILITY = np.array([[0.0, 1.5], [0.5, 0.0], [0.8, -1.5]])  # arm 0 is best at x = 1, arm 2 at x = -1


def duels(policy, n, seed=0):
    """Let it choose pairs and see Bradley-Terry winners; returns contexts, winners and losers."""
    rng, log = np.random.default_rng(seed), []
    for _ in range(n):
        x = np.array([1.0, rng.uniform(-1, 1)])
        a, b = policy.pairs[draw(policy.probabilities(x), rng.random())].tolist()
        if rng.random() >= expit((ABILITY[a] - ABILITY[b]) @ x):
            a, b = b, a
        policy.learn_preference(x, winner=a, loser=b)
        log.append((x, a, b))
    return log


def test_online_newton_comes_near_the_penalised_maximum_likelihood():
    policy = DuelingLinear(n_arms=3, dim=2, floor=1.0)
    log = duels(policy, 1500)

    def loss(flat):
        theta = flat.reshape(3, 2)
        margins = np.array([(theta[w] - theta[loser]) @ x for x, w, loser in log])
        return np.logaddexp(0, -margins).sum() + 0.5 * flat @ flat

    best = minimize(loss, np.zeros(6)).x.reshape(3, 2)
    for x in ([1.0, 1.0], [1.0, 0.0], [1.0, -1.0]):
        scores = best @ x
        expected = expit(scores[:, None] - scores[None, :])
        assert policy.chance(x) == pytest.approx(expected, abs=0.04)


def test_it_learns_which_arm_to_serve_where():
    policy = DuelingLinear(n_arms=3, dim=2)
    duels(policy, 1500)
    assert [policy.best([1.0, x]) for x in (0.9, -0.9)] == [0, 2]


def test_one_update_is_the_one_computed_by_hand():
    """From nothing: p = 1/2, H = I + zz'/4, theta = H^-1 z / 2 with z = (x, -x): theta = x / 2 / (1 + |x|^2 / 2)."""
    policy = DuelingLinear(n_arms=2, dim=2)
    x = np.array([1.0, 2.0])
    policy.learn_preference(x, winner=0, loser=1)
    assert policy.theta == pytest.approx(np.array([x, -x]) / 2 / (1 + 2 * (x @ x) / 4))


def test_the_widest_plausible_pair_is_dueled_and_beaten_arms_are_left():
    policy = DuelingLinear(n_arms=4, dim=1, floor=0.06)
    for _ in range(400):  # 0 and 1 beat 2 and 3, and are even with each other; 0 has been compared more often
        for winner, loser in ((0, 2), (0, 3), (1, 2), (1, 3), (0, 2)):
            policy.learn_preference([1.0], winner=winner, loser=loser)
    p = policy.probabilities([1.0])
    pair = {tuple(pair): value for pair, value in zip(policy.pairs.tolist(), p, strict=True)}
    assert pair[0, 1] == pytest.approx(0.94 + 0.01)
    assert p.sum() == pytest.approx(1.0)
    assert pair[2, 3] == pytest.approx(0.01)
    only = policy.probabilities([1.0], np.array([True, False, True, True]))
    assert only[[0, 3, 4]].tolist() == [0, 0, 0]
    assert only.sum() == pytest.approx(1.0)


def test_at_first_all_pairs_are_alike():
    assert DuelingLinear(n_arms=3, dim=1).probabilities([1.0]) == pytest.approx([1 / 3] * 3)


def test_a_reload_decides_and_learns_alike():
    policy = DuelingLinear(n_arms=3, dim=2, alpha=0.5)
    duels(policy, 50)
    copy = DuelingLinear.from_state(policy.state())
    for engine in (policy, copy):
        duels(engine, 50, seed=1)
    assert {k: v.tobytes() for k, v in policy.state().items()} == {k: v.tobytes() for k, v in copy.state().items()}


def test_bad_input_is_refused_before_anything_changes():
    policy = DuelingLinear(n_arms=3, dim=2)
    calls = (
        lambda: policy.learn_preference([1.0, 0.0], winner=1, loser=1),
        lambda: policy.learn_preference([1.0, 0.0], winner=3, loser=1),
        lambda: policy.learn_preference([np.nan, 0.0], winner=0, loser=1),
        lambda: policy.probabilities([1.0]),
        lambda: policy.probabilities([1.0, 0.0], np.array([True, False, False])),
        lambda: DuelingLinear(n_arms=1, dim=2),
    )
    for call in calls:
        with pytest.raises(InvalidInput):
            call()
    assert policy.steps == 0
    assert not policy.theta.any()
