"""The two-timescale loop: the exact split of regret, its limits, and what POLAR+ must find."""

import numpy as np
import pytest

from bandit_router.paging.model import PagingModel
from bandit_router.policies.base import utility
from bandit_router.policies.caching.credit import ExchangeCredit
from bandit_router.policies.caching.polar import Polar, PolarPlus
from bandit_router.policies.lints import LinTS
from bandit_router.policies.linucb import LinUCB
from bandit_router.simulators.adapters import LinearAdapters, Paging
from bandit_router.simulators.controllers import CONTROLLERS, EVERYTHING, build_controller
from bandit_router.simulators.paged import best_with, hindsight, simulate_paged, split
from bandit_router.simulators.run import simulate

QUALITY = np.ones(1)
MODEL = PagingModel.load("peft-local")


def world(adapters=6, dim=3, weight=0.3, slots=2, **options):
    env = LinearAdapters(n_adapters=adapters, dim=dim, name="test/paged", **options)
    return env, Paging(arms=env.arms, model=MODEL, weight=weight, slots=slots)


def router(env, kind=LinUCB, **settings):
    if kind is LinUCB:
        settings = {"alpha": 0.2, "ridge": 0.04, "floor": 0.0, **settings}
    return kind(n_arms=len(env.arms), dim=env.dim, **settings)


def run(env, paging, controller, horizon=600, policy=None, **options):
    policy = router(env) if policy is None else policy
    return simulate_paged(env, policy, controller, paging, QUALITY, seed=1, horizon=horizon, **options)


@pytest.mark.parametrize("on_miss", ["insert", "page_through"])
@pytest.mark.parametrize("kind", [LinUCB, LinTS])
@pytest.mark.parametrize("name", CONTROLLERS)
def test_routing_cache_and_reload_regret_add_up_to_the_total(name, kind, on_miss):
    env, paging = world()
    paging = paging.unlimited() if name == EVERYTHING else paging
    known = hindsight(env, paging, QUALITY, seed=1, horizon=600)
    controller = build_controller(name, paging, known, {})
    trajectory = run(env, paging, controller, policy=router(env, kind), on_miss=on_miss)
    parts = split(trajectory, known.value)
    assert parts.routing + parts.cache + parts.reload == pytest.approx(parts.total, abs=1e-9)
    assert parts.total == pytest.approx(known.value - trajectory.curve[-1], abs=1e-9)
    assert parts.routing >= -1e-9
    assert trajectory.counters.requests == 600


def test_the_regret_parts_equal_a_direct_computation_from_the_definitions():
    env, paging = world()
    played, held = [], []

    class Spy(ExchangeCredit):
        def _after(self, served, values):
            played.append((served.arm, served.miss))
            held.append(self.resident.copy())
            return super()._after(served, values)

    trajectory = run(env, paging, Spy(capacity=paging.capacity, costs=paging.costs), horizon=300)
    means = np.concatenate([utility(b.means, QUALITY) for b in env.blocks(1, 300)])
    direct_held = sum(float(best_with(u[None], s, paging.costs)[0]) for u, s in zip(means, held, strict=True))
    direct_net = sum(u[arm] - paging.costs[arm] * miss for u, (arm, miss) in zip(means, played, strict=True))
    assert trajectory.held == pytest.approx(direct_held, abs=1e-9)
    assert trajectory.net == pytest.approx(direct_net, abs=1e-9)


def test_no_static_set_beats_the_best_one_in_hindsight():
    env, paging = world(adapters=5, slots=2)
    known = hindsight(env, paging, QUALITY, seed=1, horizon=400)
    means = np.concatenate([utility(b.means, QUALITY) for b in env.blocks(1, 400)])
    rng = np.random.default_rng(0)
    for _ in range(50):
        resident = paging.capacity.floor.copy()
        resident[1 + rng.choice(5, 2, replace=False)] = True
        assert best_with(means, resident, paging.costs).sum() <= known.value + 1e-9


@pytest.mark.parametrize("kind", [Polar, PolarPlus])
def test_with_free_paging_both_variants_equal_plain_linucb_step_for_step(kind):
    env, paging = world(weight=0.0)
    options = {"forcing": 0.0} if kind is PolarPlus else {}
    paged = run(env, paging, kind(capacity=paging.capacity, costs=paging.costs, **options))
    plain = simulate(env, router(env), QUALITY, seed=1, horizon=600)
    assert paged.plays.tolist() == plain.plays.tolist()
    np.testing.assert_allclose(paged.curve, plain.curve, atol=1e-9)


@pytest.mark.parametrize("kind", [Polar, PolarPlus, ExchangeCredit])
def test_with_room_for_every_adapter_nothing_is_paged_twice(kind):
    env, paging = world(slots=6)
    trajectory = run(env, paging, kind(capacity=paging.capacity, costs=paging.costs), horizon=1500)
    assert trajectory.counters.loads <= 6
    assert trajectory.counters.evictions == 0


def test_polar_plus_finds_the_best_static_cache_of_a_separable_instance():
    class Separable(LinearAdapters):
        def theta(self, seed, phase):
            scores = np.full((len(self.arms), self.dim), 0.3)
            scores[0] = 0.35
            scores[[2, 4], [0, 1]] = 0.9  # two specialists, far ahead of everyone
            return scores

    env = Separable(n_adapters=6, dim=2, smoothing=0.1, name="test/separable")
    paging = Paging(arms=env.arms, model=MODEL, weight=0.3, slots=2)
    known = hindsight(env, paging, QUALITY, seed=1, horizon=3000)
    assert np.flatnonzero(known.best).tolist() == [0, 2, 4]
    controller = PolarPlus(capacity=paging.capacity, costs=paging.costs)
    run(env, paging, controller, horizon=3000)
    assert controller.resident.tolist() == known.best.tolist()


def test_doubling_epochs_load_at_most_slots_times_the_number_of_epochs():
    env, paging = world(adapters=8, slots=3)
    controller = PolarPlus(capacity=paging.capacity, costs=paging.costs, first=100)
    trajectory = run(env, paging, controller, horizon=6000)
    epochs = np.log2(6000 / 100 + 1)
    assert trajectory.counters.reloads <= 3 * epochs


def test_an_oblivious_router_ignores_what_cold_arms_cost():
    env, paging = world(weight=1.0)
    aware, oblivious = (
        run(env, paging, build_controller("NoCache", paging, None, {}), cache_aware=aware) for aware in (True, False)
    )
    plain = simulate(env, router(env), QUALITY, seed=1, horizon=600)
    assert oblivious.plays.tolist() == plain.plays.tolist()
    assert oblivious.counters.misses > aware.counters.misses


@pytest.mark.parametrize("drift", ["popularity", "utility"])
def test_drift_changes_the_second_half_and_leaves_the_first(drift):
    still, moving = (LinearAdapters(n_adapters=4, dim=3, drift=d, name="test/drift") for d in ("none", drift))
    first, second = (np.concatenate([b.means for b in env.blocks(3, 400)]) for env in (still, moving))
    np.testing.assert_array_equal(first[:200], second[:200])
    assert not np.allclose(first[200:], second[200:])


def test_contexts_are_mixtures_and_noise_has_the_stated_size():
    env = LinearAdapters(n_adapters=4, dim=3, noise=0.1, name="test/noise")
    blocks = list(env.blocks(0, 3000))
    contexts = np.concatenate([b.contexts for b in blocks])
    np.testing.assert_allclose(contexts.sum(axis=1), 1.0)
    residuals = np.concatenate([(b.outcomes - b.means).ravel() for b in blocks])
    assert residuals.std() == pytest.approx(0.1, rel=0.03)


def test_paging_costs_are_the_weight_times_the_share_of_the_slowest_load():
    _env, paging = world(adapters=8, weight=0.3)
    assert paging.costs[0] == 0.0
    assert paging.costs.max() == pytest.approx(0.3)
    slowest = MODEL.expected_ms(paging.capacity.sizes).max()
    np.testing.assert_allclose(paging.costs, 0.3 * MODEL.expected_ms(paging.capacity.sizes) / slowest)


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != EVERYTHING])
def test_spans_of_requests_give_what_single_requests_give(name, monkeypatch):
    env, paging = world(slots=3)
    known = hindsight(env, paging, QUALITY, seed=1, horizon=600)

    def trajectory():
        controller = build_controller(name, paging, known, {})
        return type(controller), run(env, paging, controller, policy=router(env, floor=0.2))

    kind, spans = trajectory()
    monkeypatch.setattr(kind, "holds", lambda self, step: 1)
    monkeypatch.setattr(kind, "wakes_on_miss", False)
    _, single = trajectory()
    assert spans.curve.tolist() == single.curve.tolist()
    assert spans.plays.tolist() == single.plays.tolist()
    assert spans.counters == single.counters
    assert 0 < spans.counters.misses < 600
