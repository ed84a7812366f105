"""The wide form of the default policy's model: slices that are bounded, exact and part of the state."""

import threading

import numpy as np
import pytest

from bandit_router import Arm, Outcome, Router
from bandit_router.policies import EvidenceThompson
from bandit_router.policies.compiled_hierarchy import hierarchical_ridge
from bandit_router.policies.hierarchical import HierarchicalRidge
from bandit_router.policies.wide_hierarchy import BUDGET, CLIMB, IDLE, MOVE, WIDE, WideHierarchy

K, D = 3, 80
SUMS = ("gram", "moment", "square", "centre", "count", "costs", "firmness", "kind", "unit", "scale", "shared_scale")
POSTERIOR = ("precision", "inverse", "theta", "shared_precision", "shared_inverse", "shared_theta", "cost_inverse")


def history(n, *, channels=1, seed=0, arms=K, dim=D):
    """Five indicators, a constant and numbers; arms differ in slopes."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(0, 0.05, (arms, dim))
    for _ in range(n):
        x = rng.normal(size=dim)
        x[:5], x[5] = x[:5] > 0, 3.0
        arm = int(rng.integers(arms))
        y = np.array([0.5 + x @ slopes[arm] + 0.2 * rng.normal(), 2.0 + x[0] + 0.1 * rng.normal()])
        yield arm, x, y[:channels], 1.0


def learned(model, events):
    """The model after these outcomes, and every stage it went through."""
    stages = set()
    for event in events:
        model.learn(*event)
        stages.add(int(model.stage[0]))
    return stages


def solved(model):
    """The same sums and scales, solved at once."""
    n_arms, rows, d = model.moment.shape
    whole = HierarchicalRidge(n_arms, d - 1, rows - 1)
    for name in SUMS:
        setattr(whole, name, getattr(model, name).copy())
    whole.fit()
    return whole


def settle(model):
    """Finish the tuning under way without outcomes, noise included."""
    if model.stage[0] == IDLE:
        model.stage[0] = MOVE
    while model.stage[0] != IDLE:
        model._tune()


def test_up_to_the_limit_everything_is_solved_at_once():
    assert not isinstance(hierarchical_ridge(2, WIDE, 1), WideHierarchy)
    assert isinstance(hierarchical_ridge(2, WIDE + 1, 1), WideHierarchy)


@pytest.mark.parametrize("channels", [1, 2])
def test_after_its_slices_the_posterior_is_the_one_solved_at_once(channels):
    model = hierarchical_ridge(K, D, channels)
    stages = learned(model, history(400, channels=channels))
    settle(model)
    settle(model)
    whole = solved(model)
    assert stages >= {IDLE, CLIMB, MOVE}
    for name in (*POSTERIOR, "loss", "total", "loudness"):
        assert getattr(model, name) == pytest.approx(getattr(whole, name), rel=1e-7, abs=1e-9), name


def test_in_mid_move_the_posterior_is_exact():
    """In the middle of a move the posterior is exact for the precisions reached."""
    model = hierarchical_ridge(K, 150, 1)
    learned(model, history(64, dim=150))
    while model.stage[0] != MOVE:
        model._tune()
    for _ in range(5):
        model._move()
    target = model._diagonals(model.scale, model.shared_scale)[0]
    moved = model.precision == target
    assert moved.any()
    assert not moved.all()
    a, m = [], np.diag(model.shared_precision)
    for gram, precision in zip(model.gram, model.precision, strict=True):
        a.append(np.linalg.inv(gram + np.diag(precision)))
        m = m + np.diag(precision) - precision[:, None] * a[-1] * precision
    assert model.inverse == pytest.approx(np.array(a), rel=1e-8, abs=1e-10)
    assert model.shared_inverse == pytest.approx(np.linalg.inv(m), rel=1e-7, abs=1e-9)


def test_without_a_sketch_the_scales_are_those_of_the_maximisation_at_once():
    model, whole = WideHierarchy(K, D, 1), HierarchicalRidge(K, D, 1)
    for event in history(64):
        model.learn(*event)
        whole.learn(*event)
    settle(model)
    assert model.scale == pytest.approx(whole.scale)
    assert model.shared_scale == pytest.approx(whole.shared_scale)


def test_the_evidence_of_the_sketch_is_that_of_the_projected_outcomes():
    """A sketch of 300 columns against the dense marginal likelihood of the projected regression."""
    model = WideHierarchy(2, 299, 1)
    events = list(history(80, arms=2, dim=299))
    learned(model, events[:64])
    while model.stage[0] != CLIMB:
        model._tune()
    sketch = model.sketch
    assert len(sketch.kind) < 300
    x = np.array([np.append(1.0, e[1]) for e in events[:64]]) @ sketch.basis
    arms, y = np.array([e[0] for e in events[:64]]), np.array([e[2][0] for e in events[:64]])

    def log_marginal(scale, shared_scale):
        same = arms[:, None] == arms
        v = np.eye(64) + (x / scale[sketch.kind]) @ x.T * same + (x / shared_scale[sketch.kind]) @ x.T
        return -np.linalg.slogdet(v)[1] / 2 - 65 / 2 * np.log(0.25 + y @ np.linalg.solve(v, y))

    def evidence(scale, shared_scale):
        sketch.scale, sketch.shared_scale = scale, shared_scale
        sketch.begin_climb()
        while sketch.climbing[0] < 0:
            sketch.advance()
        return sketch.climbing[1] - sketch._prior(scale, shared_scale)

    one, two = (np.array([4.0, 90.0, 50.0]), np.array([0.01, 4.0, 4.0])), (np.ones(3), np.array([0.01, 9.0, 2.0]))
    expected = log_marginal(*one) - log_marginal(*two)
    assert evidence(*one) - evidence(*two) == pytest.approx(expected, abs=1e-7)


def test_the_sketch_finds_the_strong_directions():
    """Contexts of 40 directions among 399: all of their mean square is kept, and then nothing is corrected."""
    model, rng = WideHierarchy(2, 399, 1), np.random.default_rng(0)
    directions = rng.normal(size=(40, 399))
    for _ in range(64):
        model.learn(int(rng.integers(2)), rng.normal(size=40) @ directions, rng.random(1), 1.0)
    while model.stage[0] != CLIMB:
        model._tune()
    sketch = model.sketch
    kept = np.einsum("aii->i", sketch.gram)[sketch.kind == 2].sum() / sketch.count.sum()
    assert len(sketch.kind) < 399
    assert kept == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("dim", [80, 300])
def test_no_outcome_does_more_than_its_share(monkeypatch, dim):
    """Operations counted, not timed; and no matrix of the model's own size is solved."""
    model, spent, sizes = WideHierarchy(4, dim, 1), [0], []
    for name in ("_span", "_project", "_climb", "_move", "_weigh"):
        whole = getattr(model, name)

        def counted(f=whole):
            spent[-1] += model.operations()
            f()

        monkeypatch.setattr(model, name, counted)
    for name in ("inv", "solve", "slogdet"):
        whole = getattr(np.linalg, name)
        monkeypatch.setattr(np.linalg, name, lambda a, *b, f=whole: (sizes.append(np.shape(a)[-1]), f(a, *b))[1])
    for event in history(260, arms=4, dim=dim):
        spent.append(0)
        model.learn(*event)
    model.restart(0, 0.3, 0.1)
    model.add_arm(None, 1.0)
    for event in history(260, arms=5, dim=dim):
        spent.append(0)
        model.learn(*event)
    slices = [2 * len(model.sketch.kind) * (dim + 1) ** 2, 6 * model.chunk * (dim + 1) ** 2]
    assert max(spent) <= max(BUDGET, *slices)
    assert sizes
    assert max(sizes) <= model.chunk


@pytest.mark.parametrize("stop", [64, 65, 66, 68, 72, 80, 85, 90])
def test_a_state_saved_while_tuning_goes_on_bit_for_bit(stop):
    events = list(history(150, channels=2, arms=4, dim=150))
    one = EvidenceThompson(n_arms=4, dim=150, channels=2)
    for arm, x, y, _ in events[:stop]:
        one.learn(x, arm, y)
    two = EvidenceThompson.from_state(one.state())
    for arm, x, y, _ in events[stop:]:
        one.learn(x, arm, y)
        two.learn(x, arm, y)
    for name, array in one.state().items():
        assert array.tobytes() == two.state()[name].tobytes(), name


def test_the_states_saved_above_lie_in_different_stages():
    model, seen = hierarchical_ridge(4, 150, 2), []
    for event in history(90, channels=2, arms=4, dim=150):
        model.learn(*event)
        seen.append(int(model.stage[0]))
    assert {CLIMB, MOVE} <= {seen[n - 1] for n in (64, 65, 66, 68, 72, 80, 85, 90)}


def test_threads_that_decide_while_another_learns_see_distributions():
    router = Router(arms=[Arm(id=f"m{i}") for i in range(4)], context=100, key=b"k")
    x, seen, stop = np.random.default_rng(0).normal(size=(32, 100)), [], threading.Event()

    def serve(name):
        i = 0
        while not stop.is_set() or i < 3:
            seen.append(router.decide(x[i % 32], event_id=f"{name}{i}"))
            i += 1

    threads = [threading.Thread(target=serve, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for i in range(200):
        router.decide(x[i % 32], event_id=f"e{i}")
        router.observe(f"e{i}", Outcome(quality=0.5 + 0.3 * float(np.tanh(x[i % 32, 0]))))
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(decision.degraded for decision in seen)
    assert all(abs(decision.probabilities.sum() - 1) < 1e-9 for decision in seen)
    assert router.policy.steps == 200


def test_a_restart_leaves_each_arm_the_posterior_of_what_is_kept():
    """Arms by themselves are as solved at once; what they said of what they share is kept as the largest share is."""
    model = hierarchical_ridge(K, D, 2)
    learned(model, history(300, channels=2))
    settle(model)
    before, theta = np.linalg.inv(model.shared_inverse), model.shared_theta.copy()
    model.restart(1, 0.2, 0.0)
    assert np.linalg.inv(model.shared_inverse) == pytest.approx(before / 2, rel=1e-6)
    assert model.shared_theta == pytest.approx(theta, rel=1e-6, abs=1e-9)
    settle(model)
    whole = solved(model)
    for name in ("precision", "inverse", "cost_inverse"):
        assert getattr(model, name) == pytest.approx(getattr(whole, name), rel=1e-6, abs=1e-8), name
    assert np.linalg.eigvalsh(model.shared_inverse)[0] > 0


def test_a_restart_that_keeps_all_arms_alike_is_solved_as_at_once():
    model = hierarchical_ridge(K, D, 1)
    learned(model, history(300))
    settle(model)
    model.restart(1, 0.5, 0.1)
    settle(model)
    whole = solved(model)
    for name in POSTERIOR:
        assert getattr(model, name) == pytest.approx(getattr(whole, name), rel=1e-6, abs=1e-8), name
    assert float(model.loss) == pytest.approx(float(whole.loss), rel=1e-7)


def test_new_arms_while_tuning_are_solved_as_at_once():
    model = hierarchical_ridge(K, D, 2)
    learned(model, history(75, channels=2))
    model.add_arm(None, 1.0)
    model.add_arm(1, 4.0)
    learned(model, history(200, channels=2, seed=1, arms=5))
    settle(model)
    whole = solved(model)
    for name in POSTERIOR:
        assert getattr(model, name) == pytest.approx(getattr(whole, name), rel=1e-6, abs=1e-8), name
