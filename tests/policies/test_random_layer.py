"""The random layer solves what no linear model can, and is the one its docstring says."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import LinTS, RandomLayerTS


def exclusive_or(policy):
    """Largest error of the learned quality of arm 0 on the four corners, whose XOR is the quality."""
    corners = [np.array([1.0, a, b]) for a in (-1, 1) for b in (-1, 1)]
    for _ in range(200):
        for x in corners:
            policy.learn(x, 0, [float(x[1] != x[2])])
    return max(abs(policy.estimate(x).mean[0, 0] - float(x[1] != x[2])) for x in corners)


def test_exclusive_or_is_learned_where_a_linear_model_says_one_half():
    assert exclusive_or(LinTS(n_arms=2, dim=3)) == pytest.approx(0.5, abs=0.01)
    assert exclusive_or(RandomLayerTS(n_arms=2, dim=3)) < 0.1


def test_features_are_the_context_and_rectified_units():
    """E[max(0, u)^2] = Var(u) / 2, so width units of sqrt(2 / width) have mean square |x|^2 / dim + 1 in total."""
    x = np.array([1.0, -2.0, 0.5, 1.0])
    layers = np.array([RandomLayerTS(n_arms=1, dim=4, width=100, seed=seed).features(x) for seed in range(500)])
    assert layers[0, :4].tolist() == x.tolist()
    assert (layers[:, 4:] >= 0).all()
    assert (layers[:, 4:] ** 2).sum(axis=1).mean() == pytest.approx(x @ x / 4 + 1, rel=0.05)


def test_many_contexts_are_estimated_as_one_by_one():
    policy, rng = RandomLayerTS(n_arms=3, dim=2), np.random.default_rng(0)
    for _ in range(30):
        policy.learn(rng.normal(size=2), int(rng.integers(3)), [rng.random()])
    contexts = rng.normal(size=(5, 2))
    mean, bonus = policy.estimates(contexts)
    for x, m, b in zip(contexts, mean, bonus, strict=True):
        one = policy.estimate(x)
        assert m == pytest.approx(one.mean, abs=1e-12)
        assert b == pytest.approx(one.bonus, abs=1e-12)


def test_a_layer_without_units_and_a_negative_seed_are_refused():
    with pytest.raises(InvalidInput, match="width must be at least 1"):
        RandomLayerTS(n_arms=1, dim=1, width=0)
    with pytest.raises(InvalidInput, match="seed must be at least 0, got -1"):
        RandomLayerTS(n_arms=1, dim=1, seed=-1)
