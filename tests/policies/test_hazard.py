"""The learned hazard of reuse: what it counts, what it evicts, and where it beats recency."""

import numpy as np
import pytest

from bandit_router.paging.model import PagingModel
from bandit_router.policies.caching.base import Capacity, Served
from bandit_router.policies.caching.eviction import LRU
from bandit_router.policies.caching.hazard import ReuseHazard
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.controllers import build_controller
from bandit_router.simulators.trace import TraceEnvironment, simulate_trace, trace_hindsight


def cache(slots, arms=4, costs=0.2, **limits):
    sizes = np.array([0.0] + [1.0] * (arms - 1))
    return ReuseHazard(capacity=Capacity(sizes, slots, **limits), costs=np.where(sizes > 0, costs, 0.0))


def serve(controller, requests, start=0):
    """Hits of a stream of named arms."""
    hits = 0
    for step, arm in enumerate(requests, start):
        miss = not controller.resident[arm]
        hits += not miss
        controller.after(Served(step, np.zeros(1), arm, miss), lambda contexts: (contexts, contexts))
    return hits


def misses(name, env, slots, seed=0):
    paging = Paging(arms=env.arms, model=PagingModel.load("cloud-storage"), weight=1.0, slots=slots)
    known = trace_hindsight(env, paging, seed=seed, horizon=env.horizon)
    controller = build_controller(name, paging, known, {})
    return simulate_trace(env, controller, paging, seed=seed, horizon=env.horizon).counters.misses


def test_events_and_exposures_of_a_hand_counted_stream():
    controller = cache(slots=2)
    serve(controller, [1, 2, 1, 1])
    # exposed: 1 at age 1, then 2 at age 1 and 1 at age 2 (named), then 2 at age 2 and 1 at age 1 (named)
    assert controller._exposure.sum(axis=0)[:3].tolist() == [3, 2, 0]
    assert controller._events.sum(axis=0)[:3].tolist() == [1, 1, 0]


def test_without_evidence_it_evicts_what_was_used_longest_ago():
    controller = cache(slots=2)
    serve(controller, [2, 1, 3])
    assert np.flatnonzero(controller.resident).tolist() == [0, 1, 3]


def test_an_adapter_named_once_displaces_none_that_come_back():
    """An adapter named once does not displace the ones that always come back."""
    rng = np.random.default_rng(0)
    arms = 700
    stream = [int(rng.integers(1, 3)) if rng.random() < 0.5 else 3 + step % (arms - 3) for step in range(600)]
    learned, recent = cache(slots=2, arms=arms), LRU(capacity=cache(2, arms).capacity, costs=cache(2, arms).costs)
    assert serve(learned, stream) > 1.5 * serve(recent, stream)
    assert np.flatnonzero(learned.resident).tolist() == [0, 1, 2]


def test_the_dearer_of_two_alike_stays():
    sizes = np.array([0.0, 1.0, 1.0, 1.0])
    controller = ReuseHazard(capacity=Capacity(sizes, 2), costs=np.array([0.0, 0.9, 0.01, 0.5]))
    serve(controller, [1, 2, 3])
    assert np.flatnonzero(controller.resident).tolist() == [0, 1, 3]


def test_an_adapter_larger_than_memory_is_passed_through():
    capacity = Capacity(np.array([0.0, 1.0, 9.0]), limit_bytes=2.0)
    controller = ReuseHazard(capacity=capacity, costs=np.array([0.0, 0.2, 0.2]))
    serve(controller, [1, 2])
    assert not controller.resident[2]


@pytest.mark.slow
@pytest.mark.parametrize("slots", [2, 8, 32])
def test_on_zipf_it_pages_between_the_clairvoyant_and_recency(slots):
    """On Zipf requests with repetition it pages less than recency and more than the clairvoyant."""
    env = TraceEnvironment(name="test/hazard", horizon=4_000)
    learned = misses("ReuseHazard", env, slots)
    assert misses("Belady", env, slots) < learned < misses("LRU", env, slots)
