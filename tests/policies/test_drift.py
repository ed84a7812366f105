"""Restarts on drift: recovery from a flipped ranking, and what a steady stream costs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.policies.drift import WARM_UP, DriftLinTS, DriftLinUCB, DriftPolicy
from bandit_router.policies.exp3 import Exp3
from bandit_router.policies.lints import LinTS
from bandit_router.policies.linucb import LinUCB
from bandit_router.policies.vw_explorations import VWSquareCB

K, D, FLIP = 5, 4, 1500


def run(policy: Policy, *, steps: int, flip: int, seed: int) -> tuple[F64, F64]:
    """Expected utility and the oracle's, per step; at `flip` every quality q becomes 1 - q."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(K, D - 1)) * 0.1
    level = rng.permutation(np.linspace(0.3, 0.7, K))
    earned, best = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        x = np.concatenate([[1.0], rng.uniform(-1, 1, D - 1)])
        quality = np.clip(level + slopes @ x[1:], 0, 1)
        quality = quality if step < flip else 1 - quality
        p = policy.probabilities(x)
        arm = draw(p, rng.random())
        policy.learn(x, arm, [np.clip(quality[arm] + 0.1 * rng.normal(), 0, 1)], propensity=min(float(p[arm]), 1.0))
        earned[step], best[step] = quality @ p, quality.max()
    return earned, best


def recovered(policy: Policy, seed: int) -> float:
    """Share of what the flip took away that is earned again 400 to 500 steps after it."""
    earned, best = run(policy, steps=FLIP + 500, flip=FLIP, seed=seed)
    lost = (best - earned)[FLIP : FLIP + 15].mean()
    return float(1 - (best - earned)[FLIP + 400 :].mean() / lost)


def test_most_of_a_flips_loss_is_recovered_within_500_steps() -> None:
    sizes = {"n_arms": K, "dim": D}
    assert np.mean([recovered(DriftLinUCB(**sizes, alpha=1.0), seed) for seed in range(3)]) > 0.8
    assert recovered(LinUCB(**sizes), seed=3) < 0.5
    assert recovered(DriftLinTS(**sizes), seed=0) > 0.8
    assert recovered(LinTS(**sizes), seed=0) < 0.5


def test_a_steady_stream_costs_under_two_percent() -> None:
    for seed in range(2):
        wrapped = DriftLinUCB(n_arms=K, dim=D)
        earned, _ = run(wrapped, steps=2500, flip=2500, seed=seed)
        plain, _ = run(LinUCB(n_arms=K, dim=D), steps=2500, flip=2500, seed=seed)
        assert earned.mean() > 0.98 * plain.mean()


def test_a_restart_forgets_all_arms() -> None:
    policy = DriftLinUCB(n_arms=2, dim=1)
    rng = np.random.default_rng(0)
    for _ in range(100):
        policy.learn([1.0], int(rng.integers(2)), [0.5 + 0.05 * rng.normal()])
    assert policy.restarts == 0
    while not policy.restarts:
        policy.learn([1.0], 0, [0.1 + 0.05 * rng.normal()])
    assert policy.policy.statistics.counts.tolist() == [0, 0]
    assert 100 < policy.steps < 200


def test_the_alarm_is_rivers_page_hinkley_on_standardised_errors() -> None:
    from river import drift

    policy = DriftLinUCB(n_arms=1, dim=1, threshold=12.0, tolerance=0.25)
    raw = drift.PageHinkley(min_instances=1, delta=0.25, threshold=12.0, alpha=1.0)
    shadow, errors, rng = LinUCB(n_arms=1, dim=1), [], np.random.default_rng(1)
    for step in range(200):
        quality = 0.5 + 0.1 * rng.normal() - 0.15 * (step > 100)
        error = quality - shadow.estimate([1.0]).mean[0, 0]
        if len(errors) >= WARM_UP:
            raw.update((error - np.mean(errors)) / np.std(errors, ddof=1))
        errors.append(error)
        shadow.learn([1.0], 0, [quality])
        policy.learn([1.0], 0, [quality])
        assert bool(policy.restarts) == raw.drift_detected
        if raw.drift_detected:
            break
    assert 100 < step < 199


class DriftExp3(DriftPolicy):
    inner = Exp3


class DriftVW(DriftPolicy):
    inner = VWSquareCB


class AdwinLinUCB(DriftPolicy):
    inner = LinUCB
    allow_pickle: ClassVar[tuple[str, ...]] = ("river",)

    def detector(self) -> Any:
        from river import drift

        return drift.ADWIN()


@pytest.mark.parametrize("cls", [DriftLinUCB, DriftExp3, DriftVW, AdwinLinUCB])
def test_any_policy_can_be_wrapped_and_saved(cls: type[DriftPolicy]) -> None:
    policy = cls(n_arms=K, dim=D)
    run(policy, steps=150, flip=80, seed=0)
    policy.add_arm()
    again = cls.from_state(policy.state())
    rng = np.random.default_rng(4)
    for _ in range(60):
        x, arm, quality = rng.normal(size=D), int(rng.integers(K + 1)), rng.random()
        assert again.probabilities(x).tolist() == policy.probabilities(x).tolist()
        for each in (policy, again):
            each.learn(x, arm, [quality], propensity=0.2)
    assert again.restarts == policy.restarts


def test_options_reach_the_wrapped_policy_and_survive_a_restart_and_a_save() -> None:
    policy = DriftLinUCB(n_arms=2, dim=1, alpha=0.7, floor=0.2)
    policy._restart()
    assert (policy.policy.alpha, policy.policy.floor) == (0.7, 0.2)
    assert DriftLinUCB.from_state(policy.state()).policy.alpha == 0.7


def test_unusable_settings_are_refused() -> None:
    for settings in ({"threshold": 0.0}, {"tolerance": -1.0}, {"floor": 2.0}):
        with pytest.raises(InvalidInput):
            DriftLinUCB(n_arms=2, dim=1, **settings)
