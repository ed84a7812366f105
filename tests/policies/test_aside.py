"""The default policy forgives: outages, bursts of false zeros, dead arms, and the evidence that an alarm sets aside."""

import numpy as np
import pytest

from bandit_router.policies import EvidenceThompson, default
from bandit_router.policies.aside import SUMS
from bandit_router.policies.distributions import draw
from bandit_router.policies.hierarchical import HierarchicalRidge
from bandit_router.policies.wide_hierarchy import WideHierarchy

QUALITY = np.array([0.8, 0.65, 0.6, 0.5])


def run(steps, seed, *, bad=lambda step: False, bursts=(), length=0, noise=None, dim=4):
    """Where the best arm is played; it gives 0 at steps that are `bad`, and `length` times in a row from each burst on.

    Outcomes are 0/1, or normal with deviation `noise`; without context (`dim` 1) every request is the same.
    """
    rng, policy = np.random.default_rng(seed), EvidenceThompson(n_arms=4, dim=dim)
    best, left = np.zeros(steps, bool), 0
    for step in range(steps):
        x = np.append(1.0, rng.normal(size=dim - 1))
        arm = draw(policy.probabilities(x), rng.random())
        left = length if step in bursts else left
        best[step] = arm == 0
        fails = best[step] and (bad(step) or left > 0)
        left -= best[step] and left > 0
        mean = 0.0 if fails else QUALITY[arm]
        policy.learn(x, arm, [float(rng.random() < mean) if noise is None else mean + noise * rng.normal()])
    return best


@pytest.mark.parametrize("dim", [1, 4, 100], ids=["no context", "context", "wide context"])
@pytest.mark.parametrize("noise", [None, 0.25], ids=["0/1", "normal"])
@pytest.mark.parametrize("outage", [30, 50, 200])
def test_after_an_outage_half_of_the_traffic_is_back_within_300_requests(outage, noise, dim):
    end = 500 + outage
    shares = []
    for seed in range(8):
        best = run(end + 350, seed, bad=lambda step: 500 <= step < end, noise=noise, dim=dim)
        shares.append(best[end + 250 :].mean())
    assert np.mean(shares) > 0.8
    assert np.median(shares) > (0.95 if dim < 100 else 0.9)  # undisturbed, 0/1 in 100 dimensions: 0.965


@pytest.mark.parametrize("noise", [None, 0.25], ids=["0/1", "normal"])
def test_twelve_failures_in_a_row_cost_less_than_a_hundred(noise):
    """After 2,000 good requests."""
    lost = [(~run(2400, seed, bursts=[2000], length=12, noise=noise)[2000:]).sum() for seed in range(6)]
    assert np.median(lost) < 100
    assert np.mean(lost) < 150


@pytest.mark.parametrize("noise", [None, 0.25], ids=["0/1", "normal"])
def test_an_arm_that_stays_dead_costs_two_percent_in_ever_rarer_probes(noise):
    best = np.array([run(2500, seed, bad=lambda step: step >= 500, noise=noise)[500:] for seed in range(8)])
    assert best.mean() < 0.02
    assert 0 < best[:, 1000:].mean() < best[:, 200:1000].mean() / 2


def test_bursts_of_ten_false_zeros_cost_a_few_percent():
    shares = [run(6000, seed, bursts=range(2000, 6000, 500), length=10)[2000:].mean() for seed in range(4)]
    assert np.mean(shares) > 0.95


def test_the_floor_falls_like_one_over_the_steps():
    """No probability goes under it."""
    policy = EvidenceThompson(n_arms=3, dim=1)
    for steps in range(1, 400):
        policy.learn([1.0], 0, [0.9])
        policy.learn([1.0], steps % 2 + 1, [0.1])
        p = policy.probabilities([1.0])
        assert p.min() >= 1 / (3 * (2 * steps + 1)) / (1 + 1 / (2 * steps + 1)) - 1e-12
    assert p.min() < 1e-3
    assert policy.probabilities([1.0], np.array([True, False, True]))[1] == 0


def estimates(policy):
    """Both arms' at a usual request, and at one that differs."""
    return np.array([policy.estimate(x).mean[:, 0] for x in ([0.0, 0.0], [1.0, 0.0])])


def after_an_alarm(dim=2, channels=1):
    """A policy whose arm 0 was at 0.9 for 300 outcomes, then at 0 until the alarm; and its estimates before."""
    policy, rng = EvidenceThompson(n_arms=2, dim=dim, channels=channels), np.random.default_rng(0)
    for _ in range(300):
        for arm, level in ((0, 0.9), (1, 0.5)):
            x = rng.normal(size=dim)
            policy.learn(x, arm, [level + 0.1 * x[0] + 0.05 * rng.normal(), 2.0][:channels])
    before = estimates(policy) if dim == 2 else None
    while not policy.aside.count[0]:
        policy.learn(rng.normal(size=dim), 0, [0.0, 2.0][:channels])
    return policy, before


def test_what_an_alarm_set_aside_comes_back_when_it_explains():
    """What an alarm set aside comes back when it explains the arm better."""
    policy, before = after_an_alarm()
    others = policy.model.count[1]
    assert estimates(policy)[0, 0] < 0.2
    for _ in range(3):
        policy.learn([0.0, 0.0], 0, [0.9])
    assert estimates(policy) == pytest.approx(before, abs=0.03)
    assert 300 < policy.model.count[0] < 310
    assert policy.model.count[1] == pytest.approx(2 * others)
    assert not policy.aside.held


def test_what_stays_bad_does_not_bring_it_back():
    policy, _ = after_an_alarm()
    for _ in range(100):
        policy.learn([0.0, 0.0], 0, [0.0])
    assert policy.aside.count[0] > 290
    assert policy.estimate([0.0, 0.0]).mean[0, 0] < 0.05


def test_what_is_set_aside_is_without_what_came_since():
    """A shift of every outcome since: what is kept and what the model goes on with are the two parts."""
    policy = EvidenceThompson(n_arms=2, dim=1)
    for quality in [0.9] * 60 + [0.1] * 20:
        policy.model.learn(0, np.ones(1), np.array([quality]), 1.0)
    drift = -0.8
    policy.aside.put(policy.model, 0, 80, 20.0, drift)
    kept = {name: getattr(policy.aside, name)[0] for name in SUMS}
    assert kept["count"] == pytest.approx(60)
    assert kept["gram"] == pytest.approx(np.full((2, 2), 60.0))
    assert kept["moment"][0] == pytest.approx(np.full(2, 60 * 0.9))


def test_a_probe_comes_after_a_gap_in_proportion_to_the_age_of_the_change():
    policy, _ = after_an_alarm()
    assert policy.aside.fell[0] == 1.0
    policy.aside.began[0], policy.aside.last[0], policy.aside.votes[0] = 0, 1000, 0.0
    for gone in (1, 100, 1000):
        floor = np.zeros(2)
        policy.aside.raise_floor(floor, 1000 + gone - 1)
        assert floor.tolist() == pytest.approx([40 * gone / (1000 + gone) ** 2, 0.0])


@pytest.mark.parametrize("dim", [2, 100])
def test_a_reload_in_the_middle_of_an_outage_goes_on_alike(dim):
    policy, _ = after_an_alarm(dim)
    policy.add_arm()
    again, x = EvidenceThompson.from_state(policy.state()), np.full(dim, 0.1)
    for _ in range(5):
        assert again.probabilities(x).tolist() == policy.probabilities(x).tolist()
        for each in (policy, again):
            each.learn(x, 0, [0.9])
    assert not policy.aside.held
    assert {k: v.tolist() for k, v in again.state().items()} == {k: v.tolist() for k, v in policy.state().items()}


def solved(model):
    """Arms' and shared inverses and coefficients, and s, from the sums at the precisions reached: (1), (2) and (4)."""
    own, told, q = [], np.diag(model.shared_precision), 0.0
    for gram, moment, precision in zip(model.gram, model.moment[:, 0], model.precision, strict=True):
        own.append(np.linalg.inv(gram + np.diag(precision)))
        told = told + np.diag(precision) - precision[:, None] * own[-1] * precision
        q = q + precision * (own[-1] @ moment)
    shared = np.linalg.inv(told)
    loss = 0.25 + model.square.sum() - sum(m @ b @ m for m, b in zip(model.moment[:, 0], own, strict=True))
    return np.array(own), shared, shared @ q, (loss - q @ shared @ q) / (model.count.sum() + 1.0)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_in_many_dimensions_what_returns_is_solved_without_a_whole_fit(monkeypatch, compiled, channels):
    policy, _ = after_an_alarm(100, channels)
    if not compiled:
        plain = WideHierarchy(2, 100, channels)
        plain.restore({name: array.copy() for name, array in policy.model.arrays().items()})
        policy.model = plain
    model, kept = policy.model, policy.aside.gram[0].copy()
    monkeypatch.setattr(HierarchicalRidge, "fit", None)
    policy.aside.give_back(model, 0)
    assert (model.gram[0] == kept).all()
    own, shared, theta, noise = solved(model)
    assert model.inverse == pytest.approx(own, rel=1e-7, abs=1e-9)
    assert model.shared_inverse == pytest.approx(shared, rel=1e-7, abs=1e-9)
    assert model.shared_theta == pytest.approx(theta, rel=1e-7, abs=1e-9)
    assert model.noise == pytest.approx(noise)
    if channels == 2:
        assert model.mean_costs()[0, 0] == pytest.approx(2.0)
        assert model.predict(np.zeros(100)).mean[0, 1] == pytest.approx(2.0, abs=0.01)


def test_compiled_and_plain_models_return_the_same_in_many_dimensions(monkeypatch):
    states = []
    for form in (None, WideHierarchy):
        if form is not None:
            monkeypatch.setattr(default, "hierarchical_ridge", form)
        policy, _ = after_an_alarm(100)
        for _ in range(30):
            policy.learn(np.zeros(100), 0, [0.9])
        assert not policy.aside.held
        states.append(policy.state())
    for name, array in states[0].items():
        assert array == pytest.approx(states[1][name], rel=1e-6, abs=1e-8), name
