"""What a miss, a kept miss and a reload cost, and what the resident set refuses."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.paging.residency import Residency
from bandit_router.policies.caching.base import Capacity

COSTS = np.array([0.0, 0.1, 0.3])
SIZES = np.array([0.0, 100.0, 300.0])
MS = np.array([0.0, 10.0, 30.0])


def residency(on_miss="insert", slots=1, **options):
    return Residency(capacity=Capacity(SIZES, slots, **options), costs=COSTS, on_miss=on_miss)


def mask(*arms):
    resident = np.zeros(3, dtype=bool)
    resident[[0, *arms]] = True
    return resident


def test_the_base_model_is_always_resident_and_costs_nothing():
    assert residency().penalty().tolist() == [0.0, 0.1, 0.3]


def test_a_miss_is_paid_and_counted_and_a_hit_is_not():
    state = residency()
    assert state.serve(2, 30.0) is True
    state.apply(mask(2), MS, missed=2)
    assert state.serve(2, 30.0) is False
    counters = state.counters
    assert (counters.requests, counters.misses, counters.loads, counters.reloads) == (2, 1, 1, 0)
    assert (counters.paged_ms, counters.paged_bytes) == (30.0, 300.0)


def test_keeping_a_missed_adapter_is_free_under_insert_only():
    """Keeping a missed adapter is free under insert and a load under page through."""
    for on_miss, charge, ms in (("insert", 0.0, 10.0), ("page_through", 1.0, 20.0)):
        state = residency(on_miss)
        state.serve(1, 10.0)
        loaded = state.apply(mask(1), MS, missed=1)
        assert loaded[1] == charge
        assert state.counters.paged_ms == ms
        assert state.penalty().tolist() == [0.0, 0.0, 0.3]


def test_an_exchange_counts_the_load_and_the_eviction():
    state = residency()
    state.apply(mask(1), MS)
    loaded = state.apply(mask(2), MS)
    assert loaded.tolist() == [0.0, 0.0, 1.0]
    assert (state.counters.loads, state.counters.reloads, state.counters.evictions) == (2, 2, 1)
    assert (state.counters.paged_ms, state.counters.paged_bytes) == (40.0, 400.0)


@pytest.mark.parametrize("proposal", [mask(1, 2), np.array([False, True, False])])
def test_a_set_that_does_not_fit_is_refused_and_changes_nothing(proposal):
    """A set that does not fit or drops the base model is refused and changes nothing."""
    state = residency()
    with pytest.raises(InvalidInput, match="does not fit or drops"):
        state.apply(proposal, MS)
    assert state.resident.tolist() == [True, False, False]
    assert state.counters.loads == 0


def test_bytes_bind_as_slots_do():
    state = residency(slots=None, limit_bytes=350.0)
    state.apply(mask(2), MS)
    with pytest.raises(InvalidInput):
        state.apply(mask(1, 2), MS)


def test_pinned_adapters_are_resident_from_the_start_and_cannot_be_dropped():
    state = residency(slots=2, pinned=np.array([False, True, False]))
    assert state.resident.tolist() == [True, True, False]
    with pytest.raises(InvalidInput):
        state.apply(mask(2), MS)


def test_the_starting_set_is_checked_and_not_charged():
    state = Residency(capacity=Capacity(SIZES, 1), costs=COSTS, resident=mask(2))
    assert state.counters.loads == 0
    with pytest.raises(InvalidInput):
        Residency(capacity=Capacity(SIZES, 1), costs=COSTS, resident=mask(1, 2))


def test_an_unknown_miss_rule_is_refused():
    with pytest.raises(InvalidInput, match="page_through"):
        residency("drop")
