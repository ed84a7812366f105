"""SolveCache against brute force, and the guarantees of facility location."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.errors import InvalidInput
from bandit_router.policies.caching.base import Capacity
from bandit_router.policies.caching.solve import gains, greedy, solve_cache, swap, value

instances = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**32 - 1), "arms": st.integers(2, 8), "contexts": st.integers(1, 20)}
)


def instance(seed, arms, contexts, slots=None, limit_bytes=None):
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([[0.0], rng.uniform(1, 5, arms)])
    costs = np.concatenate([[0.0], rng.uniform(0, 0.5, arms)])
    capacity = Capacity(sizes, slots, limit_bytes)
    return rng.random((contexts, arms + 1)), costs, capacity, rng


def every_set(capacity):
    for size in range(len(capacity.choices) + 1):
        for members in combinations(capacity.choices, size):
            resident = capacity.floor.copy()
            resident[list(members)] = True
            if capacity.fits(resident):
                yield resident


def test_gains_and_value_equal_a_hand_calculation():
    utilities, costs = np.array([[0.5, 0.9, 0.6]]), np.array([0.0, 0.3, 0.05])
    gain = gains(utilities, costs)  # paging the second arm in is worth 0.6, the most that is always possible
    np.testing.assert_allclose(gain, [[0.0, 0.3, 0.0]])
    assert value(gain, np.array([True, True, False])) == pytest.approx(0.3)


@given(instances)
@settings(max_examples=50, deadline=None)
def test_value_is_what_the_best_resident_or_paged_arm_adds_over_paging(case):
    utilities, costs, capacity, rng = instance(**case)
    resident = capacity.floor | (rng.random(len(costs)) < 0.5)
    with_set = (utilities - np.where(resident, 0.0, costs)).max(axis=1).mean()
    without = (utilities - costs).max(axis=1).mean()
    assert value(gains(utilities, costs), resident) == pytest.approx(with_set - without, abs=1e-12)


@given(instances, st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_enumerated_cache_is_the_best_of_all_sets(case, slots, charged):
    utilities, costs, capacity, rng = instance(**case, slots=slots)
    gain = gains(utilities, costs)
    charge = rng.uniform(0, 0.1, len(costs)) if charged else np.zeros(len(costs))
    charge[0] = 0.0
    chosen = solve_cache(gain, capacity, charge)
    assert capacity.fits(chosen)
    best = max(value(gain, s) - charge[s].sum() for s in every_set(capacity))
    assert value(gain, chosen) - charge[chosen].sum() == pytest.approx(best, abs=1e-12)


@given(instances, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_greedy_is_within_one_minus_one_over_e_of_the_exact_cache(case, slots):
    utilities, costs, capacity, _ = instance(**case, slots=slots)
    gain, nothing = gains(utilities, costs), np.zeros(len(costs))
    exact = max(value(gain, s) for s in every_set(capacity))
    found = greedy(gain, capacity, nothing)
    assert value(gain, found) >= (1 - 1 / np.e) * exact - 1e-12
    assert value(gain, swap(gain, capacity, nothing, found)) >= value(gain, found) - 1e-12


@given(instances, st.floats(1.0, 15.0))
@settings(max_examples=40, deadline=None)
def test_a_solved_cache_fits_and_is_never_worse_than_none(case, limit):
    """A cache solved under a byte limit fits and is never worse than none."""
    utilities, costs, capacity, _ = instance(**case, limit_bytes=limit)
    gain = gains(utilities, costs)
    chosen = solve_cache(gain, capacity)
    assert capacity.fits(chosen)
    assert value(gain, chosen) >= value(gain, capacity.floor)


def test_an_arm_whose_charge_exceeds_its_gain_stays_out():
    gain = np.array([[0.0, 0.2, 0.05]])
    capacity = Capacity(np.array([0.0, 1.0, 1.0]), slots=2)
    chosen = solve_cache(gain, capacity, np.array([0.0, 0.1, 0.1]))
    assert chosen.tolist() == [True, True, False]


def test_pinned_arms_are_in_every_solution_and_take_their_room():
    pinned = np.array([False, False, True])
    capacity = Capacity(np.array([0.0, 1.0, 1.0]), slots=1, pinned=pinned)
    assert solve_cache(np.array([[0.0, 0.9, 0.1]]), capacity).tolist() == [True, False, True]


def test_pinned_arms_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="pin fewer"):
        Capacity(np.array([0.0, 1.0, 1.0]), slots=1, pinned=np.array([False, True, True]))
