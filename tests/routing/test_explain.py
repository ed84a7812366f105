"""Explanations of hand-made decisions by a policy with known beliefs; the router's own are in test_router.py."""

import numpy as np
import pytest

from bandit_router.policies import UniformRandom
from bandit_router.policies.base import Estimate
from bandit_router.records.decisions import Decision
from bandit_router.routing.explain import explain

WEIGHTS = np.array([1.0, -0.5, 0.0])
CHANNELS = ("quality", "cost_usd", "energy_j")


class Knowing(UniformRandom):
    """Believes quality 0.9, 0.5, 0.7 and costs 1.0, 0.2 and unknown; never saw energy."""

    def _estimate(self, x):
        mean = np.array([[0.9, 1.0, np.nan], [0.5, 0.2, np.nan], [0.7, np.nan, np.nan], [0, 0, 0]])[: self.n_arms]
        return Estimate(mean, np.array([0.1, 0.2, 0.3, 0.4])[: self.n_arms])


def decision(**changes):
    given = {
        "event_id": "r-1",
        "arm": "b",
        "arm_index": 1,
        "propensity": 0.5,
        "probabilities": np.array([0.2, 0.5, 0.3]),
        "context": np.array([1.0]),
        "eligible": None,
        "penalty": None,
        "timestamp_s": 0.0,
        "policy": "Knowing",
        "state_version": 0,
    }
    return Decision(**{**given, **changes})


def explained(made, ids=("a", "b", "c")):
    return explain(made, ids, Knowing(n_arms=len(ids), dim=1, channels=3), CHANNELS, WEIGHTS)


def test_arms_come_likeliest_first_then_the_runner_up():
    """Arms come likeliest first and the runner up is the likeliest other."""
    explanation = explained(decision())
    assert [arm.arm for arm in explanation.arms] == ["b", "c", "a"]
    assert (explanation.chosen, explanation.runner_up) == ("b", "c")
    assert explained(decision(arm="a", arm_index=0)).runner_up == "b"


def test_ties_are_ordered_by_what_the_policy_scored():
    """Scores: a 0.9 - 0.5 + 0.1 - 0.3 = 0.2, b 0.5 - 0.1 + 0.2 = 0.6; c has no utility and counts as its bonus, 0.3."""
    tied = decision(probabilities=np.full(3, 1 / 3), penalty=np.array([0.3, 0.0, 0.0]))
    assert [arm.arm for arm in explained(tied).arms] == ["b", "c", "a"]


def test_mean_channels_and_prices_equal_the_hand_calculation():
    a = next(arm for arm in explained(decision()).arms if arm.arm == "a")
    assert a.channels == {"quality": 0.9, "cost_usd": 1.0, "energy_j": None}
    assert a.priced == {"quality": 0.9, "cost_usd": -0.5, "energy_j": 0.0}
    assert a.mean == pytest.approx(0.4)
    assert (a.bonus, a.penalty, a.propensity, a.eligible) == (0.1, 0.0, 0.2, True)


def test_a_priced_channel_without_an_estimate_leaves_no_mean():
    c = next(arm for arm in explained(decision()).arms if arm.arm == "c")
    assert (c.mean, c.priced["cost_usd"], c.channels["quality"]) == (None, None, 0.7)


def test_an_ineligible_arm_is_no_runner_up():
    made = decision(eligible=np.array([True, True, False]), probabilities=np.array([0.2, 0.8, 0.0]))
    explanation = explained(made)
    assert [arm.eligible for arm in explanation.arms] == [True, True, False]
    assert explanation.runner_up == "a"
    alone = decision(eligible=np.array([False, True, False]), probabilities=np.array([0.0, 1.0, 0.0]))
    assert explained(alone).runner_up is None


def test_an_arm_added_since_had_no_part_in_the_decision():
    new = explained(decision(penalty=np.array([0.1, 0.2, 0.3])), ids=("a", "b", "c", "new")).arms[-1]
    assert (new.arm, new.eligible, new.propensity, new.penalty) == ("new", False, 0.0, 0.0)


def test_a_degraded_decision_has_no_distribution_to_explain():
    explanation = explained(decision(degraded=True, probabilities=None, propensity=1.0))
    assert explanation.runner_up is None
    assert not any(arm.eligible or arm.propensity for arm in explanation.arms)
