"""Intervals against a hand calculation and SciPy, and the results of runs written down by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit_router.simulators.results import interval, policy_result, reference_result
from bandit_router.simulators.run import Reference, Trajectory


def test_the_interval_equals_the_hand_calculation():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653 from any table: 2 +- 4.302653 / sqrt(3)
    result = interval([1.0, 2.0, 3.0])
    assert result["mean"] == 2.0
    assert result["ci95"] == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_equals_scipys(values):
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert interval(values)["ci95"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_it_covers_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(0)
    covered = [lo <= 0.3 <= hi for lo, hi in (interval(rng.normal(0.3, 1, 5))["ci95"] for _ in range(2000))]
    assert abs(np.mean(covered) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_one_seed_has_no_interval():
    assert interval([0.5]) == {"mean": 0.5, "ci95": None}


# Two seeds of ten requests. Seed 0: arms earn 4 and 6, oracle 8, policy 5. Seed 1: arms 7 and 5, oracle 9, policy 7.
REFERENCES = [
    Reference(fixed=np.array([[1.0, 1.0], [4.0, 6.0]]), oracle=np.array([1.0, 8.0])),
    Reference(fixed=np.array([[1.0, 0.0], [7.0, 5.0]]), oracle=np.array([1.0, 9.0])),
]
RUNS = [
    Trajectory(np.array([1.0, 5.0]), np.array([5.0, 2.0, 0.0]), np.array([10.0, 8.0, 0.0]), np.array([4.0, 6.0]), 0.5),
    Trajectory(np.array([1.0, 7.0]), np.array([7.0, 4.0, 0.0]), np.array([10.0, 4.0, 0.0]), np.array([8.0, 2.0]), 1.5),
]


@pytest.fixture
def result():
    return policy_result(
        "X",
        default=True,
        trajectories=RUNS,
        references=REFERENCES,
        arms=["a", "b"],
        channels=["quality", "cost_usd", "energy_j"],
        horizon=10,
    )


def test_regret_is_against_each_seeds_own_best_arm_and_oracle(result):
    assert result["utility_mean"]["mean"] == pytest.approx((0.5 + 0.7) / 2)
    assert result["regret"]["best_fixed"]["mean"] == pytest.approx(((6 - 5) + (7 - 7)) / 2)
    assert result["regret"]["oracle"]["mean"] == pytest.approx(((8 - 5) + (9 - 7)) / 2)


def test_channel_means_count_metered_outcomes_only(result):
    assert result["quality_mean"] == pytest.approx(12 / 20)
    assert result["cost_usd_mean"] == pytest.approx(6 / 12)
    assert result["energy_j_mean"] is None  # in the table, never metered
    assert result["latency_s_mean"] is None  # not in the table


def test_shares_and_speed_are_over_all_seeds(result):
    assert result["arm_share"] == {"a": 0.6, "b": 0.4}
    assert result["events_per_second"] == pytest.approx(20 / 2.0)
    assert (result["policy"], result["default"]) == ("X", True)


def test_the_best_fixed_reference_is_the_arm_that_is_best_over_all_seeds():
    result = reference_result(REFERENCES, ["a", "b"], 10)
    assert result == {
        "best_fixed": {"arm": "a", "utility_mean": pytest.approx(0.55)},  # 11 / 20 and 11 / 20: the first of equals
        "oracle": {"utility_mean": pytest.approx(0.85)},
        "random": {"utility_mean": pytest.approx(0.55)},
    }
