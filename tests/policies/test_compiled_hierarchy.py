"""The default policy's model on compiled kernels against its NumPy form, whose own oracle is test_hierarchical.py."""

import copy
import pickle

import numpy as np
import pytest

from bandit_router.policies import EvidenceThompson
from bandit_router.policies.compiled_hierarchy import CompiledHierarchy, hierarchical_ridge
from bandit_router.policies.default import STAKES, _move
from bandit_router.policies.hierarchical import HierarchicalRidge
from bandit_router.policies.native import kernels
from bandit_router.policies.wide_hierarchy import WIDE, WideHierarchy

BUILT = kernels() is not None
SIZES = [(2, 1, 1), (3, 6, 2), (5, 7, 1), (4, 33, 4), (16, 32, 4), (2, 72, 1)]


@pytest.fixture(params=[16, 32, 64] if BUILT else [0])
def vector_bytes(request):
    """Every vector width that this processor has."""
    if BUILT:
        kernels().choose(request.param)
    yield request.param
    if BUILT:
        kernels().choose(64)


def history(sizes, steps, seed=0):
    n_arms, dim, channels = sizes
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        y = rng.random(channels)
        y[1:][rng.random(channels - 1) < 0.3] = np.nan
        yield int(rng.integers(n_arms)), rng.normal(size=dim), y, float(rng.uniform(0.5, 2.0))


def both(sizes, steps, seed=0):
    """The two forms after the same outcomes, and what they said of each."""
    plain = WideHierarchy if sizes[1] > WIDE else HierarchicalRidge
    forms = (plain(*sizes), hierarchical_ridge(*sizes))
    told = [[form.learn(*event) for event in history(sizes, steps, seed)] for form in forms]
    return (*forms, *map(np.array, told))


def assert_same(one, two, channels):
    rng = np.random.default_rng(9)
    arms = np.arange(len(one.count))
    for _ in range(5):
        x, prices = rng.normal(size=one.precision.shape[1] - 1), rng.normal(size=channels)
        penalty, floor = rng.random(len(arms)), 0.1 * rng.random(len(arms))
        for some in (arms, arms[1:]):
            odds = [form.odds(x, some, prices, penalty[some], 0.5, floor[some]) for form in (one, two)]
            assert odds[1] == pytest.approx(odds[0], rel=1e-6, abs=1e-12)
    for name in one.SAVED:
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-8, abs=1e-10), name


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_both_forms_learn_and_answer_the_same(vector_bytes, sizes):
    one, two, told, told_too = both(sizes, 150)
    assert isinstance(two, CompiledHierarchy) == BUILT
    assert told_too == pytest.approx(told, rel=1e-8, abs=1e-10)
    assert_same(one, two, sizes[2])


def test_both_forms_stay_the_same_through_new_arms_and_restarts():
    one, two, _, _ = both((3, 4, 2), 80)
    for form in (one, two):
        form.add_arm(None, 1.0)
        form.add_arm(1, 5.0)
        form.restart(0, 0.3, -0.1)
        for event in history((5, 4, 2), 60, seed=1):
            form.learn(*event)
    assert_same(one, two, 2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_learns_on_its_own(copied):
    _, model, _, _ = both((3, 4, 1), 40)
    before = model.theta.copy()
    other = copied(model)
    other.learn(0, np.ones(4), np.ones(1), 1.0)
    model_again = copied(model)
    assert (model.theta == before).all()
    assert not (other.theta == before).all()
    assert (model_again.theta == before).all()


def test_where_numpy_is_asked_for_the_policy_uses_it(monkeypatch):
    monkeypatch.setattr("bandit_router.policies.native._kernels", None)
    assert type(EvidenceThompson(n_arms=2, dim=1).model) is HierarchicalRidge


@pytest.mark.skipif(not BUILT, reason="needs the compiled kernels")
def test_the_bets_of_both_forms_move_alike():
    rng, one, two = np.random.default_rng(0), np.zeros((3, 6)), np.zeros((3, 6))
    for innovation in rng.normal(0.2, 1.0, 200):
        assert kernels().bet(two, STAKES, innovation, innovation) == pytest.approx(
            _move(one, STAKES, innovation, innovation)
        )
        assert two == pytest.approx(one)


@pytest.mark.skipif(not BUILT, reason="needs the compiled kernels")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda k: k.learn(3, np.ones(4), np.ones(1), 1.0), IndexError),
        (lambda k: k.learn(0, np.ones(5), np.ones(1), 1.0), ValueError),
        (lambda k: k.learn(0, np.ones(4), np.ones(1)), TypeError),
        (
            lambda k: k.odds(np.ones(4), np.array([3]), np.ones(1), np.zeros(1), 0.5, np.zeros(1), np.zeros(1)),
            IndexError,
        ),
        (lambda k: k.odds(np.ones(4), None, np.ones(1), np.zeros(2), 0.5, np.zeros(3), np.zeros(3)), ValueError),
        (lambda k: type(k)((np.zeros(1),), 1, 1, 1), ValueError),
    ],
)
def test_the_kernel_refuses_what_does_not_fit(call, error):
    model = hierarchical_ridge(3, 4, 1)
    with pytest.raises(error):
        call(model._kernel)
