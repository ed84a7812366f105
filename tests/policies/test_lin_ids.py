"""Information-directed sampling against Monte Carlo and a search over distributions."""

import numpy as np
import pytest

from bandit_router.policies.lin_ids import LinIDS, information_directed, regret_and_information


@pytest.mark.parametrize(("arms", "seed"), [(2, 0), (4, 1), (8, 2)])
def test_regret_and_information_are_those_of_simulated_scores(arms, seed):
    rng = np.random.default_rng(seed)
    mean, sd = 0.3 * rng.normal(size=arms), np.exp(rng.uniform(-2.5, 0, arms))
    regret, information = regret_and_information(mean, sd)
    scores = mean + sd * rng.normal(size=(400_000, arms))
    best = scores.argmax(axis=1)
    groups = [scores[best == b] for b in range(arms) if (best == b).any()]
    expected = sum(len(group) / len(scores) * (group.mean(axis=0) - mean) ** 2 for group in groups)
    assert regret == pytest.approx(scores.max(axis=1).mean() - mean, abs=3e-3)
    assert information == pytest.approx(expected, abs=3e-3)


def test_the_best_of_two_arms_is_the_closed_form_of_equal_deviations():
    """For two standard normals E[max] = 1 / sqrt(pi), and knowing the winner moves each mean by just that."""
    regret, information = regret_and_information(np.zeros(2), np.ones(2))
    assert regret == pytest.approx([np.pi**-0.5] * 2, abs=1e-4)
    assert information == pytest.approx([1 / np.pi] * 2, abs=1e-4)


def test_no_distribution_has_a_smaller_ratio():
    rng = np.random.default_rng(3)
    for _ in range(30):
        regret, information = rng.random(5) + 0.01, rng.random(5) ** 3
        p = information_directed(regret, information)
        others = rng.dirichlet(np.full(5, 0.3), size=20_000)
        mixed = [(i, j, q) for i in range(5) for j in range(i) for q in np.linspace(0, 1, 51)]
        pairs = np.array([q * np.eye(5)[i] + (1 - q) * np.eye(5)[j] for i, j, q in mixed])
        search = np.concatenate([others, pairs])
        assert p.sum() == pytest.approx(1)
        assert (p > 0).sum() <= 2
        assert (p @ regret) ** 2 / (p @ information) <= ((search @ regret) ** 2 / (search @ information)).min() + 1e-12


def test_without_information_the_best_estimate_is_played():
    assert information_directed(np.array([0.2, 0.0]), np.zeros(2)).tolist() == [0.0, 1.0]
    policy = LinIDS(n_arms=3, dim=1, floor=0.0)
    for arm, quality in enumerate([0.2, 0.9, 0.5]):
        for _ in range(200):
            policy.learn([1.0], arm, [quality])
    assert policy.probabilities([1.0]).tolist() == [0.0, 1.0, 0.0]


def test_extreme_gaps_and_ties_still_give_a_distribution():
    for mean, sd in (([0.0, 1e6], [1.0, 1.0]), ([0.0, 0.0], [1e-12, 1e-12]), ([5.0, 0.0, 0.0], [0.01, 100.0, 1e-9])):
        p = information_directed(*regret_and_information(np.array(mean), np.array(sd)))
        assert np.isfinite(p).all()
        assert p.sum() == pytest.approx(1)
