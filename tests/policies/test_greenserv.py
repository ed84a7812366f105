"""GreenServ's two code faults (repository TZData1/llm-inference-router, commit 8e055dd) are not in our policies.

The missing column of its readability bins is in test_categories.py; here is its posterior covariance, scaled twice.
"""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.policies.lints import LinTS

SIGMA, PRIOR_VARIANCE = 0.25, 2.0


def observed(seed, n=40, dim=5):
    """Contexts and rewards of one arm."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    return x, x @ rng.normal(size=dim) + SIGMA * rng.normal(size=n)


def bayes_covariance(x):
    """Posterior covariance of Bayesian linear regression, by definition (Bishop 2006, eq. 3.54)."""
    return np.linalg.inv(np.eye(x.shape[1]) / PRIOR_VARIANCE + x.T @ x / SIGMA**2)


def greenserv_covariance(x):
    """As its code has it: B holds x x' / sigma^2 already, and sigma^2 B^-1 is what it draws from."""
    precision = np.eye(x.shape[1]) / PRIOR_VARIANCE + x.T @ x / SIGMA**2
    return SIGMA**2 * np.linalg.inv(precision)


@pytest.mark.parametrize("seed", range(3))
def test_thompson_sampling_draws_with_the_whole_deviation(seed):
    """Thompson sampling draws with the posterior deviation once and not a quarter of it."""
    x, rewards = observed(seed)
    policy = LinTS(n_arms=2, dim=5, noise=SIGMA, ridge=SIGMA**2 / PRIOR_VARIANCE)
    for context, reward in zip(x, rewards, strict=True):
        policy.learn(context, 0, [reward])
    for probe in np.random.default_rng(seed + 10).normal(size=(5, 5)):
        ours = policy.estimate(probe).bonus[0]
        assert ours == pytest.approx(np.sqrt(probe @ bayes_covariance(x) @ probe), rel=1e-9)
        assert np.sqrt(probe @ greenserv_covariance(x) @ probe) == pytest.approx(SIGMA * ours, rel=1e-9)


def test_the_posterior_mean_is_that_of_bayesian_regression():
    x, rewards = observed(7)
    policy = LinTS(n_arms=2, dim=5, noise=SIGMA, ridge=SIGMA**2 / PRIOR_VARIANCE)
    for context, reward in zip(x, rewards, strict=True):
        policy.learn(context, 0, [reward])
    mean = bayes_covariance(x) @ x.T @ rewards / SIGMA**2
    np.testing.assert_allclose(policy.estimate(np.ones(5)).mean[0, 0], mean.sum())
