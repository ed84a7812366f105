"""The conservative guard: never below its share of the baseline, and out of the way once the record allows."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.groups import PolicySpec
from bandit_router.routing.guard import ConservativeGuard, GuardRecord
from bandit_router.routing.rollout import Rollout
from bandit_router.routing.router import Router
from support.routers import make_router

ONE = np.ones(1)


def estimate(means: list[float], bonuses: list[float]) -> Estimate:
    return Estimate(np.array(means)[:, None], np.array(bonuses))


def test_the_budget_is_the_one_computed_by_hand() -> None:
    guard = GuardRecord(ConservativeGuard(slack=0.25))
    known = estimate([0.8, 0.5], [0.0, 0.25])
    explore = np.array([0.0, 1.0])
    # Exploring earns at least 0.25 and owes 0.6, so 0.35 must be saved first; the baseline saves 0.2 a request.
    assert [guard.allows(explore, known, ONE, baseline=0) for _ in range(4)] == [False, False, True, False]
    assert guard.budget == pytest.approx(2 * 0.2 - 0.35 + 0.2)


def test_a_policy_that_is_surely_as_good_is_never_stopped() -> None:
    guard = GuardRecord(ConservativeGuard(slack=0.1))
    assert all(guard.allows(np.array([0.0, 1.0]), estimate([0.5, 0.9], [0.1, 0.1]), ONE, baseline=0) for _ in range(10))


def test_utilities_below_zero_are_measured_from_the_lowest() -> None:
    guard = GuardRecord(ConservativeGuard(slack=0.5, lowest=-1.0))
    assert guard.allows(np.array([0.0, 1.0]), estimate([-0.5, -0.7], [0.0, 0.0]), ONE, baseline=0)
    assert guard.budget == pytest.approx(0.3 - 0.25)


def test_without_an_estimate_of_the_baseline_the_baseline_serves() -> None:
    guard = GuardRecord(ConservativeGuard(slack=0.5))
    assert not guard.allows(np.array([0.0, 1.0]), estimate([np.nan, 0.7], [0.0, 0.0]), ONE, baseline=0)
    assert not guard.allows(np.array([0.0, 1.0]), estimate([0.5, np.nan], [0.0, 0.0]), ONE, baseline=0)


def test_what_the_baseline_saves_counts_at_its_lower_bound() -> None:
    guard = GuardRecord(ConservativeGuard(slack=0.25))
    assert not guard.allows(np.array([0.0, 1.0]), estimate([0.8, 0.1], [0.4, 0.0]), ONE, baseline=0)
    assert guard.budget == pytest.approx(0.25 * 0.4)


def test_an_unmetered_and_unpriced_channel_stops_no_policy() -> None:
    """A channel that is never metered and not priced does not stop the policy."""
    arms = [Arm(id="base"), Arm(id="better")]
    guard = ConservativeGuard(slack=0.2)
    router = Router(
        arms=arms, context=1, key=b"k", policy="GaussianThompson", rollout=Rollout(baseline="base", guard=guard)
    )
    served = []
    for step in range(400):
        decision = router.decide([1.0], event_id=str(step))
        served.append(decision.arm)
        router.observe(str(step), Outcome(quality={"base": 0.5, "better": 0.8}[decision.arm]))
    assert served[-100:].count("better") > 80


@pytest.mark.parametrize("key", [b"k", b"k0", b"k1", b"k2"])
def test_cumulative_utility_stays_over_the_promised_share_of_the_baseline(key: bytes) -> None:
    means, slack, rng = np.array([0.6, *[0.05] * 8, 0.8]), 0.1, np.random.default_rng(0)
    arms = [Arm(id=str(number)) for number in range(len(means))]
    guard = ConservativeGuard(slack=slack)
    guarded = Router(arms=arms, context=1, key=key, policy="LinUCB", rollout=Rollout(baseline="0", guard=guard))
    free = Router(arms=arms, context=1, key=key, policy="LinUCB")
    worst, explored = {}, {}
    for name, engine in (("guarded", guarded), ("free", free)):
        earned, margin = 0.0, []
        explored[name] = 0
        for step in range(1, 1501):
            decision = engine.decide([1.0], event_id=str(step))
            earned += means[0] if decision.proposed else means @ decision.probabilities  # without the luck of draws
            explored[name] += decision.arm != "0"
            margin.append(earned - (1 - slack) * 0.6 * step)
            quality = float(rng.random() < means[decision.arm_index])
            engine.observe(str(step), Outcome(quality=quality))
        worst[name] = min(margin)
    assert worst["guarded"] >= 0
    assert explored["guarded"] > 0
    assert worst["free"] < 0  # the guard has something to prevent


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["GaussianThompson", "EvidenceThompson"])
def test_a_bonus_of_one_deviation_goes_little_under_the_line(policy: str) -> None:
    """A policy whose bonus is one deviation goes under the line by a few requests at most."""
    means, slack = np.array([0.6, *[0.05] * 8, 0.8]), 0.1
    arms = [Arm(id=str(number)) for number in range(len(means))]
    for seed in range(3):
        rng, margin, worst = np.random.default_rng(seed), 0.0, 0.0
        guard = ConservativeGuard(slack=slack)
        engine = Router(
            arms=arms, context=1, key=bytes([seed]), policy=policy, rollout=Rollout(baseline="0", guard=guard)
        )
        for step in range(1500):
            decision = engine.decide([1.0], event_id=str(step))
            expected = means[0] if decision.proposed else means @ decision.probabilities
            margin += expected - (1 - slack) * means[0]
            worst = min(worst, margin)
            engine.observe(str(step), Outcome(quality=float(rng.random() < means[decision.arm_index])))
        assert worst > -10 * means[0]
        assert margin > 0


def test_a_guarded_decision_says_so_and_is_learned_from() -> None:
    arms = [Arm(id="base"), Arm(id="other")]
    engine = Router(
        arms=arms,
        context=1,
        key=b"k",
        rollout=Rollout(baseline="base", guard=ConservativeGuard(slack=0.1)),
        policy=PolicySpec(name="LinUCB", settings={"alpha": 1.0, "floor": 1.0}),
    )
    decision = engine.decide([1.0], event_id="e")
    assert (decision.arm, decision.propensity, decision.mode) == ("base", 1.0, "guarded")
    assert decision.proposed in ("base", "other")
    engine.observe("e", Outcome(quality=1.0))
    assert engine.policy.steps == 1


def test_a_guard_that_could_not_work_is_refused() -> None:
    arms = [Arm(id="base"), Arm(id="other")]
    guard = ConservativeGuard(slack=0.1)
    for settings in ({"baseline": None}, {"baseline": "base", "policy": "UniformRandom"}):
        with pytest.raises(InvalidInput, match="a guard needs"):
            make_router(arms=arms, context=1, guard=guard, **settings)
    for wrong in ({"slack": 0.0}, {"slack": 1.0}, {"slack": 0.1, "lowest": float("nan")}):
        with pytest.raises(InvalidInput):
            ConservativeGuard(**wrong)
