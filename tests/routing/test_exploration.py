"""The declared share of exploration: exact propensities, every arm in the log, most of it where it is plausible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router import Arm, Outcome, Rollout, Router
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.targets import one_arm
from bandit_router.routing.config import RouterConfig
from bandit_router.routing.exploration import plausible
from bandit_router.toml_files import parse_toml

QUALITY = {"good": 0.8, "near": 0.75, "poor": 0.1}


def serve(rows: int, seed: int = 0, policy: Any = "EvidenceThompson", **rollout: Any) -> tuple[Router, list[Any]]:
    rng = np.random.default_rng(seed)
    arms = [Arm(id=arm) for arm in QUALITY]
    router = Router(arms=arms, context=1, policy=policy, key=b"%d" % seed, rollout=Rollout(**rollout))
    decisions = []
    for number in range(rows):
        decision = router.decide([1.0], event_id=f"r-{number}")
        outcome = Outcome(quality=float(rng.random() < QUALITY[decision.arm]))
        router.observe(decision.event_id, outcome)
        decisions.append((decision, outcome.quality))
    return router, decisions


def logged(decisions: list[Any]) -> LoggedEvents:
    return LoggedEvents.of(
        arms=tuple(QUALITY),
        arm=[decision.arm_index for decision, _ in decisions],
        propensity=[decision.propensity for decision, _ in decisions],
        quality=[quality for _, quality in decisions],
    )


def test_the_share_is_what_the_other_arms_get() -> None:
    """A fixed arm with a share of 0.12 and no estimates: every arm gets 0.04 of it, the fixed one keeps 0.88 too."""
    router, decisions = serve(1, policy="RoundRobin", explore_share=0.12)
    first = decisions[0][0]
    assert sorted(first.probabilities) == pytest.approx([0.04, 0.04, 0.92])
    assert first.propensity == pytest.approx(first.probabilities[first.arm_index])
    assert router.rollout.explore_share == 0.12


def test_most_of_the_share_goes_to_plausible_arms_and_every_arm_keeps_some() -> None:
    _, decisions = serve(1500, explore_share=0.2)
    good, near, poor = decisions[-1][0].probabilities
    assert poor == pytest.approx(0.2 * 0.25 / 3, rel=0.1)
    assert near > 0.2 * (0.75 / 2 + 0.25 / 3) - 1e-9
    assert good + near + poor == pytest.approx(1.0)


def test_estimates_of_an_arm_that_is_no_longer_played_are_right() -> None:
    """Exact propensities: IPS is unbiased, where the policy's own log hardly says anything."""
    found, sizes = [], []
    for seed in range(20):
        log = logged(serve(1500, seed=seed, explore_share=0.2)[1])
        answer = evaluate(log, one_arm(log, "poor"))
        found.append(answer.metrics["utility"].estimates["ips"].value)
        sizes.append(answer.diagnostics.ess)
    assert abs(np.mean(found) - QUALITY["poor"]) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.median(sizes) > 15


def test_without_a_share_nothing_changes() -> None:
    one, other = serve(50)[1], serve(50, explore_share=0.0)[1]
    assert [d.arm for d, _ in one] == [d.arm for d, _ in other]


def test_caps_and_the_allow_list_hold_over_the_share() -> None:
    _, decisions = serve(60, explore_share=0.5, allowed=("good", "near"), caps={"near": 0.1}, baseline="good")
    for decision, _ in decisions:
        assert decision.probabilities[2] == 0
        assert decision.probabilities[1] <= 0.1 + 1e-12


def test_arms_without_an_estimate_are_plausible_and_penalties_count() -> None:
    unknown = Estimate(np.array([[0.9], [np.nan], [0.2]]), np.array([0.01, 0.0, 0.01]))
    assert plausible(unknown, np.ones(1), None, None).tolist() == [True, True, False]
    assert plausible(unknown, np.ones(1), np.array([0.7, 0.0, 0.0]), None).tolist() == [True, True, True]
    assert plausible(unknown, np.ones(1), None, np.array([False, False, True])).tolist() == [False, False, True]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match="explore_share must be in"):
        Rollout(explore_share=share)


def test_the_share_stands_in_the_file() -> None:
    text = 'context = 1\narms = [{id = "a"}, {id = "b"}]\n[rollout]\nexplore_share = 0.02\n'
    assert parse_toml(text, RouterConfig, name="router.toml").rollout.explore_share == 0.02
