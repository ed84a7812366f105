"""Ridge statistics against direct solves."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.errors import InvalidInput
from bandit_router.policies.linear import RidgeStatistics

histories = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "steps": st.integers(0, 200),
        "dim": st.integers(1, 8),
        "channels": st.integers(1, 3),
        "ridge": st.sampled_from([0.01, 0.25, 1.0, 7.5]),
    }
)


def random_events(seed, steps, dim, channels):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield int(rng.integers(2)), rng.normal(size=dim), rng.normal(size=channels), float(rng.uniform(0.1, 3.0))


def assert_solves(statistics, arm, gram, moment):
    rng = np.random.default_rng(0)
    x = rng.normal(size=gram.shape[0])
    theta = scipy.linalg.solve(gram, moment.T, assume_a="pos").T
    variance = x @ scipy.linalg.solve(gram, x, assume_a="pos")
    means, widths = statistics.predict(x)
    np.testing.assert_allclose(means[arm], theta @ x, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(widths[arm], np.sqrt(variance), rtol=1e-8, atol=1e-8)


@given(history=histories)
@settings(max_examples=60, deadline=None)
def test_estimates_and_widths_equal_a_direct_solve(history):
    """Estimates and widths equal a direct solve for any ridge and weights."""
    ridge, dim, channels = history["ridge"], history["dim"], history["channels"]
    statistics = RidgeStatistics(2, dim, channels, ridge=ridge)
    gram = np.stack([ridge * np.eye(dim)] * 2)
    moment = np.zeros((2, channels, dim))
    for arm, x, y, weight in random_events(history["seed"], history["steps"], dim, channels):
        statistics.learn(arm, x, y, weight)
        gram[arm] += weight * np.outer(x, x)
        moment[arm] += weight * np.outer(y, x)
    for arm in (0, 1):
        assert_solves(statistics, arm, gram[arm], moment[arm])


@given(history=histories, forgetting=st.sampled_from([0.9, 0.99, 0.999]))
@settings(max_examples=40, deadline=None)
def test_forgetting_equals_the_recurrence_solved_directly(history, forgetting):
    ridge, dim, channels = history["ridge"], history["dim"], history["channels"]
    statistics = RidgeStatistics(2, dim, channels, ridge=ridge, forgetting=forgetting)
    gram = np.stack([ridge * np.eye(dim)] * 2)
    moment = np.zeros((2, channels, dim))
    counts = [0, 0]
    for arm, x, y, weight in random_events(history["seed"], history["steps"], dim, channels):
        statistics.learn(arm, x, y, weight)
        theta = scipy.linalg.solve(gram[arm], moment[arm].T).T
        axis, put_back = counts[arm] % dim, (1 - forgetting) * ridge * dim
        gram[arm] *= forgetting
        moment[arm] *= forgetting
        gram[arm, axis, axis] += put_back
        moment[arm, :, axis] += put_back * theta[:, axis]
        gram[arm] += weight * np.outer(x, x)
        moment[arm] += weight * np.outer(y, x)
        counts[arm] += 1
    for arm in (0, 1):
        assert_solves(statistics, arm, gram[arm], moment[arm])


def test_the_initial_inverse_belongs_to_the_initial_matrix():
    """The initial inverse is the inverse of the initial matrix for ridge other than one."""
    statistics = RidgeStatistics(1, 3, 1, ridge=4.0)
    np.testing.assert_allclose(statistics.predict(np.array([2.0, 0.0, 0.0]))[1], [1.0])


@pytest.mark.slow
def test_a_million_updates_stay_within_1e_8_of_a_direct_solve():
    rng = np.random.default_rng(1)
    contexts, targets = rng.normal(size=(1_000_000, 3)), rng.normal(size=(1_000_000, 1))
    statistics = RidgeStatistics(1, 3, 1, ridge=0.5)
    for x, y in zip(contexts, targets, strict=True):
        statistics.learn(0, x, y, 1.0)
    assert_solves(statistics, 0, 0.5 * np.eye(3) + contexts.T @ contexts, targets.T @ contexts)


def test_forgetting_bounds_the_width_of_an_unseen_direction():
    """Forgetting never lets the width of an unseen direction grow without bound."""
    statistics = RidgeStatistics(1, 2, 1, ridge=1.0, forgetting=0.9)
    for _ in range(5000):
        statistics.learn(0, np.array([1.0, 0.0]), np.array([1.0]), 1.0)
    _, width = statistics.predict(np.array([0.0, 1.0]))
    assert width[0] < 2.0


def test_an_inverse_that_has_drifted_is_rebuilt_from_the_matrix():
    statistics = RidgeStatistics(1, 2, 1, ridge=1.0)
    rng = np.random.default_rng(2)
    for _ in range(63):
        statistics.learn(0, rng.normal(size=2), rng.normal(size=1), 1.0)
    statistics.inverse[0] += 1e-3
    statistics.learn(0, rng.normal(size=2), rng.normal(size=1), 1.0)
    assert statistics.refreshes == 1
    np.testing.assert_allclose(statistics.inverse[0] @ statistics.gram[0], np.eye(2), atol=1e-12)


def test_an_unmetered_channel_leaves_its_coefficients_and_moves_the_others():
    statistics = RidgeStatistics(1, 2, 2, ridge=1.0)
    statistics.learn(0, np.array([1.0, 0.5]), np.array([1.0, 2.0]), 1.0)
    before = statistics.theta.copy()
    statistics.learn(0, np.array([1.0, -0.5]), np.array([0.0, np.nan]), 1.0)
    np.testing.assert_allclose(statistics.theta[0, 1], before[0, 1], atol=1e-12)
    assert not np.allclose(statistics.theta[0, 0], before[0, 0])


def test_merged_replicas_equal_one_stream():
    rng = np.random.default_rng(3)
    events = [(int(rng.integers(2)), rng.normal(size=3), rng.normal(size=2)) for _ in range(100)]
    whole, left, right = (RidgeStatistics(2, 3, 2, ridge=0.5) for _ in range(3))
    empty = left.sums()
    for i, (arm, x, y) in enumerate(events):
        whole.learn(arm, x, y, 1.0)
        (left if i % 2 else right).learn(arm, x, y, 1.0)
    left.merge(right.delta(empty))
    np.testing.assert_allclose(left.theta, whole.theta, rtol=1e-9)
    np.testing.assert_allclose(left.inverse, whole.inverse, rtol=1e-9, atol=1e-12)
    assert left.counts.tolist() == whole.counts.tolist()


def test_statistics_that_forget_refuse_to_merge():
    statistics = RidgeStatistics(1, 2, 1, ridge=1.0, forgetting=0.9)
    with pytest.raises(InvalidInput, match="forgetting=1"):
        statistics.merge(statistics.delta(statistics.sums()))


@pytest.mark.parametrize(("ridge", "forgetting"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_a_ridge_or_forgetting_out_of_range_is_refused(ridge, forgetting):
    with pytest.raises(InvalidInput):
        RidgeStatistics(1, 2, 1, ridge=ridge, forgetting=forgetting)
