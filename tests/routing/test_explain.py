"""Explanations of hand-made decisions by a policy with known beliefs; the router's own are in test_router.py."""

import numpy as np
import pytest

from bandit_router import Arm, InvalidInput, Rollout, Router, Store
from bandit_router.policies import LinUCB, UniformRandom
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
    assert not any(arm.eligible for arm in explanation.arms)
    assert [arm.arm for arm in explanation.arms if arm.propensity] == ["b"], "what served"


@pytest.mark.parametrize("mode", ["shadow", "holdout", "guarded", "apprentice"])
def test_what_served_is_what_is_explained(mode):
    """The baseline a served, the policy had drawn b at 0.5: a has propensity 1, and what the policy gave beside it."""
    made = decision(arm="a", arm_index=0, propensity=1.0, mode=mode, proposed="b")
    explanation = explained(made)
    assert {arm.arm: (arm.propensity, arm.policy) for arm in explanation.arms} == {
        "a": (1.0, 0.2),
        "b": (0.0, 0.5),
        "c": (0.0, 0.3),
    }
    assert (explanation.mode, explanation.propensity, explanation.proposed) == (mode, 1.0, "b")


def test_a_decision_without_the_policy_has_propensity_1_on_what_served():
    explanation = explained(decision(arm="c", arm_index=2, propensity=1.0, probabilities=None, mode="off"))
    first = explanation.arms[0]
    assert (first.arm, first.propensity, first.policy) == ("c", 1.0, None)


def test_what_each_feature_adds_sums_to_the_mean_of_a_linear_policy():
    """Ridge 1, one outcome 0.8 at (1, 2): theta = (I + x x')^-1 x y = x y / (1 + x'x) = (0.8, 1.6) / 6."""
    policy = LinUCB(n_arms=2, dim=2, channels=1, ridge=1.0)
    policy.learn(np.array([1.0, 2.0]), 0, np.array([0.8]))
    made = decision(arm="a", arm_index=0, probabilities=np.array([1.0, 0.0]), context=np.array([3.0, -1.0]))
    arms = {arm.arm: arm for arm in explain(made, ("a", "b"), policy, ("quality",), np.ones(1), features=True).arms}
    assert arms["a"].features == pytest.approx((0.8 / 6 * 3.0, -1.6 / 6))
    assert arms["a"].mean == pytest.approx(sum(arms["a"].features))
    assert arms["b"].features == (0.0, 0.0)


def test_a_mean_that_is_not_linear_in_the_context_has_no_features():
    arms = explain(
        decision(), ("a", "b", "c"), Knowing(n_arms=3, dim=1, channels=3), CHANNELS, WEIGHTS, features=True
    ).arms
    assert [arm.features for arm in arms if arm.arm == "c"] == [None], "it has no mean"
    made = decision(context=np.array([1.0, 1.0]))
    policy = Knowing(n_arms=3, dim=2, channels=3)
    assert [a.features for a in explain(made, ("a", "b", "c"), policy, CHANNELS, WEIGHTS, features=True).arms] == [
        None
    ] * 3


def test_a_decision_is_explained_by_its_id_from_memory_and_store(tmp_path):
    def make(**arguments):
        return Router(
            arms=[Arm(id="a"), Arm(id="b")], context=1, rollout=Rollout(baseline="b", mode="shadow"), **arguments
        )

    url = f"sqlite:///{tmp_path}/events.db"
    with make() as memory, make(store=Store(url, max_events=1, wait_s=10.0)) as router:
        for one in (memory, router):
            one.decide([1.0], event_id="old")
            one.decide([1.0], event_id="new")
            told = one.explain("old", features=True)
            assert (told.chosen, told.mode, told.propensity) == ("b", "shadow", 1.0)
            assert told.arms[0].features == (0.0,)
            with pytest.raises(InvalidInput, match="no decision of event 'other'"):
                one.explain("other")
