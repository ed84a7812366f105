"""The insurance: its estimate is unbiased, its bound holds on streams made to break the policy it insures."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies.safe import ArmInsurance


def shortfall(rewards, q, premium, seed):
    """Best single arm minus what was got, when the insured policy always answers q."""
    insurance, rng = ArmInsurance(rewards.shape[1], 1, premium=premium), np.random.default_rng(seed)
    arms, got = np.arange(rewards.shape[1]), 0.0
    for row, uniform in zip(rewards, rng.random(len(rewards)), strict=True):
        p = insurance.mix(q, arms, np.ones(1))
        arm = min(int(np.searchsorted(p.cumsum(), uniform)), len(q) - 1)
        insurance.learn(arm, row[[arm]], 1.0, float(p[arm]))
        got += row[arm]
    return float(rewards.sum(axis=0).max() - got)


def adversarial_orders(n=3000):
    """Streams on which a policy stuck on arm 0 loses: arm 1 better always, later, or in a block."""
    noise = np.random.default_rng(0).random((n, 2))
    for good in (np.full(n, True), np.arange(n) > n // 3, np.arange(n) % n < n // 2):
        yield (noise < np.where(good[:, None], [0.4, 0.8], [0.6, 0.2])).astype(float)


@pytest.mark.parametrize("rewards", list(adversarial_orders()), ids=["always", "later", "first half"])
def test_a_stuck_policy_stays_within_the_bound_of_the_best_arm(rewards):
    n, k = rewards.shape
    losses = [shortfall(rewards, np.array([1.0, 0.0]), 0.01, seed) for seed in range(3)]
    rate = np.sqrt(np.log(k / 0.01) / (k * n))
    bound = (np.log(k / 0.01) + np.log1p(rate * n)) / rate + rate * k * n
    assert np.mean(losses) < bound


def test_insurance_recovers_most_of_what_a_stuck_policy_loses():
    rewards = next(adversarial_orders())
    stuck = rewards[:, 1].sum() - rewards[:, 0].sum()
    assert shortfall(rewards, np.array([1.0, 0.0]), 0.01, 0) < stuck / 3


def test_without_a_premium_the_policy_is_left_alone():
    q = np.array([0.9, 0.1])
    assert (ArmInsurance(2, 1, premium=0.0).mix(q, np.arange(2), np.ones(1)) == q).all()


def test_the_regret_estimate_is_unbiased():
    """Over all draws of one step, by hand: E R_a = r_a - p . r."""
    p, r = np.array([0.7, 0.3]), np.array([0.2, 0.9])
    expected = np.zeros(2)
    for arm in range(2):
        insurance = ArmInsurance(2, 1, premium=0.01)
        insurance.learn(arm, r[[arm]], 1.0, float(p[arm]))
        expected += p[arm] * insurance.regret(np.ones(1))
    assert expected == pytest.approx(r - p @ r)


def test_a_new_arm_starts_even():
    insurance = ArmInsurance(2, 1, premium=0.01)
    insurance.learn(0, np.array([0.3]), 1.0, 0.5)
    insurance.add_arm()
    assert insurance.regret(np.ones(1))[-1] == 0.0


def test_a_premium_of_everything_is_refused():
    with pytest.raises(InvalidInput, match="premium"):
        ArmInsurance(2, 1, premium=1.0)
