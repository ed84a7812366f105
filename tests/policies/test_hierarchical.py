"""The hierarchical model against the dense computation of the same posterior and evidence."""

import numpy as np
import pytest

from bandit_router.policies.hierarchical import FLAT, TYPICAL, TYPICAL_COST, HierarchicalRidge

K, D, N = 3, 2, 40


def history(seed=0, n=N):
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.ones((n, 1)), rng.normal(size=(n, D))], axis=1)
    return x, rng.integers(0, K, n), rng.uniform(0, 1, n)


def learned(x, arms, y, channels=1):
    model = HierarchicalRidge(K, D, channels)
    for row, arm, quality in zip(x, arms, y, strict=True):
        model.learn(int(arm), row[1:], np.array([quality]), 1.0)
    return model


def test_costs_are_ridge_regressions_about_the_arms_running_mean():
    x, arms, quality = history()
    cost = np.where(np.random.default_rng(1).random(N) < 0.8, 5.0 + x[:, 1], np.nan)
    model = HierarchicalRidge(K, D, 2)
    for row, arm, y in zip(x, arms, np.column_stack([quality, cost]), strict=True):
        model.learn(int(arm), row[1:], y, 1.0)
    request = np.array([1.0, 0.3, -0.7])
    prediction = model.predict(request[1:])
    prior = np.diag(model._diagonals(TYPICAL_COST**-2, model.shared_scale)[0][0])
    for arm in range(K):
        mine = arms == arm
        covariance = np.linalg.inv(x[mine].T @ x[mine] + prior)
        assert prediction.cost_own[arm] == pytest.approx(request @ covariance @ request)
        if not np.isnan(cost[mine]).any():
            mean = cost[mine].mean()
            theta = covariance @ x[mine].T @ (cost[mine] - mean)
            assert prediction.mean[arm, 1] == pytest.approx(mean + request @ theta)


def dense(x, arms, precision, shared_precision):
    """Design of (theta_0, theta_1 - theta_0, ...) and the prior precision of these coefficients."""
    d = x.shape[1]
    design = np.zeros((len(x), (K + 1) * d))
    design[:, :d] = x
    for i, arm in enumerate(arms):
        design[i, (arm + 1) * d : (arm + 2) * d] = x[i]
    return design, np.concatenate([shared_precision, np.tile(precision, K)])


def test_means_and_variances_of_gaps_are_those_of_the_joint_regression():
    x, arms, y = history()
    model = learned(x, arms, y)
    design, prior = dense(x, arms, model.precision[0], model.shared_precision)
    covariance = np.linalg.inv(design.T @ design + np.diag(prior))
    theta = covariance @ design.T @ y
    request = np.array([1.0, 0.3, -0.7])
    rows = np.array([np.concatenate([request, np.kron(np.eye(K)[a], request)]) for a in range(K)])
    prediction = model.predict(request[1:])
    assert prediction.mean[:, 0] == pytest.approx(rows @ theta, abs=1e-10)
    for leader in range(K):
        gaps = rows - rows[leader]
        expected = model.noise * np.einsum("ai,ij,aj->a", gaps, covariance, gaps)
        got = model.gap_variance(prediction, np.arange(K), leader)
        others = np.arange(K) != leader
        assert got[others] == pytest.approx(expected[others], rel=1e-9)


def test_the_evidence_is_the_marginal_likelihood():
    """log p(y) of y ~ Normal(0, s (I + X C X')), s inverse-gamma: differences between scales, by dense algebra."""
    x, arms, y = history()
    model = learned(x, arms, y)

    def log_marginal(scale, shared_scale):
        precision, shared_precision = model._diagonals(scale, shared_scale)
        design, prior = dense(x, arms, precision[0], shared_precision)
        v = np.eye(N) + design @ np.diag(1 / prior) @ design.T
        return -np.linalg.slogdet(v)[1] / 2 - (N + 1) / 2 * np.log(0.25 + y @ np.linalg.solve(v, y))

    def log_prior(scale, shared_scale):
        """Half-Cauchy densities of the deviations, over their logarithms."""
        ratio = np.concatenate([scale, shared_scale[1:]]) ** -0.5 / TYPICAL
        return np.log(ratio / (1 + ratio**2)).sum()

    one, two = (np.ones(3), np.array([FLAT, 1.0, 1.0])), (np.array([7.0, 2.0, 3.0]), np.array([0.3, 2.0, 5.0]))
    expected = log_marginal(*one) - log_marginal(*two) + log_prior(*one) - log_prior(*two)
    assert model.evidence(*one) - model.evidence(*two) == pytest.approx(expected, abs=1e-8)


def test_the_noise_kept_step_by_step_is_the_one_solved_from_the_sums():
    model = learned(*history())
    kept = model.noise
    model.fit()
    assert kept == pytest.approx(model.noise, rel=1e-10)


def test_a_weight_of_two_is_two_outcomes():
    x, arms, y = history(n=20)
    double, twice = HierarchicalRidge(K, D, 2), HierarchicalRidge(K, D, 2)
    for row, arm, quality in zip(x, arms, y, strict=True):
        double.learn(int(arm), row[1:], np.array([quality, 0.1]), 2.0)
        for _ in range(2):
            twice.learn(int(arm), row[1:], np.array([quality, 0.1]), 1.0)
    assert double.predict(x[0, 1:]).mean == pytest.approx(twice.predict(x[0, 1:]).mean, abs=1e-10)
    assert double.noise == pytest.approx(twice.noise, rel=1e-9)


def test_columns_sort_themselves_into_constants_indicators_and_numbers():
    model = HierarchicalRidge(2, 4, 1)
    rng = np.random.default_rng(0)
    for i in range(64):
        model.learn(i % 2, np.array([3.0, i % 3 == 0, rng.normal(), 0.5 * (i % 2)]), np.array([0.5]), 1.0)
    assert model.kind.tolist() == [0, 0, 1, 2, 2]


def test_a_block_of_noise_is_turned_off_and_a_block_that_matters_is_not():
    rng = np.random.default_rng(1)
    value = rng.normal(0.5, 0.2, (K, 4))
    model = HierarchicalRidge(K, 4 + 20, 1)
    for _ in range(512):
        task, arm = rng.integers(4), int(rng.integers(K))
        x = np.concatenate([np.eye(4)[task], rng.normal(size=20)])
        model.learn(arm, x, np.array([value[arm, task] + rng.normal(0, 0.2)]), 1.0)
    _, indicator, number = model.scale
    assert indicator < 10
    assert number > 50


def test_the_unit_of_a_number_does_not_matter():
    x, arms, y = history(n=128)
    plain, rescaled = learned(x, arms, y), learned(x * [1.0, 1000.0, 1.0], arms, y)
    assert rescaled.scale == pytest.approx(plain.scale)
    assert rescaled.predict(x[0, 1:] * [1000.0, 1.0]).mean == pytest.approx(plain.predict(x[0, 1:]).mean, abs=1e-8)


def test_a_new_arm_is_expected_to_be_what_the_arms_share():
    model = learned(*history())
    model.add_arm(None, 1.0)
    request = np.array([1.0, 0.3, -0.7])
    assert model.predict(request[1:]).mean[-1, 0] == pytest.approx(request @ model.shared_theta)


def test_costs_of_an_arm_without_outcomes_are_the_others_mean():
    model = HierarchicalRidge(3, 1, 2)
    for arm, cost in ((0, 2.0), (1, 4.0)):
        model.learn(arm, np.ones(1), np.array([0.5, cost]), 1.0)
    assert model.predict(np.ones(1)).mean[:, 1] == pytest.approx([2.0, 4.0, 3.0])


def test_a_restart_moves_the_kept_outcomes_and_nothing_else():
    """Keeping everything and shifting by s is having seen outcomes that were s higher."""
    x, arms, y = history()
    model, higher = learned(x, arms, y), learned(x, arms, y + 0.2 * (arms == 1))
    kept = model.count.copy()
    model.restart(1, 1.0, 0.2)
    higher.restart(1, 1.0, 0.0)
    assert model.predict(x[0, 1:]).mean == pytest.approx(higher.predict(x[0, 1:]).mean, abs=1e-10)
    assert model.noise == pytest.approx(higher.noise)
    assert model.count.tolist() == [kept[0] / 2, kept[1], kept[2] / 2]
