"""Distributions against SciPy's adaptive quadrature, Monte Carlo and hand calculations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES
from bandit_router.policies.distributions import draw, greedy, inverse_gap, softmax
from bandit_router.policies.win_probabilities import beta_wins, gaussian_wins


def test_two_normals_have_a_closed_form():
    p = gaussian_wins(np.array([0.2, 0.0]), np.array([0.3, 0.4]))
    np.testing.assert_allclose(p, [ndtr(0.2 / 0.5), ndtr(-0.2 / 0.5)], atol=1e-9)


@given(n=st.integers(2, 24), seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 0.3, 3.0]))
@settings(max_examples=40, deadline=None)
def test_gaussian_win_probabilities_equal_adaptive_quadrature(n, seed, spread):
    rng = np.random.default_rng(seed)
    mean, sd = spread * rng.normal(size=n), np.exp(rng.uniform(-5, 1, n))
    p = gaussian_wins(mean, sd)
    arm = int(p.argmax())

    def integrand(z):
        others = ndtr((mean[arm] + sd[arm] * z - mean) / sd)
        return np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * np.delete(others, arm).prod()

    knots = np.unique(np.clip((mean - mean[arm]) / sd[arm], -8, 8))
    expected = quad(integrand, -8.5, 8.5, points=knots, limit=500, epsabs=1e-11)[0]
    assert p[arm] == pytest.approx(expected, abs=5e-6)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_points_and_ties_share():
    np.testing.assert_allclose(gaussian_wins(np.array([1.0, 1.0, 0.0]), np.zeros(3)), [0.5, 0.5, 0.0], atol=1e-12)


def test_beta_win_probabilities_equal_a_hand_calculation():
    # P(Beta(2,1) > Beta(1,1)) = integral of 2s * s ds = 2/3
    np.testing.assert_allclose(beta_wins(np.array([2.0, 1.0]), np.ones(2), 1.0, np.zeros(2)), [2 / 3, 1 / 3], atol=1e-4)


def test_beta_win_probabilities_with_offsets_match_monte_carlo():
    rng = np.random.default_rng(0)
    a, b, offset = np.array([0.5, 20.0, 3.0]), np.array([0.5, 10.0, 1.0]), np.array([0.0, 0.1, -0.2])
    draws = 0.8 * rng.beta(a[:, None], b[:, None], size=(3, 400_000)) + offset[:, None]
    expected = np.bincount(draws.argmax(axis=0), minlength=3) / 400_000
    np.testing.assert_allclose(beta_wins(a, b, 0.8, offset), expected, atol=4e-3)


@pytest.mark.parametrize("prior", [1.0, 0.1, 0.01])
def test_an_arm_that_another_one_surely_beats_wins_nothing(prior):
    a, b = np.full(3, prior), np.array([prior + 5.0, prior, prior])
    wins = beta_wins(a, b, 1.0, np.array([-0.3, -2.0, -2.0]))
    np.testing.assert_allclose(wins, [1.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("prior", [0.3, 0.05, 0.01])
def test_beta_scores_with_most_mass_at_their_ends_match_monte_carlo(prior):
    rng = np.random.default_rng(1)
    a, b, offset = prior + np.array([0.0, 3.0, 0.0]), prior + np.array([2.0, 0.0, 0.0]), np.array([-0.2, -0.1, 0.4])
    draws = rng.beta(a[:, None], b[:, None], size=(3, 400_000)) + offset[:, None]
    expected = np.bincount(draws.argmax(axis=0), minlength=3) / 400_000
    np.testing.assert_allclose(beta_wins(a, b, 1.0, offset), expected, atol=4e-3)


def test_inverse_gap_weighting_equals_a_hand_calculation():
    # K = 2, rate 10, gap 0.3: the other arm gets 1 / (2 + 3)
    np.testing.assert_allclose(inverse_gap(np.array([0.5, 0.8]), 10.0), [0.2, 0.8])


def test_softmax_survives_large_scores():
    np.testing.assert_allclose(softmax(np.array([1e6, 1e6 - 1.0]), 1.0), [1 / (1 + np.exp(-1)), 1 / (1 + np.e)])


def test_greedy_shares_exact_ties_and_spreads_the_floor():
    np.testing.assert_allclose(greedy(np.array([1.0, 1.0, 0.0]), 0.3), [0.45, 0.45, 0.1])


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-12, 0.1, 1.0]), min_size=1, max_size=6).filter(any),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_never_lands_on_an_arm_of_probability_zero(weights, uniform):
    p = np.array(weights) / sum(weights)
    assert p[draw(p, uniform)] > 0


def test_a_draw_at_the_very_end_of_the_cdf_stays_on_a_possible_arm():
    assert draw(np.array([0.5, 0.5, 0.0]), np.nextafter(1.0, 0.0)) == 1


@pytest.mark.parametrize(("policy", "setting"), [("LinUCB", "alpha"), ("UCB1", "scale"), ("Exp3", "rate")])
def test_a_width_that_is_no_number_never_reaches_a_policy(policy, setting):
    """It would make every score NaN, and a router would serve its fallback for ever."""
    with pytest.raises(InvalidInput, match=setting):
        POLICIES[policy](n_arms=2, dim=1, **{setting: float("nan")})
