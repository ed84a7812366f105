"""Confidence sequences: coverage at every stopping time, known values, and where fixed-n intervals fail."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.replay.estimators.intervals import bootstrap, clopper_pearson, normal
from bandit_router.replay.estimators.sequences import (
    METHODS,
    betting,
    empirical_bernstein,
    gamma_mixture,
    gamma_sums,
    log_capital,
    log_wealth,
    robust_difference,
    robust_interval,
    weighted_difference,
    weighted_interval,
)


def adaptive_scores(rng: np.random.Generator, n: int, value: float) -> np.ndarray:
    """IPS scores of arm 0 under a logger that plays what looked better so far, floor 0.1."""
    scores, wins, plays = np.empty(n), np.ones(2), np.full(2, 2.0)
    for t in range(n):
        p = 0.9 if wins[0] / plays[0] >= wins[1] / plays[1] else 0.1
        arm = int(rng.random() >= p)
        reward = float(rng.random() < (value, 0.5)[arm])
        wins[arm] += reward
        plays[arm] += 1
        scores[t] = reward / p if arm == 0 else 0.0
    return scores


_RNG = np.random.default_rng(0)
ADAPTIVE = [adaptive_scores(_RNG, 400, 0.4) for _ in range(150)]


def ever_wrong(y: np.ndarray, value: float, method: str, alpha: float) -> bool:
    """Whether the lower bound passes the true value at any step."""
    if method == "empirical_bernstein":
        return bool((empirical_bernstein(y, alpha=alpha, scale=10.0) > value).any())
    if method == "betting":
        return bool((log_capital(y, value, alpha=alpha, scale=10.0) >= math.log(1 / alpha)).any())
    t = np.arange(1, len(y) + 1)
    guess = np.minimum((np.concatenate([[0.0], y.cumsum()[:-1]]) + 0.5) / t, 1.0)
    wealth = log_wealth(y.cumsum() - t * value, ((y - guess) ** 2).cumsum())
    return bool((wealth >= math.log(1 / alpha)).any())


@pytest.mark.parametrize("method", METHODS)
def test_sequences_hold_at_every_stopping_time_under_an_adaptive_logger(method: str) -> None:
    wrong = sum(ever_wrong(y, 0.4, method, alpha=0.1) for y in ADAPTIVE)
    assert wrong / len(ADAPTIVE) <= 0.1


def test_a_normal_interval_that_is_watched_misses_far_too_often() -> None:
    misses = 0
    for y in ADAPTIVE:
        t = np.arange(1, 401)
        mean = y.cumsum() / t
        sd = np.sqrt(np.maximum((y**2).cumsum() / t - mean**2, 0))
        misses += bool((np.abs(mean - 0.4) > 1.96 * sd / np.sqrt(t))[30:].any())
    assert misses / len(ADAPTIVE) > 0.2


def test_the_gamma_mixture_has_the_value_that_vw_estimators_computes() -> None:
    weight = np.array([0.5, 2.0, 0.0, 1.5] * 100)
    reward = np.array([1.0, 0.0, 1.0, 1.0] * 100)
    low, high = weighted_interval(weight, reward, method="gamma_mixture")
    assert (low, high) == pytest.approx((0.3845065227264894, 0.6640610039374204), abs=1e-9)


def test_a_drifting_value_stays_covered_by_the_gamma_mixture() -> None:
    rng, missed = np.random.default_rng(1), 0
    level = np.linspace(0.1, 0.9, 2000)
    for _ in range(100):
        y = (rng.random(2000) < level).astype(float)
        missed += gamma_mixture(*gamma_sums(y), alpha=0.05) > level.mean()
    assert missed <= 5


def test_the_betting_bound_is_where_the_capital_reaches_its_goal() -> None:
    y = np.random.default_rng(2).random(500)
    bound = betting(y, alpha=0.05)
    assert log_capital(y, bound, alpha=0.05).max() == pytest.approx(math.log(20), abs=1e-6)


def test_bounds_narrow_to_the_mean_from_both_sides() -> None:
    rng = np.random.default_rng(3)
    weight, reward = rng.choice([0.0, 2.0], 20_000), (rng.random(20_000) < 0.3).astype(float)
    for method in METHODS:
        low, high = weighted_interval(weight, reward, method=method, scale=2.0)
        assert low < 0.3 < high
        assert high - low < 0.12


def test_the_difference_to_the_logger_is_narrower_than_two_values_apart() -> None:
    rng = np.random.default_rng(4)
    arm = rng.integers(0, 2, 10_000)
    reward = (rng.random(10_000) < 0.4 + 0.2 * arm).astype(float)
    weight = 2.0 * (0.3 + 0.4 * arm)
    low, high = weighted_difference(weight, reward)
    assert low < 0.04 < high
    assert low > -0.01
    scores = weight * (reward - 0.5) + 0.5
    assert robust_difference(scores, reward, 2.0)[0] < 0.04 < robust_difference(scores, reward, 2.0)[1]


def test_good_predictions_narrow_the_sequence() -> None:
    rng = np.random.default_rng(5)
    arm = rng.integers(0, 8, 8000)
    reward = np.clip(0.5 + 0.05 * rng.normal(size=8000), 0, 1)
    weight = 8.0 * (arm == 0)
    plain = weighted_interval(weight, reward, scale=8.0)
    robust = robust_interval(0.5 + weight * (reward - 0.5), 8.0)
    assert robust[1] - robust[0] < 0.5 * (plain[1] - plain[0])


def test_fixed_n_intervals_have_their_known_values() -> None:
    assert clopper_pearson(np.ones(10), np.array([1.0] * 3 + [0.0] * 7)) == pytest.approx(
        (0.0667395, 0.6524529), abs=1e-6
    )
    assert clopper_pearson(np.ones(5), np.zeros(5)) == pytest.approx((0.0, 0.5218238), abs=1e-6)
    scores = np.random.default_rng(6).normal(size=5000)
    assert bootstrap(scores) == pytest.approx(normal(scores), abs=0.004)
    low, high = normal(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 1.959964 / math.sqrt(3), 2 + 1.959964 / math.sqrt(3)))


def test_an_impossible_level_is_refused() -> None:
    with pytest.raises(InvalidInput, match="alpha"):
        betting(np.ones(3), alpha=0.0)
