"""The default policy learns what it should: reduced forms of the claims in docs/evidence/learning.md."""

import numpy as np
import pytest
from scipy.stats import norm

from bandit_router import Arm, Outcome, Router
from bandit_router.policies import DEFAULT_POLICY, EvidenceThompson
from bandit_router.policies.default import alarm
from bandit_router.policies.distributions import draw


def run(policy, contexts, means, seed, *, binary=True, noise=0.1):
    """Plays and their means; outcomes are paired by seed."""
    rng = np.random.default_rng(seed)
    uniforms, luck = rng.random(len(means)), rng.random(means.shape)
    outcomes = (luck < means).astype(float) if binary else means + noise * norm.ppf(luck)
    arms = np.empty(len(means), dtype=int)
    for t, x in enumerate(contexts):
        p = policy.probabilities(x)
        arms[t] = arm = draw(p, uniforms[t])
        policy.learn(x, arm, outcomes[t, [arm]], propensity=min(1.0, float(p[arm])))
    return arms, means[np.arange(len(means)), arms]


def tasks(n, seed, kinds=4):
    return np.eye(kinds)[np.random.default_rng([seed, 1]).integers(0, kinds, n)]


def first_half_of_fifty(played):
    """The first step from which an arm has half of the next fifty requests."""
    share = np.convolve(played, np.full(50, 1 / 50), "valid")
    return int(np.argmax(share >= 0.5)) if (share >= 0.5).any() else len(played)


def test_the_default_runs_in_a_router_without_settings():
    router = Router(arms=[Arm(id="small"), Arm(id="large")], context=2)
    for i in range(80):
        arm = router.decide([0.5, float(i % 2)], event_id=str(i)).arm
        router.observe(str(i), Outcome(quality=0.9 if arm == "large" else 0.2))
    assert type(router.policy).__name__ == DEFAULT_POLICY == "EvidenceThompson"
    assert router.decide([0.5, 1.0], event_id="last").probabilities[1] > 0.99


def test_of_two_arms_each_is_played_with_its_probability_of_being_better():
    policy = EvidenceThompson(n_arms=2, dim=1)
    for arm, quality in ((0, 0.6), (1, 0.5), (0, 0.7), (1, 0.8), (1, 0.4)):
        policy.learn([1.0], arm, [quality])
    prediction = policy.model.predict(np.ones(1))
    gap = float(prediction.mean[0, 0] - prediction.mean[1, 0])
    variance = float(policy.model.gap_variance(prediction, np.arange(2), 0)[1]) / 2
    assert policy.probabilities([1.0])[0] == pytest.approx(norm.cdf(gap / np.sqrt(variance)), abs=1e-9)


def test_pure_noise_features_cost_next_to_nothing():
    """64 columns of noise beside four tasks, three arms; loss per request against the same policy without them."""
    losses = []
    for seed in range(3):
        x = tasks(1500, seed)
        means = np.array([[0.5, 0.62, 0.68]]) + x @ np.random.default_rng(5).normal(0, 0.05, (4, 3))
        wide = np.concatenate([x, np.random.default_rng([seed, 2]).normal(size=(1500, 64))], axis=1)
        _, without = run(EvidenceThompson(n_arms=3, dim=4), x, means, seed)
        policy = EvidenceThompson(n_arms=3, dim=68)
        _, noisy = run(policy, wide, means, seed)
        losses.append(without.mean() - noisy.mean())
    assert np.mean(losses) < 0.005
    assert policy.model.scale[2] > 10


def test_features_that_matter_are_used():
    """The gain over the best fixed arm is most of what knowing the right slopes would give."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 4))
    means = 0.5 + x @ rng.normal(0, 0.1, (4, 3))
    _, got = run(EvidenceThompson(n_arms=3, dim=4), x, means, 0, binary=False)
    fixed, oracle = means.mean(axis=0).max(), means.max(axis=1).mean()
    assert got.mean() - fixed > 0.9 * (oracle - fixed)


@pytest.mark.parametrize("gap", [0.15, 0.3])
def test_it_recovers_within_150_requests_after_arms_change_places(gap):
    """After two arms change places it recovers within 150 requests in the median."""
    delays = []
    for seed in range(5):
        means = np.tile([0.75, 0.75 - gap], (1400, 1))
        means[1000:] = means[1000:, ::-1]
        arms, _ = run(EvidenceThompson(n_arms=2, dim=4), tasks(1400, seed), means, seed, binary=gap > 0.2, noise=0.25)
        delays.append(first_half_of_fifty(arms[1000:] == 1))
    assert np.median(delays) <= 150


def test_without_a_change_alarms_are_rare(monkeypatch):
    restarts = []
    for seed in range(3):
        policy = EvidenceThompson(n_arms=2, dim=1)
        restart = policy.model.restart
        monkeypatch.setattr(policy.model, "restart", lambda *a, f=restart: (restarts.append(a), f(*a)))
        run(policy, np.ones((1500, 1)), np.tile([0.9, 0.8], (1500, 1)), seed)
    assert len(restarts) <= 1


def test_the_wealth_that_counts_as_a_change_grows_with_time():
    assert alarm(1) == pytest.approx(np.log(6))
    assert alarm(1000) == pytest.approx(np.log(6 * 1000))


@pytest.mark.parametrize(("better_by", "at_least", "at_most"), [(0.03, 0.5, 1.0), (-0.1, 0.0, 0.03)])
def test_a_new_arm_gets_the_traffic_it_earns(better_by, at_least, at_most):
    """Better by 3 points: half of the traffic within 150 requests; worse by 10: under 3 % after 300; in the median."""
    delays, shares = [], []
    for seed in range(5):
        x, policy = tasks(1000, seed), EvidenceThompson(n_arms=3, dim=4)
        means = np.tile([0.88, 0.85, 0.75, 0.88 + better_by], (1000, 1))
        run(policy, x[:500], means[:500, :3], seed, binary=False)
        policy.add_arm()
        arms, _ = run(policy, x[500:], means[500:], seed + 50, binary=False)
        delays.append(first_half_of_fifty(arms == 3))
        shares.append((arms[300:] == 3).mean())
    assert at_least <= np.median(shares) <= at_most
    assert better_by < 0 or np.median(delays) <= 150


def test_an_arm_that_was_dear_on_one_task_is_still_tried_on_others():
    """Equal quality; arm 0 costs 1 on task 0 and 0.1 on the other three, arm 1 costs 0.4 on all."""
    late = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        kinds = rng.integers(0, 4, 900)
        policy, played = EvidenceThompson(n_arms=2, dim=4, channels=2), []
        for x, uniform in zip(np.eye(4)[kinds], rng.random(900), strict=True):
            arm = draw(policy.probabilities(x, prices=[1.0, -1.0]), uniform)
            cost = (1.0 if x[0] else 0.1) if arm == 0 else 0.4
            policy.learn(x, arm, [0.5 + 0.1 * rng.normal(), cost + 0.05 * rng.normal()])
            played.append(arm)
        late.append(np.mean((np.array(played) == (kinds == 0))[500:]))
    assert min(late) > 0.9


@pytest.mark.parametrize("order", ["by task", "best arm fails first", "alternating blocks"])
def test_on_adversarial_orders_it_stays_close_to_the_best_single_arm(order):
    n, means = 1200, np.tile([0.6, 0.7, 0.5], (1200, 1))
    x = np.eye(4)[np.arange(n) * 4 // n]
    if order == "by task":
        means += np.where(x[:, :1] == 1, [[0.1, -0.2, 0.0]], [[0.0, 0.05, 0.0]])
    elif order == "best arm fails first":
        means[:100, 1] = 0.1
    else:
        means[np.arange(n) // 200 % 2 == 1] = [0.5, 0.65, 0.6]
    shortfalls = []
    for seed in range(3):
        _, got = run(EvidenceThompson(n_arms=3, dim=4), x, means, seed)
        shortfalls.append(means.mean(axis=0).max() - got.mean())
    assert np.mean(shortfalls) < 0.04


def test_with_a_premium_it_is_insured_and_without_it_is_not():
    """With a premium it is insured and with none it answers its own odds."""
    plain, insured = EvidenceThompson(n_arms=2, dim=1), EvidenceThompson(n_arms=2, dim=1, premium=0.1)
    for policy in (plain, insured):
        for _ in range(30):
            policy.learn([1.0], 0, [1.0], propensity=0.5)
            policy.learn([1.0], 1, [0.0], propensity=0.5)
    own, mixed = plain.probabilities([1.0]), insured.probabilities([1.0])
    assert mixed == pytest.approx(insured.insurance.mix(own, np.arange(2), np.ones(1)))
    assert mixed[1] < own[1] < 0.01
