"""Both forms of the ridge statistics: against the textbook, against each other, and what only the compiled one does."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, LinUCB
from bandit_router.policies.compiled import CompiledRidge, ridge_statistics
from bandit_router.policies.distributions import draw
from bandit_router.policies.distributions import greedy as greedy_distribution
from bandit_router.policies.linear import RidgeStatistics, Rule, pack, unpack
from bandit_router.policies.linear_base import LinearPolicy
from bandit_router.policies.native import kernels

BUILT = kernels() is not None
FORMS = (RidgeStatistics, CompiledRidge) if BUILT else (RidgeStatistics,)
LINEAR = [name for name, policy in POLICIES.items() if issubclass(policy, LinearPolicy)]
SIZES = [(1, 1, 1), (3, 2, 2), (5, 16, 1), (7, 33, 3), (16, 32, 4), (2, 100, 1)]
TOLERANCE = {64: 1e-9, 32: 1e-3}


@pytest.fixture(params=[16, 32, 64] if BUILT else [0])
def vector_bytes(request):
    """Every vector width that this processor has."""
    if BUILT:
        kernels().choose(request.param)
    yield request.param
    if BUILT:
        kernels().choose(64)


def stream(seed, steps, n_arms, dim, channels):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        y = rng.normal(size=channels)
        y[1:][rng.random(channels - 1) < 0.2] = np.nan
        yield int(rng.integers(n_arms)), rng.normal(size=dim), y, float(rng.uniform(0.1, 3.0))


def trained(form, sizes, *, steps=300, seed=1, **settings):
    statistics = form(*sizes, **{"ridge": 0.7, **settings})
    for event in stream(seed, steps, *sizes):
        statistics.learn(*event)
    return statistics


def nearly_parallel(seed, steps, dim=16):
    """Contexts of squared length about 80,000, two of whose features are nearly the same."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, dim))
    x[:, 1] = 200 + 60 * x[:, 1]
    x[:, 2] = 1.01 * x[:, 1] + 0.2 * x[:, 2]
    return x, 0.5 + 0.1 * x[:, 3] + 0.02 * rng.normal(size=steps)


@pytest.mark.parametrize("form", FORMS)
def test_float32_keeps_a_useful_inverse_for_long_alike_features(form):
    """Float32 keeps a useful inverse where features are long and nearly the same."""
    for seed in range(8):
        short, full = (form(1, 16, 1, ridge=1.0, precision=bits) for bits in (32, 64))
        for x, y in zip(*nearly_parallel(seed, 1200), strict=True):
            short.learn(0, x, np.array([y]), 1.0)
            full.learn(0, x, np.array([y]), 1.0)
        for x in nearly_parallel(seed + 100, 50)[0]:
            (mean, width), (expected, _) = short.predict(x), full.predict(x)
            assert abs(mean.item() - expected.item()) < 0.1
            assert 0 < width.item() < 0.2


@pytest.mark.parametrize("form", FORMS)
def test_what_float32_cannot_hold_in_full_counts_less_and_stays_finite(form):
    short, full = (form(1, 16, 1, ridge=1.0, precision=bits) for bits in (32, 64))
    for x, y in zip(*nearly_parallel(7, 1200), strict=True):
        long = 30 * x
        short.learn(0, long, np.array([y]), 1.0)
        full.learn(0, long, np.array([y]), min(1.0, 1e5 / float(long @ long)))
    for x in 30 * nearly_parallel(107, 50)[0]:
        assert abs(short.predict(x)[0].item() - full.predict(x)[0].item()) < 0.2


def test_a_score_that_is_no_number_is_seen_in_the_distribution():
    policy = POLICIES["LinUCB"](n_arms=2, dim=1)
    policy.statistics.theta[:] = np.nan
    assert np.isnan(policy.probabilities([1.0])).all()


@pytest.mark.parametrize("form", FORMS)
def test_arms_without_a_bound_keep_their_penalties_in_a_zero_context(form):
    policy = LinUCB(n_arms=64, dim=32, forgetting=0.99, floor=0.0)
    policy.statistics = form(64, 32, 1, ridge=1.0, forgetting=0.99)
    for arm, x in enumerate(np.random.default_rng(0).normal(size=(64, 32))):
        policy.learn(x, arm, [0.5])
    penalty = np.where(np.arange(64) == 7, 0.1, 5.0)
    assert policy.probabilities(np.zeros(32), penalty=penalty).argmax() == 7
    assert (policy.probabilities(np.zeros(32), penalty=penalty) > 0).sum() == 1


def assert_same(a, b, tolerance):
    rng = np.random.default_rng(99)
    for x in rng.normal(size=(20, a.dim)):
        for left, right in zip(a.predict(x), b.predict(x), strict=True):
            np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("asked", "form"), [("", "compiled"), ("numpy", "numpy")])
def test_the_kernels_are_active_wherever_numpy_was_not_asked_for(asked, form, tmp_path):
    """Run `python setup.py build_ext --inplace` or install the package where the first one fails."""
    script = (
        "from bandit_router import EvidenceThompson, LinUCB; from bandit_router.policies import distributions, native;"
        "made = LinUCB(n_arms=2, dim=1).statistics, EvidenceThompson(n_arms=2, dim=1).model;"
        "print(native.kernel_name(), *(type(each).__name__ for each in made), native.sound.__name__)"
    )
    environment = {**os.environ, "BANDIT_ROUTER_KERNELS": asked}
    ran = subprocess.run(  # away from the sources, which have no kernels beside them
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    words = ran.stdout.split()
    assert words[0] == form
    expected = ["RidgeStatistics", "HierarchicalRidge", "_sound"] if form == "numpy" else ["CompiledRidge"]
    assert words[-3:] == expected or (form == "compiled" and "CompiledRidge" in words and words[-1] == "sound")


@pytest.mark.parametrize("precision", [64, 32])
@pytest.mark.parametrize("form", FORMS)
def test_estimates_are_those_of_weighted_ridge_regression(form, precision):
    n_arms, dim = 3, 9
    statistics = form(n_arms, dim, 2, ridge=0.7, precision=precision)
    a = np.tile(0.7 * np.eye(dim), (n_arms, 1, 1))
    b = np.zeros((n_arms, 2, dim))
    rng = np.random.default_rng(3)
    for _ in range(200):
        arm, x, y, w = int(rng.integers(n_arms)), rng.normal(size=dim), rng.normal(size=2), rng.uniform(0.1, 3.0)
        statistics.learn(arm, x, y, w)
        a[arm] += w * np.outer(x, x)
        b[arm] += w * np.outer(y, x)
    x = rng.normal(size=dim)
    solved = np.linalg.solve(a, np.tile(x[:, None], (n_arms, 1, 1)))[..., 0]
    mean, width = statistics.predict(x)
    np.testing.assert_allclose(mean, np.einsum("ncd,nd->nc", b, solved), atol=TOLERANCE[precision])
    np.testing.assert_allclose(width, np.sqrt(solved @ x), rtol=TOLERANCE[precision])
    assert statistics.counts.sum() == 200


@pytest.mark.parametrize("forgetting", [1.0, 0.97])
@pytest.mark.parametrize("precision", [64, 32])
@pytest.mark.parametrize("sizes", SIZES)
def test_every_form_and_vector_width_agrees(sizes, precision, forgetting, vector_bytes):
    settings = {"precision": precision, "forgetting": forgetting}
    reference = trained(RidgeStatistics, sizes, **settings)
    other = trained(FORMS[-1], sizes, **settings)
    assert_same(reference, other, TOLERANCE[precision])
    assert other.refreshes == 0
    for x in np.eye(sizes[1])[:3]:
        np.testing.assert_allclose(other.solve(x), reference.solve(x), atol=TOLERANCE[precision])
        assert other.solve_arm(0, x).tolist() == other.solve(x)[0].tolist()
    prices = np.linspace(1.0, -1.0, sizes[2])
    contexts = np.random.default_rng(5).normal(size=(6, sizes[1]))
    means, widths = other.predict_many(contexts)
    for x, mean, width in zip(contexts, means, widths, strict=True):
        for one, many in zip(other.predict(x), (mean, width), strict=True):
            np.testing.assert_allclose(one, many, rtol=1e-12, atol=1e-14)
        for alpha in (0.0, 0.3):
            expected = reference.index(x, prices, alpha)
            assert other.select(x, prices, alpha) == expected.argmax()
            np.testing.assert_allclose(
                other.index(x, prices, alpha), expected, rtol=TOLERANCE[precision], atol=TOLERANCE[precision]
            )


@pytest.mark.parametrize("n_arms", range(1, 11))
@pytest.mark.parametrize("form", FORMS[1:])
def test_arms_that_know_the_same_tie_to_the_bit(form, n_arms, vector_bytes):
    statistics = form(n_arms, 37, 2, ridge=0.3)
    for arm, x, y, weight in stream(0, 50, 1, 37, 2):
        for each in range(n_arms):
            statistics.learn(arm + each, x, y, weight)
    for x in np.random.default_rng(1).normal(size=(20, 37)):
        assert len(set(statistics.index(x, np.array([1.0, -0.5]), 0.3).tolist())) == 1


@pytest.mark.parametrize("name", LINEAR)
def test_policies_choose_alike_in_both_forms(name, monkeypatch):
    sizes = {"n_arms": 6, "dim": 8, "channels": 2}
    compiled = POLICIES[name](**sizes)
    monkeypatch.setattr("bandit_router.policies.native._kernels", None)
    reference = POLICIES[name](**sizes)
    assert type(reference.statistics) is RidgeStatistics
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(6, 8)) / 3
    prices = np.array([1.0, -0.2])
    for step in range(600):
        x, penalty = rng.normal(size=8), 0.1 * rng.random(6)
        p, q = (policy.probabilities(x, None, prices, penalty) for policy in (compiled, reference))
        np.testing.assert_allclose(p, q, atol=1e-9)
        arm = draw(p, rng.random())
        y = np.array([theta[arm] @ x + 0.1 * rng.normal(), np.nan if step % 3 else 1.0])
        for policy in (compiled, reference):
            policy.learn(x, arm, y)


@pytest.mark.parametrize("target", FORMS)
@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("precision", [64, 32])
def test_a_state_saved_by_one_form_goes_on_in_another(source, target, precision):
    sizes = (4, 11, 2)
    saved = trained(source, sizes, precision=precision, forgetting=0.99)
    loaded = target(*sizes, ridge=0.7, precision=precision, forgetting=0.99)
    arrays = {name: array.copy() for name, array in saved.arrays().items()}
    loaded.restore(arrays)
    for name, array in loaded.arrays().items():
        assert array.tobytes() == arrays[name].tobytes(), name
    for event in stream(2, 100, *sizes):
        saved.learn(*event)
        loaded.learn(*event)
    assert_same(saved, loaded, TOLERANCE[precision])


def test_a_state_written_by_a_policy_is_half_of_each_inverse():
    policy = POLICIES["LinUCB"](n_arms=3, dim=24, channels=2)
    policy.learn(np.ones(24), 1, [1.0, 2.0])
    state = policy.state()
    assert state["inverse"].shape == (3, 24 * 25 // 2)
    again = POLICIES["LinUCB"].from_state(state)
    x = np.arange(24.0)
    assert again.estimate(x).mean.tolist() == policy.estimate(x).mean.tolist()
    assert again.estimate(x).bonus.tolist() == policy.estimate(x).bonus.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_replicas_that_exchange_deltas_know_what_one_learner_knows(form):
    sizes = (3, 10, 2)
    whole = trained(form, sizes, steps=100)
    one, two = trained(form, sizes, steps=100), trained(form, sizes, steps=100)
    start = two.sums()
    for number, event in enumerate(stream(8, 200, *sizes)):
        if not np.isnan(event[2]).any():  # an imputed channel depends on the replica's own estimate
            whole.learn(*event)
            (one, two)[number % 2].learn(*event)
    one.merge(two.delta(start))
    assert_same(one, whole, 1e-9)
    assert one.counts.tolist() == whole.counts.tolist()


def greedy(statistics, x, arms, prices, penalty, alpha):
    """What a greedy policy without a floor plays, from the index of every arm."""
    index = statistics.index(x, prices, alpha)[arms] - penalty
    return greedy_distribution(index, 0.0).tolist()


@pytest.mark.parametrize("contexts", ["normal", "one coordinate", "shrinking"])
@pytest.mark.parametrize(("sizes", "alpha"), [((80, 20, 2), 0.1), ((40, 40, 1), 0.3), ((64, 64, 1), 1.0)])
@pytest.mark.parametrize("precision", [64, 32])
@pytest.mark.parametrize("form", FORMS[1:])
def test_arms_that_cannot_win_are_skipped_without_changing_a_choice(form, precision, sizes, alpha, contexts):
    n_arms, dim, channels = sizes
    statistics, rng = form(*sizes, ridge=0.5, precision=precision), np.random.default_rng(dim)
    theta, prices = rng.normal(size=(n_arms, dim)) / dim**0.5, np.linspace(1.0, -1.0, channels)
    everyone, rule = np.arange(n_arms), Rule("greedy", alpha, 0.0)
    for step in range(800):
        x = rng.normal(size=dim)
        if contexts == "one coordinate":
            x *= np.arange(dim) == step % dim
        elif contexts == "shrinking":
            x *= np.arange(1, dim + 1) ** -1.0
        arms = everyone if step % 3 else np.flatnonzero(rng.random(n_arms) < 0.5)
        penalty = 0.2 * rng.random(len(arms))
        p = statistics.distribution(rule, x, arms, prices, penalty)
        assert p.tolist() == greedy(statistics, x, arms, prices, penalty, alpha)
        assert statistics.select(x, prices, alpha) == statistics.index(x, prices, alpha).argmax()
        arm = int(arms[p.argmax()])
        y = np.full(channels, theta[arm] @ x) + 0.1 * rng.normal(size=channels)
        statistics.learn(arm, x, y, float(rng.uniform(0.5, 2.0)))


def widened(statistics):
    damaged = {name: array.copy() for name, array in statistics.arrays().items()}
    damaged["inverse"][:] = pack(100.0 * np.eye(statistics.dim)[None])
    statistics.restore(damaged)


def unlearned(statistics):
    delta = {name: -0.97 * array for name, array in statistics.sums().items()}
    for array in delta.values():
        array[::2] = 0
    statistics.merge(delta | {"counts": np.arange(len(statistics.counts)) % 2})


def grown(statistics):
    statistics.add_arm(None, 1.0)


def forgetful(statistics):
    statistics.forgetting = 0.5
    for arm in range(len(statistics.counts)):
        for x in np.eye(statistics.dim)[:20]:
            statistics.learn(arm, x, np.zeros(1), 1e-3)


@pytest.mark.parametrize("change", [widened, unlearned, grown, forgetful])
@pytest.mark.parametrize("form", FORMS[1:])
def test_a_bound_never_outlives_the_inverse_it_was_proven_for(form, change):
    statistics, rng = form(64, 24, 1, ridge=1.0), np.random.default_rng(0)
    for _ in range(3000):
        x = rng.normal(size=24)
        statistics.learn(int(rng.integers(64)), x, rng.normal(size=1), 1.0)
    change(statistics)
    for x in rng.normal(size=(100, 24)):
        assert statistics.select(x, np.ones(1), 0.5) == statistics.index(x, np.ones(1), 0.5).argmax()


@pytest.mark.parametrize("form", FORMS)
def test_an_added_arm_starts_at_the_prior_or_at_its_model(form):
    statistics = trained(form, (2, 5, 1))
    statistics.add_arm(None, 1.0)
    statistics.add_arm(1, 4.0)
    x = np.arange(5.0)
    mean, width = statistics.predict(x)
    assert mean[2] == 0.0
    assert mean[3] == pytest.approx(mean[1])
    np.testing.assert_allclose(width[2:] ** 2, [30 / 0.7, 30 / 2.8])
    statistics.learn(3, x, np.array([1.0]), 1.0)
    assert statistics.counts.tolist()[2:] == [0, 1]


@pytest.mark.parametrize("form", FORMS)
def test_forgetting_keeps_every_width_below_the_prior(form):
    statistics = form(1, 6, 1, ridge=0.5, forgetting=0.9)
    x = np.eye(6)[0]
    for _ in range(3000):
        statistics.learn(0, x, np.array([1.0]), 1.0)
    widest = np.linalg.eigvalsh(np.asarray(statistics.inverse[0])).max()
    assert 1.0 / 0.5 * 0.5 < widest < 1.0 / 0.5 * 1.6


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_variance_made_negative_by_rounding_is_repaired(form):
    """A variance that rounding made negative is repaired where it is met."""
    statistics = form(1, 4, 1, ridge=1.0)
    damaged = {name: array.copy() for name, array in statistics.arrays().items()}
    damaged["inverse"] = pack(np.diag([1.0, 1.0, 1.0, -1e-9])[None])
    statistics.restore(damaged)
    for step in range(64):
        statistics.learn(0, np.eye(4)[3 - step % 2], np.array([1.0]), 1.0)
    assert statistics.refreshes >= 1
    assert np.linalg.eigvalsh(statistics.inverse[0]).min() > 0
    assert np.isfinite(statistics.theta).all()


@pytest.mark.parametrize("precision", [64, 32])
@pytest.mark.parametrize("dim", [16, 24, 32, 64, 100, 384])
@pytest.mark.parametrize("form", FORMS[1:])
def test_statistics_take_at_most_a_tenth_more_than_half_of_each_inverse(form, dim, precision):
    state = form(16, dim, 2, ridge=1.0, precision=precision).__dict__
    inverses = sum(v.nbytes for v in state.values() if isinstance(v, np.ndarray) and v.ndim == 2)
    assert all(v.shape[1:] != (dim, dim) for v in state.values() if isinstance(v, np.ndarray))
    assert inverses <= 1.1 * 16 * dim * (dim + 1) / 2 * precision / 8


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("form", FORMS)
def test_a_copy_goes_on_alone(form, duplicate):
    statistics = trained(form, (3, 7, 1))
    twin = duplicate(statistics)
    assert_same(statistics, twin, 0.0)
    before = statistics.theta.copy()
    twin.learn(0, np.ones(7), np.array([5.0]), 1.0)
    assert statistics.theta.tolist() == before.tolist()
    assert twin.theta.tolist() != before.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_a_strided_context_counts_as_its_values(form):
    statistics = trained(form, (3, 7, 1))
    columns = np.random.default_rng(0).normal(size=(7, 4))
    prices = np.ones(1)
    straight = statistics.index(columns[:, 2].copy(), prices, 0.3)
    np.testing.assert_allclose(statistics.index(columns[:, 2], prices, 0.3), straight, rtol=1e-12)


def test_threads_may_read_together():
    statistics = trained(FORMS[-1], (64, 64, 1), steps=100)
    contexts = np.random.default_rng(0).normal(size=(50, 64))
    prices = np.ones(1)
    alone = [statistics.index(x, prices, 1.0).tolist() for x in contexts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: statistics.index(x, prices, 1.0).tolist(), contexts))
    assert together == alone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridge": 0.0}, "ridge must be finite"),
        ({"forgetting": 1.5}, "forgetting must be in"),
        ({"precision": 16}, "precision must be 64 or 32"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_unusable_settings_are_refused(form, settings, message):
    with pytest.raises(InvalidInput, match=message):
        form(2, 3, 1, **{"ridge": 1.0, **settings})


def test_sizes_beyond_the_kernels_fall_back_to_numpy():
    assert type(ridge_statistics(1, 8, 65, ridge=1.0)) is RidgeStatistics


def test_packing_keeps_the_lower_half_by_rows():
    matrix = np.array([[[1.0, 2.0, 4.0], [2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]])
    assert pack(matrix).tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    assert unpack(pack(matrix), 3).tolist() == matrix.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.learn(2, np.ones(3), np.ones(1), 1.0, 1.0, 1.0),
        lambda r: r.learn(0, np.ones(4), np.ones(1), 1.0, 1.0, 1.0),
        lambda r: r.learn(0, np.ones(3, dtype=np.float32), np.ones(1), 1.0, 1.0, 1.0),
        lambda r: r.index(np.ones(3), np.ones(2), 1.0, np.empty(2)),
        lambda r: r.index(np.ones(3), np.ones(1), 1.0, np.empty(3)),
        lambda r: r.index(np.ones((2, 3)), np.ones(1), 1.0, np.empty(2)),
        lambda r: r.predict_many(np.ones((2, 3)), np.empty((2, 2, 1)), np.empty(2)),
        lambda r: r.predict(np.ones(3), np.empty((2, 1)), np.empty(1)),
        lambda r: r.solve(np.ones(3), 0, np.empty((3, 3))),
        lambda r: r.solve(np.ones(3), 1, np.empty((2, 3))),
        lambda r: r.solve(np.ones(3), 0, np.empty(4)),
        lambda r: r.predict(np.ones(3), np.empty((2, 1))),
    ],
)
@pytest.mark.parametrize("form", FORMS[1:])
def test_kernels_refuse_arrays_that_do_not_fit(form, call):
    statistics = form(2, 3, 1, ridge=1.0)
    before = statistics.arrays()["inverse"].copy()
    with pytest.raises((ValueError, IndexError, TypeError)):
        call(statistics._ridge)
    assert statistics.arrays()["inverse"].tolist() == before.tolist()


@pytest.mark.skipif(not BUILT, reason="there is one form only")
def test_both_forms_draw_the_same_arm(monkeypatch):
    rng = np.random.default_rng(0)
    cases = [(rng.dirichlet(np.full(n, 0.3)) * (rng.random(n) < 0.7), rng.random()) for n in rng.integers(1, 20, 500)]
    cases = [(p, uniform) for p, uniform in cases if p.any()]
    cases += [(p, 0.0) for p, _ in cases] + [(p, 1.0 - 2.0**-53) for p, _ in cases]
    compiled = [draw(p, uniform) for p, uniform in cases]
    assert [draw(np.repeat(p, 2)[::2], uniform) for p, uniform in cases] == compiled
    monkeypatch.setattr("bandit_router.policies.distributions._kernels", None)
    assert [draw(p, uniform) for p, uniform in cases] == compiled
    assert all(p[arm] > 0 for (p, _), arm in zip(cases, compiled, strict=True))
