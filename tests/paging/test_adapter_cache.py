"""The adapter cache of a serving loop."""

import numpy as np
import pytest

from bandit_router import AdapterCache, Arm, InvalidInput, Outcome, Router
from bandit_router.policies.caching.eviction import LRU
from bandit_router.routing.groups import PolicySpec

LOAD_MS = {"law": 300.0, "code": 600.0, "chat": 450.0}


def loop(**options):
    arms = [Arm(id="base"), *(Arm(id=name, kind="adapter", base_model="base", size_bytes=100) for name in LOAD_MS)]
    router = Router(
        arms=arms,
        context=2,
        policy=PolicySpec(name="LinUCB", settings={"alpha": 0.5, "ridge": 0.1, "floor": 0.0}),
        key=b"k",
    )
    return router, AdapterCache(router=router, load_ms=LOAD_MS, weight=0.2, **{"slots": 1, **options})


def test_a_cold_adapter_costs_its_share_of_the_slowest_load():
    """A cold adapter costs its share of the slowest load and a resident one nothing."""
    _, cache = loop(resident=["law"])
    assert cache.penalty() == pytest.approx({"base": 0.0, "law": 0.0, "code": 0.2, "chat": 0.15})


def test_what_is_served_cold_is_loaded_and_what_has_to_leave_is_named():
    router, cache = loop(controller=LRU, resident=["law"])
    decision = router.decide([1.0, 0.0], event_id="r-1", eligible=["code"], penalty=cache.penalty())
    change = cache.served(decision, load_ms=580.0)
    assert (change.load, change.evict) == (("code",), ("law",))
    assert cache.resident == ("base", "code")
    assert (cache.counters.misses, cache.counters.paged_ms, cache.counters.reloads) == (1, 580.0, 0)


def test_a_loop_learns_which_adapter_to_use_and_keeps_it_resident():
    router, cache = loop()
    rng = np.random.default_rng(0)
    quality = {"base": 0.3, "law": 0.4, "code": 0.9, "chat": 0.35}
    for step in range(400):
        x = [1.0, float(rng.random())]
        decision = router.decide(x, event_id=f"r-{step}", penalty=cache.penalty())
        noisy = float(np.clip(quality[decision.arm] + 0.05 * rng.normal(), 0, 1))
        router.observe(decision.event_id, Outcome(quality=noisy))
        cache.served(decision)
    assert "code" in cache.resident
    assert cache.counters.misses < 20
    assert router.decide([1.0, 0.5], event_id="last", penalty=cache.penalty()).arm == "code"


@pytest.mark.parametrize("policy", ["GaussianThompson", "UCB1", "EpsilonGreedy"])
def test_an_untried_arm_does_not_keep_the_best_from_being_loaded(policy):
    """A router that has not tried an arm yet still gets the best one loaded."""
    router, _ = loop()
    router = Router(arms=list(router.catalogue), context=2, policy=policy, key=b"k")
    cache = AdapterCache(router=router, load_ms=LOAD_MS, weight=0.2, slots=1, on_miss="page_through")
    quality = {"base": 0.1, "law": 0.2, "code": 0.9, "chat": 0.2}
    for step in range(600):
        decision = router.decide([1.0, 0.0], event_id=f"r-{step}", penalty=cache.penalty())
        cache.served(decision)
        router.observe(decision.event_id, Outcome(quality=quality[decision.arm]))
    assert "code" in cache.resident


@pytest.mark.parametrize("wrong", [-5.0, float("nan"), float("inf")])
def test_a_load_time_that_cannot_be_is_refused_before_anything_is_counted(wrong):
    router, cache = loop()
    decision = router.decide([1.0, 0.0], event_id="r-1", eligible=["code"], penalty=cache.penalty())
    with pytest.raises(InvalidInput, match="load_ms"):
        cache.served(decision, load_ms=wrong)
    assert (cache.counters.requests, cache.counters.misses) == (0, 0)


def test_resync_takes_over_what_the_engine_has_and_refuses_what_cannot_be():
    _, cache = loop()
    cache.resync(["chat"])
    assert cache.resident == ("base", "chat")
    assert cache.counters.loads == 0
    with pytest.raises(InvalidInput, match="does not fit"):
        cache.resync(["chat", "law"])
    assert cache.resident == ("base", "chat")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"slots": None}, "slots or limit_bytes"), ({"pinned": ["poem"]}, "unknown arm"), ({"on_miss": "drop"}, "insert")],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        loop(**options)


def test_an_adapter_without_a_load_time_is_refused_by_name():
    router, _ = loop()
    with pytest.raises(InvalidInput, match="lacks chat"):
        AdapterCache(router=router, load_ms={"law": 1.0, "code": 1.0}, weight=0.1, slots=1)


def test_an_arm_added_later_is_refused_with_the_way_out():
    router, cache = loop()
    router.add_arm(Arm(id="late", kind="adapter", size_bytes=100))
    decision = router.decide([1.0, 0.0], event_id="r", eligible=["late"])
    with pytest.raises(InvalidInput, match="make a new one"):
        cache.served(decision)
