"""Laws of every cache controller, and each one's own rule on hand-made streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from bandit_router.errors import InvalidInput
from bandit_router.paging.model import PagingModel
from bandit_router.paging.residency import Residency
from bandit_router.policies.caching.base import Capacity, Served
from bandit_router.policies.caching.credit import ExchangeCredit, _improvement
from bandit_router.policies.caching.eviction import GDSF, LFU, LRU
from bandit_router.policies.caching.polar import Polar, PolarPlus
from bandit_router.policies.caching.static import Belady, Static
from bandit_router.simulators.adapters import LinearAdapters, Paging
from bandit_router.simulators.controllers import CONTROLLERS, EVERYTHING, Hindsight, build_controller

ARMS = 6


def named(arm):
    """Utilities of a request that only one arm can serve."""
    mean = np.zeros((1, ARMS))
    mean[0, arm] = 1.0
    return lambda contexts: (np.repeat(mean, len(contexts), axis=0), np.zeros((len(contexts), ARMS)))


def equal_arms(slots):
    capacity = Capacity(np.array([0.0] + [1.0] * (ARMS - 1)), slots)
    return capacity, np.array([0.0] + [0.2] * (ARMS - 1))


def misses(controller, requests, on_miss="insert"):
    """Misses of a stream of named arms, with the resident set checked by `Residency` at every change."""
    residency = Residency(
        capacity=controller.capacity, costs=controller.costs, on_miss=on_miss, resident=controller.initial()
    )
    for step, arm in enumerate(requests):
        miss = residency.serve(arm, 1.0)
        proposal = controller.after(Served(step, np.array([1.0]), arm, miss), named(arm))
        if proposal is not None:
            residency.apply(proposal, np.ones(ARMS), missed=arm if miss else None)
        assert (controller.resident == residency.resident).all()
    return residency.counters.misses


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("bytes_bind", [False, True])
@given(requests=st.lists(st.integers(0, ARMS - 1), max_size=60), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_every_controller_proposes_sets_that_fit_and_keep_what_is_pinned(name, bytes_bind, requests, seed):
    env = LinearAdapters(n_adapters=ARMS - 1, dim=2)
    paging = Paging(
        arms=env.arms,
        model=PagingModel.load("peft-local"),
        weight=0.3,
        slots=None if bytes_bind else 3,
        limit_bytes=4e8 if bytes_bind else None,
        pinned=(env.arms[1].id,),
    )
    if name == EVERYTHING:
        paging = paging.unlimited()
    wanted = np.array(requests or [0], dtype=np.intp)
    known = Hindsight(paging.capacity.floor, 0.0, wanted, seed)
    controller = build_controller(name, paging, known, {})
    misses(controller, requests)
    assert (controller.resident & paging.capacity.floor).sum() == paging.capacity.floor.sum()


def test_lru_evicts_what_was_used_longest_ago():
    capacity, costs = equal_arms(2)
    controller = LRU(capacity=capacity, costs=costs)
    assert misses(controller, [1, 2, 1, 3]) == 3
    assert np.flatnonzero(controller.resident).tolist() == [0, 1, 3]


def test_lfu_evicts_what_was_used_least():
    capacity, costs = equal_arms(2)
    controller = LFU(capacity=capacity, costs=costs)
    assert misses(controller, [1, 1, 2, 3]) == 3
    assert np.flatnonzero(controller.resident).tolist() == [0, 1, 3]


def test_gdsf_keeps_the_small_adapter_of_equal_cost_and_use():
    sizes, costs = np.array([0.0, 10.0, 1.0, 5.0, 5.0, 5.0]), np.array([0.0] + [0.2] * 5)
    controller = GDSF(capacity=Capacity(sizes, 2), costs=costs)
    misses(controller, [1, 2, 3])
    assert np.flatnonzero(controller.resident).tolist() == [0, 2, 3]


def test_belady_misses_as_few_as_by_hand_and_as_lru_at_most():
    """Belady misses as few as a hand worked example and never more than LRU."""
    capacity, costs = equal_arms(2)
    stream = [1, 2, 3, 1, 2, 3]
    # 1, 2 and 3 miss; 3 is needed last and is not kept; 1 and 2 hit; 3 misses again
    assert misses(Belady(capacity=capacity, costs=costs, future=np.array(stream)), stream) == 4
    assert misses(LRU(capacity=capacity, costs=costs), stream) == 6


@given(requests=st.lists(st.integers(1, ARMS - 1), min_size=1, max_size=80), slots=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_demand_cache_misses_less_than_belady(requests, slots):
    capacity, costs = equal_arms(slots)
    best = misses(Belady(capacity=capacity, costs=costs, future=np.array(requests)), requests)
    for kind in (LRU, LFU, GDSF, ExchangeCredit):
        assert misses(kind(capacity=capacity, costs=costs), requests) >= best


def test_exchange_credit_loads_only_after_the_lack_has_cost_patience_loads():
    capacity, costs = equal_arms(1)
    controller = ExchangeCredit(capacity=capacity, costs=costs, patience=2.0, memory=3.0, free_insert=False)
    steps = 0
    while not controller.resident[1]:
        controller.after(Served(steps, np.ones(1), 1, True), named(1))
        steps += 1
    assert steps == 3  # each lacking request costs 0.2; more than 0.4 is needed


@given(
    sizes=st.lists(st.integers(0, 5), min_size=2, max_size=7),
    slots=st.none() | st.integers(0, 4),
    limit=st.none() | st.integers(0, 12),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_room_after_an_exchange_is_room_for_the_exchanged_set(sizes, slots, limit, data):
    capacity = Capacity(np.array(sizes, dtype=float), slots, limit)
    resident = capacity.floor | np.array(data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))))
    leaving = np.append(np.flatnonzero(resident & ~capacity.floor), len(sizes))
    room = capacity.room_instead(resident, leaving)
    for row, gone in enumerate(leaving):
        for joining in np.flatnonzero(~resident):
            exchanged = np.append(resident, False)
            exchanged[gone], exchanged[joining] = False, True
            assert room[row, joining] == capacity.fits(exchanged[:-1])


def test_exchange_credit_keeps_at_once_what_is_free_to_keep():
    """Exchange credit keeps a missed adapter at once when there is room and that is free."""
    capacity, costs = equal_arms(1)
    controller = ExchangeCredit(capacity=capacity, costs=costs)
    assert controller.after(Served(0, np.ones(1), 1, True), named(1)) is not None


@pytest.mark.parametrize("free_insert", [True, False])
def test_exchange_credit_does_not_swap_two_that_take_turns(free_insert):
    """Exchange credit lets two that take turns not take the slot in turns."""
    capacity, costs = equal_arms(1)
    controller = ExchangeCredit(capacity=capacity, costs=costs, free_insert=free_insert)
    loads = 0

    def wanted(contexts):
        return np.eye(ARMS)[contexts[:, 0]], np.zeros((len(contexts), ARMS))

    for step in range(200):
        arm = 1 + step % 2
        served = Served(step, np.array([arm]), arm, not controller.resident[arm])
        loads += controller.after(served, wanted) is not None
    assert 1 <= loads <= 2


def test_exchange_credit_asks_for_more_before_a_second_load():
    capacity, costs = equal_arms(1)
    controller = ExchangeCredit(capacity=capacity, costs=costs, patience=2.0, again=4.0, memory=0.0, free_insert=False)
    waits = []
    for arm in (1, 2, 1):
        steps = 0
        while not controller.resident[arm]:
            controller.after(Served(steps, np.ones(1), arm, True), named(arm))
            steps += 1
        waits.append(steps)
    assert waits == [3, 3, 5]  # each lacking request costs 0.2, one load; more than 2, 2 and 4 loads are needed


def test_uncertainty_counts_only_for_an_arm_kept_out_by_the_cold():
    """Uncertainty counts only for an arm that is not played because it is cold."""
    capacity, costs = equal_arms(1)
    mean, bonus = np.full((16, ARMS), 0.5), np.zeros((16, ARMS))
    bonus[:, 1:4] = 0.1, 0.3, 0.05  # would be played if warm; is played though cold; is not played though warm
    mean[:, 3] = 0.4
    controller = ExchangeCredit(capacity=capacity, costs=costs, patience=100.0)
    for step in range(16):
        controller.after(Served(step, np.ones(1), 0, False), lambda contexts: (mean, bonus))
    earned = controller._credit[-1]
    assert earned[1] > 0
    assert (earned[2:] == 0).all()


@pytest.mark.parametrize(("ahead", "deviation"), [(0.1, 0.2), (-0.3, 0.1), (0.0, 1.0)])
def test_expected_improvement_equals_its_integral(ahead, deviation):
    integral, _ = quad(lambda y: y * norm.pdf(y, ahead, deviation), 0, 20, points=[0.5], limit=200)
    assert _improvement(np.array(ahead), np.array(deviation)) == pytest.approx(integral, rel=1e-7)
    assert _improvement(np.array([-1.0, 1.0]), np.zeros(2)).tolist() == [0.0, 1.0]


def test_exchange_credit_follows_a_change_however_long_the_past():
    """Exchange credit follows a change within memory plus again loads however long the past."""
    capacity, costs = equal_arms(1)
    controller = ExchangeCredit(capacity=capacity, costs=costs, free_insert=False)
    for step in range(2000):
        controller.after(Served(step, np.ones(1), 1, not controller.resident[1]), named(1))
    steps = 0
    while not controller.resident[2]:
        controller.after(Served(steps, np.ones(1), 2, True), named(2))
        steps += 1
    assert steps <= 3 + 6 + 1


def test_polar_changes_the_cache_at_multiples_of_its_epoch_only():
    capacity, costs = equal_arms(1)
    controller = Polar(capacity=capacity, costs=costs, epoch=10)
    changed = [s for s in range(40) if controller.after(Served(s, np.ones(1), 1, True), named(1)) is not None]
    assert changed == [9, 19, 29, 39]


def test_polar_plus_forces_every_adapter_in_turn_and_doubles_its_epochs():
    capacity, costs = equal_arms(4)
    controller = PolarPlus(capacity=capacity, costs=costs, first=16)
    forced = []
    for step in range(16 + 32 + 64):
        forced.append(controller.forced(step))
        controller.after(Served(step, np.ones(1), 1, True), named(1))
    counts = [sum(f is not None for f in forced[a:b]) for a, b in ((0, 16), (16, 48), (48, 112))]
    assert counts == [8, 12, 16]  # sqrt(4 * length), at most half
    assert sorted(set(forced[:8]) - {None}) == list(range(ARMS))


def test_a_static_set_that_does_not_fit_is_refused():
    capacity, costs = equal_arms(1)
    with pytest.raises(InvalidInput, match="does not fit"):
        Static(capacity=capacity, costs=costs, resident=np.ones(ARMS, dtype=bool))


def test_an_unknown_controller_or_setting_is_told_what_there_is():
    """An unknown controller and an unknown setting are refused with what there is."""
    env = LinearAdapters(n_adapters=2, dim=2)
    paging = Paging(arms=env.arms, model=PagingModel.load("peft-local"), weight=0.1, slots=1)
    known = Hindsight(paging.capacity.floor, 0.0, np.zeros(1, dtype=np.intp), 0)
    with pytest.raises(InvalidInput, match="there are ExchangeCredit"):
        build_controller("Clock", paging, known, {})
    with pytest.raises(InvalidInput, match="LRU has no setting 'epoch'; it has none"):
        build_controller("LRU", paging, known, {"epoch": 3})
