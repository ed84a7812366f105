"""Estimators against hand calculations on four rows, and against the truth on simulated ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit_router.errors import Unanswerable
from bandit_router.replay.estimators import ESTIMATORS
from bandit_router.replay.estimators.doubly_robust import dm, dr, dr_shrunk, sndr, sub_gaussian_dr, switch_dr
from bandit_router.replay.estimators.marginal import mips
from bandit_router.replay.estimators.matching import accepted, replay
from bandit_router.replay.estimators.regression import crossfit, progressive, ridge_per_arm
from bandit_router.replay.estimators.sample import Sample
from bandit_router.replay.estimators.weighting import (
    balanced_ips,
    balanced_weight,
    clipped_ips,
    ips,
    snips,
    sub_gaussian_ips,
)


def four_rows() -> Sample:
    """Weights 1, 1.6, 4, 1.25; the model says 0.2 for arm 0 and 0.6 for arm 1 everywhere."""
    return Sample(
        arm=np.array([0, 1, 0, 1]),
        propensity=np.array([0.5, 0.5, 0.25, 0.8]),
        reward=np.array([1.0, 0.0, 1.0, 1.0]),
        target=np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0], [0.0, 1.0]]),
        predictions=np.tile([0.2, 0.6], (4, 1)),
        logging=np.tile([0.5, 0.5], (4, 1)),
    )


HAND_CALCULATED = {
    "ips": (ips, 6.25 / 4),
    "clipped at 2": (lambda s: clipped_ips(s, 2.0), 4.25 / 4),
    "snips": (snips, 6.25 / 7.85),
    "sub-gaussian ips, share 1/2": (lambda s: sub_gaussian_ips(s, 0.5), (1 + 1.6 + 1.25 / 1.125) / 4),
    "dm": (dm, (0.4 + 0.52 + 0.2 + 0.6) / 4),
    "dr": (dr, 0.43 + 3.54 / 4),
    "sndr": (sndr, 0.43 + 3.54 / 7.85),
    "switch-dr at 2": (lambda s: switch_dr(s, 2.0), 0.43 + 0.34 / 4),
    "dr-os at 4": (lambda s: dr_shrunk(s, 4.0), 0.6935461765),
    "sub-gaussian dr, share 1/2": (lambda s: sub_gaussian_dr(s, 0.5), 0.8764957265),
    "mips with one group": (lambda s: mips(replace(s, groups=np.array([0, 0]))), 3 / 4),
    "mips with single arms": (lambda s: mips(replace(s, groups=np.array([0, 1]))), (1 + 0 + 2 + 2) / 4),
    "balanced with weights 1 2 3 4": (lambda s: balanced_ips(s, np.array([1.0, 2.0, 3.0, 4.0])), 8 / 10),
}


@pytest.mark.parametrize("name", HAND_CALCULATED)
def test_the_estimate_is_the_hand_calculated_one(name: str) -> None:
    estimator, expected = HAND_CALCULATED[name]
    assert estimator(four_rows()).mean() == pytest.approx(expected, abs=1e-9)


def test_scores_of_a_ratio_spread_as_the_delta_method_says() -> None:
    sample = four_rows()
    w, value = sample.weight, 6.25 / 7.85
    expected = np.sqrt(((w * (sample.reward - value)) ** 2).sum()) / w.sum()
    assert snips(sample).std() / 2 == pytest.approx(expected)


def simulated(n: int, seed: int) -> tuple[Sample, float]:
    """Three arms, rewards linear in a context that the logging policy follows; the target prefers arm 2."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 2))
    logits = np.stack([x[:, 0], x[:, 1], np.zeros(n)], axis=1)
    logging = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    arm = (logging.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    means = np.stack([0.5 + 0.2 * x[:, 0], 0.4 + 0.3 * x[:, 1], 0.6 - 0.2 * x[:, 0]], axis=1)
    reward = (rng.random(n) < means[np.arange(n), arm]).astype(float)
    target = np.tile([0.1, 0.2, 0.7], (n, 1))
    q = crossfit(x, arm, reward, 3)
    sample = Sample(
        arm=arm,
        propensity=logging[np.arange(n), arm],
        reward=reward,
        target=target,
        predictions=q,
        logging=logging,
        contexts=x,
        groups=np.arange(3),
    )
    return sample, float((target * means).sum(axis=1).mean())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_finds_the_true_value_of_a_well_logged_policy(name: str) -> None:
    sample, truth = simulated(20_000, seed=3)
    scores = ESTIMATORS[name](sample)
    assert abs(scores.mean() - truth) < max(4 * scores.std() / np.sqrt(len(scores)), 0.012)


def test_doubly_robust_survives_a_useless_model() -> None:
    """The doubly robust estimate survives a useless model but the direct one does not."""
    sample, truth = simulated(20_000, seed=4)
    useless = Sample(**{**vars_of(sample), "predictions": np.full_like(sample.target, 0.9)})
    assert abs(dr(useless).mean() - truth) < 0.02
    assert abs(dm(useless).mean() - truth) > 0.2


def test_doubly_robust_survives_wrong_propensities() -> None:
    """The doubly robust estimate survives wrong propensities but IPS does not."""
    sample, truth = simulated(20_000, seed=5)
    wrong = Sample(**{**vars_of(sample), "propensity": np.clip(sample.propensity * 0.6, 0, 1)})
    assert abs(dr(wrong).mean() - truth) < 0.02
    assert abs(ips(wrong).mean() - truth) > 0.2


def vars_of(sample: Sample) -> dict:
    names = ("arm", "propensity", "reward", "target", "predictions", "logging", "contexts")
    return {name: getattr(sample, name) for name in names}


def test_replay_on_a_uniform_log_keeps_the_matching_rows() -> None:
    """Replay of a deterministic target on a uniform log keeps the matching rows."""
    rng = np.random.default_rng(0)
    arm, wanted = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    reward = rng.random(500)
    sample = Sample(arm=arm, propensity=np.full(500, 0.25), reward=reward, target=np.eye(4)[wanted])
    assert np.array_equal(accepted(sample), arm == wanted)
    assert replay(sample).mean() == pytest.approx(reward[arm == wanted].mean())


def test_rows_accepted_from_a_skewed_log_follow_the_target() -> None:
    sample, _ = simulated(30_000, seed=6)
    served = np.bincount(sample.arm[accepted(sample)], minlength=3)
    assert np.allclose(served / served.sum(), [0.1, 0.2, 0.7], atol=0.02)


def test_an_estimate_without_overlap_is_refused() -> None:
    sample = Sample(
        arm=np.array([0, 0]), propensity=np.ones(2), reward=np.ones(2), target=np.array([[0.0, 1.0], [0.0, 1.0]])
    )
    with pytest.raises(Unanswerable, match="never plays what was served"):
        snips(sample)


def test_rows_without_propensity_are_refused() -> None:
    with pytest.raises(Unanswerable, match="1 of 2 rows carry no propensity"):
        Sample(arm=np.array([0, 0]), propensity=np.array([1.0, np.nan]), reward=np.ones(2), target=np.ones((2, 1)))


def test_marginal_weights_without_the_logged_distribution_are_refused() -> None:
    sample = Sample(**{**vars_of(four_rows()), "logging": None})
    with pytest.raises(Unanswerable, match="whole logged distribution"):
        mips(replace(sample, groups=np.array([0, 1])))


def test_learned_weights_come_close_to_the_true_ones() -> None:
    sample, _ = simulated(20_000, seed=7)
    assert np.corrcoef(np.log(balanced_weight(sample)), np.log(sample.weight))[0, 1] > 0.98


def test_ridge_coefficients_solve_the_normal_equations() -> None:
    x, y = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 0.0, 2.0])
    theta = ridge_per_arm(x, np.zeros(3, dtype=np.intp), y, 2)
    design = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    centred = np.linalg.solve(design.T @ design + np.eye(2), design.T @ (y - 1.0))
    assert np.allclose(theta[0], centred + np.array([1.0, 0.0]))
    assert theta[1].tolist() == [1.0, 0.0]


def test_a_row_does_not_influence_its_own_prediction() -> None:
    rng = np.random.default_rng(1)
    x, arm, y = rng.normal(size=(200, 2)), rng.integers(0, 2, 200), rng.random(200)
    changed = y.copy()
    changed[120] = 50.0
    assert np.array_equal(crossfit(x, arm, y, 2)[120], crossfit(x, arm, changed, 2)[120])
    before, after = progressive(x, arm, y, 2), progressive(x, arm, changed, 2)
    assert np.array_equal(before[:121], after[:121])
    assert not np.array_equal(before, after)
