"""Diagnostics see what is wrong with a log, and the evaluation then gives no number."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import Exp3, UniformRandom
from bandit_router.policies.linucb import LinUCB
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.diagnostics import diagnose
from bandit_router.replay.evaluate import Evaluation, evaluate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.targets import follow, one_arm, uniform
from support.logs import uniform_log


def answer(log: LoggedEvents, arm: str = "d") -> Evaluation:
    return evaluate(log, one_arm(log, arm))


def test_a_good_log_answers_and_raises_no_warning() -> None:
    result = answer(uniform_log())
    assert result.answered
    assert result.diagnostics.warnings == []
    assert result.metrics["utility"].estimates["dr"].value == pytest.approx(0.8, abs=0.03)
    assert result.diagnostics.ess == pytest.approx(1000, rel=0.1)
    assert result.diagnostics.weight_max == 4.0


def test_deterministic_logging_is_refused() -> None:
    result = answer(uniform_log(propensity=np.ones(4000)))
    assert not result.answered
    assert result.metrics == {}
    assert "deterministic logging" in result.diagnostics.refusals[0]


def test_deterministic_logging_of_the_target_itself_is_no_obstacle() -> None:
    log = uniform_log(arms=1, propensity=np.ones(4000))
    assert answer(log, "a").metrics["utility"].estimates["ips"].value == log.channel("quality").mean()


def test_a_target_that_was_never_served_is_refused() -> None:
    log = uniform_log()
    rows = log.take(log.arm != 3)
    assert "never served: d" in " ".join(answer(rows).diagnostics.refusals)


def test_wrong_propensities_are_refused_by_the_mean_of_the_weights() -> None:
    result = answer(uniform_log(propensity=np.full(4000, 0.5)))
    assert "the weights' mean is 0.5" in result.diagnostics.refusals[0]


def test_missing_propensities_are_refused() -> None:
    assert "carry no propensity" in answer(uniform_log(propensity=np.full(4000, np.nan))).diagnostics.refusals[0]


def test_a_log_without_rewards_is_refused() -> None:
    log = uniform_log(outcomes=np.full((4000, len(CHANNELS)), np.nan))
    assert "reward" in answer(log).diagnostics.refusals[0]


def test_degraded_rows_count_for_nothing() -> None:
    log = uniform_log()
    outcomes = log.outcomes.copy()
    outcomes[:100, 0] = 1.0
    spoiled = uniform_log(outcomes=outcomes, degraded=np.arange(4000) < 100)
    clean = log.take(np.arange(4000) >= 100)
    assert answer(spoiled).metrics["quality"].estimates["ips"] == answer(clean).metrics["quality"].estimates["ips"]
    assert "100 degraded rows left out" in answer(spoiled).diagnostics.warnings


def test_an_arm_with_a_wrong_propensity_stands_out_in_the_calibration() -> None:
    log = uniform_log(n=20_000)
    wrong = uniform_log(n=20_000, propensity=np.where(log.arm == 1, 0.4, 0.25))
    checks = diagnose(wrong, uniform(wrong), wrong.channel("quality")).arms
    assert checks[0].calibration == pytest.approx(1.0, abs=0.05)
    assert checks[1].calibration == pytest.approx(0.625, abs=0.05)
    assert checks[1].calibration_z is not None
    assert checks[1].calibration_z < -10


def test_traffic_that_does_not_follow_its_probabilities_is_a_sample_ratio_mismatch() -> None:
    log = uniform_log()
    fine = diagnose(log, uniform(log), log.channel("quality"))
    skewed = log.take((log.arm != 0) | (np.arange(4000) % 2 == 0))
    assert fine.ratio_p is not None
    assert fine.ratio_p > 0.01
    assert "sample-ratio mismatch" in " ".join(diagnose(skewed, uniform(skewed), skewed.channel("quality")).warnings)


def test_drift_of_the_reward_is_noticed() -> None:
    log = uniform_log()
    drifting = log.outcomes.copy()
    drifting[:, 0] = np.random.default_rng(1).random(4000) < np.linspace(0.2, 0.8, 4000)
    assert "drifts" in " ".join(answer(uniform_log(outcomes=drifting)).diagnostics.warnings)


def test_every_metered_channel_has_a_value_and_new_prices_need_no_new_log() -> None:
    log = uniform_log()
    utility = Utility(prices={"cost_usd": 1.0}, scales={"cost_usd": 0.1})
    result = evaluate(log, one_arm(log, "d"), utility=utility, bounds={"cost_usd": (0.0, 0.05)})
    values = {name: metric.estimates["ips"].value for name, metric in result.metrics.items()}
    assert set(values) == {"utility", "reward", "quality", "cost_usd"}
    assert values["utility"] == pytest.approx(values["quality"] - 10 * values["cost_usd"])
    assert result.metrics["utility"].bounds == (-0.5, 1.0)
    assert result.metrics["quality"].estimates["ips"] == answer(log).metrics["quality"].estimates["ips"]


@pytest.mark.parametrize("estimators", [("ips",), ("ips", "snips", "dm", "dr"), ("ips", "replay")])
def test_a_channel_metered_only_where_the_target_never_plays_is_left_out_with_a_note(estimators) -> None:
    log = uniform_log()
    log.outcomes[log.arm == 0, CHANNELS.index("energy_j")] = 1.0
    result = evaluate(log, one_arm(log, "d"), estimators=estimators)
    assert result.answered
    assert set(result.metrics) == {"utility", "quality", "cost_usd"}
    assert [text for text in result.diagnostics.warnings if "energy_j" in text]
    assert "energy_j" in evaluate(log, one_arm(log, "a"), estimators=estimators).metrics


def test_a_channel_metered_only_in_degraded_rows_is_not_metered() -> None:
    log = uniform_log(degraded=np.arange(4000) % 5 == 0)
    log.outcomes[log.degraded, CHANNELS.index("energy_j")] = 1.0
    assert "energy_j" not in answer(log).metrics


def test_a_utility_known_only_where_the_target_never_plays_is_refused() -> None:
    log = uniform_log()
    log.outcomes[log.arm == 0, CHANNELS.index("energy_j")] = 1.0
    result = evaluate(log, one_arm(log, "d"), utility=Utility(prices={"energy_j": 0.1}))
    assert "no overlap" in result.diagnostics.refusals[0]


def test_weights_too_small_to_square_leave_no_effective_rows() -> None:
    log = uniform_log()
    target = one_arm(log, "d")
    log.outcomes[log.arm == 0, CHANNELS.index("energy_j")] = 1.0
    target[:, 0] = 1e-200
    assert evaluate(log, target).metrics["energy_j"].estimates["ips"].ess == 0.0


def test_without_a_declared_range_a_cost_has_no_sequence() -> None:
    metric = answer(uniform_log()).metrics["cost_usd"]
    assert metric.anytime == {}
    assert metric.difference is None


def test_an_outcome_outside_its_declared_range_is_an_error() -> None:
    log = uniform_log()
    with pytest.raises(InvalidInput, match="outside its range"):
        evaluate(log, uniform(log), bounds={"cost_usd": (0.0, 0.01)})


def test_sequences_contain_the_truth_and_the_difference_to_the_logger() -> None:
    metric = answer(uniform_log(n=10_000)).metrics["quality"]
    for low, high in metric.anytime.values():
        assert low < 0.8 < high
    assert metric.difference is not None
    assert 0.0 < metric.difference[0] < 0.3 < metric.difference[1]


def test_an_unknown_estimator_is_named() -> None:
    log = uniform_log()
    with pytest.raises(InvalidInput, match="unknown estimator 'magic'"):
        evaluate(log, uniform(log), estimators=("magic",))


def test_rows_that_stand_for_many_count_so() -> None:
    log = uniform_log()
    heavy = uniform_log(weight=np.where(np.arange(4000) < 2000, 3.0, 1.0))
    w = 4.0 * (log.arm == 3)
    expected = np.average(w * log.channel("quality"), weights=heavy.weight)
    assert answer(heavy).metrics["quality"].estimates["ips"].value == pytest.approx(expected)


@pytest.mark.parametrize("learning", ["accepted", "every"])
def test_a_learning_policy_earns_more_than_the_uniform_logger(learning: str) -> None:
    log = uniform_log(n=6000)
    policy = LinUCB(n_arms=4, dim=2, channels=len(CHANNELS))
    table, kept = follow(policy, log, learning=learning)
    result = evaluate(log, table, kept=kept, estimators=("dr", "replay"))
    assert result.metrics["utility"].estimates["dr"].value > 0.6
    assert policy.steps == kept.sum()


class Witness(UniformRandom):
    """Remembers the propensities it was told."""

    def _learn(self, x, arm, y, weight, propensity) -> None:
        self.told = [*getattr(self, "told", []), propensity]


def test_a_row_is_learned_with_the_probability_that_its_history_was_drawn_with() -> None:
    p = np.linspace(0.3, 0.9, 500)
    p[7] = np.nan
    log = uniform_log(n=500, propensity=p)
    told = {}
    for learning in ("every", "accepted"):
        policy = Witness(n_arms=4, dim=2, channels=len(CHANNELS))
        follow(policy, log if learning == "every" else log.take(~np.isnan(p)), learning=learning)
        told[learning] = policy.told
    assert told["every"] == np.where(np.isnan(p), 0.25, p).tolist()
    assert set(told["accepted"]) == {0.25}


def test_a_policy_that_weighs_by_propensity_learns_the_better_arm_from_every_row() -> None:
    log = uniform_log(arms=2)
    table, _ = follow(Exp3(n_arms=2, dim=2, channels=len(CHANNELS)), log, learning="every")
    assert table[-500:, 1].mean() > 0.95


def test_what_a_replayed_policy_lived_through_is_what_it_earns() -> None:
    log = uniform_log(n=12_000, seed=5)
    table, kept = follow(LinUCB(n_arms=4, dim=2, channels=len(CHANNELS)), log)
    metric = evaluate(log, table, kept=kept, estimators=("ips", "replay")).metrics["utility"]
    lived, weighted = metric.estimates["replay"], metric.estimates["ips"]
    assert lived.value == pytest.approx(log.channel("quality")[kept].mean())
    assert abs(lived.value - weighted.value) < 3 * (lived.standard_error + weighted.standard_error)


def test_a_frozen_policy_does_not_learn_and_a_probability_knows_only_the_past() -> None:
    log = uniform_log(n=300)
    frozen = LinUCB(n_arms=4, dim=2, channels=len(CHANNELS))
    follow(frozen, log, learning="nothing")
    assert frozen.steps == 0
    changed = log.outcomes.copy()
    changed[200, 0] = 1 - changed[200, 0]
    tables = [follow(LinUCB(n_arms=4, dim=2, channels=len(CHANNELS)), log, learning="every")[0]]
    tables.append(
        follow(LinUCB(n_arms=4, dim=2, channels=len(CHANNELS)), uniform_log(n=300, outcomes=changed), learning="every")[
            0
        ]
    )
    assert np.array_equal(tables[0][:201], tables[1][:201])


def test_a_policy_of_other_sizes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must have"):
        follow(LinUCB(n_arms=2, dim=2, channels=len(CHANNELS)), uniform_log())
