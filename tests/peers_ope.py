"""Equality with obp 0.5.7 and vw-estimators 0.2.2 on the same data, to 1e-9; opt in by naming this file:

pip install torch==2.13.0 scikit-learn pandas pyyaml tqdm matplotlib seaborn vw-estimators==0.2.2
pip install --no-deps --ignore-requires-python obp==0.5.7
pytest tests/peers_ope.py -W default
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from estimators.bandits import clopper_pearson as vw_clopper_pearson
from estimators.bandits import cs as vw_cs
from estimators.bandits import gaussian as vw_gaussian
from estimators.bandits import ips as vw_ips
from estimators.bandits import snips as vw_snips
from obp import ope as obp
from obp.ope.estimators import (
    BalancedInverseProbabilityWeighting,
    SubGaussianDoublyRobust,
    SubGaussianInverseProbabilityWeighting,
)
from obp.ope.estimators_embed import MarginalizedInverseProbabilityWeighting

from bandit_router.replay.estimators.doubly_robust import dm, dr, dr_shrunk, sndr, sub_gaussian_dr, switch_dr
from bandit_router.replay.estimators.intervals import clopper_pearson, normal
from bandit_router.replay.estimators.marginal import mips
from bandit_router.replay.estimators.matching import replay
from bandit_router.replay.estimators.sample import Sample
from bandit_router.replay.estimators.sequences import weighted_interval
from bandit_router.replay.estimators.weighting import balanced_ips, clipped_ips, ips, snips, sub_gaussian_ips

N, K = 3000, 5


def data() -> Sample:
    rng = np.random.default_rng(7)
    logging = rng.dirichlet(np.ones(K), N)
    arm = (logging.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    return Sample(
        arm=arm,
        propensity=logging[np.arange(N), arm],
        reward=(rng.random(N) < 0.2 + 0.1 * arm).astype(float),
        target=rng.dirichlet(np.ones(K) * 0.5, N),
        predictions=rng.random((N, K)),
        logging=logging,
    )


PAIRS = {
    "ips": (ips, obp.InverseProbabilityWeighting()),
    "clipped": (lambda s: clipped_ips(s, 3.0), obp.InverseProbabilityWeighting(lambda_=3.0)),
    "snips": (snips, obp.SelfNormalizedInverseProbabilityWeighting()),
    "sub-gaussian": (lambda s: sub_gaussian_ips(s, 0.1), SubGaussianInverseProbabilityWeighting(lambda_=0.1)),
    "dm": (dm, obp.DirectMethod()),
    "dr": (dr, obp.DoublyRobust()),
    "sndr": (sndr, obp.SelfNormalizedDoublyRobust()),
    "switch": (lambda s: switch_dr(s, 2.0), obp.SwitchDoublyRobust(lambda_=2.0)),
    "dr-os": (lambda s: dr_shrunk(s, 4.0), obp.DoublyRobustWithShrinkage(lambda_=4.0)),
    "sub-gaussian dr": (lambda s: sub_gaussian_dr(s, 0.1), SubGaussianDoublyRobust(lambda_=0.1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_estimate_is_that_of_obp(name: str) -> None:
    sample = data()
    ours, theirs = PAIRS[name]
    expected = theirs.estimate_policy_value(
        reward=sample.reward,
        action=sample.arm,
        pscore=sample.propensity,
        action_dist=sample.target[:, :, None],
        estimated_rewards_by_reg_model=sample.model[:, :, None],
        position=np.zeros(N, dtype=int),
    )
    assert ours(sample).mean() == pytest.approx(expected, abs=1e-9)


def test_balanced_weights_are_used_as_obp_uses_them() -> None:
    sample, weight = data(), np.random.default_rng(0).random(N)
    expected = BalancedInverseProbabilityWeighting(lambda_=1e9).estimate_policy_value(
        reward=sample.reward,
        action=sample.arm,
        estimated_importance_weights=weight,
        action_dist=sample.target[:, :, None],
    )
    assert balanced_ips(sample, weight).mean() == pytest.approx(expected, abs=1e-9)


def test_marginalised_weights_are_those_of_obp() -> None:
    sample, group = data(), np.array([0, 0, 1, 1, 2])
    embedded = (group[:, None] == np.arange(3)).astype(float)
    expected = MarginalizedInverseProbabilityWeighting(n_actions=K).estimate_policy_value(
        reward=sample.reward,
        action=sample.arm,
        pi_b=sample.logging[:, :, None],
        action_dist=sample.target[:, :, None],
        action_embed=group[sample.arm][:, None],
        p_e_a=embedded[:, :, None],
    )
    assert mips(replace(sample, groups=group)).mean() == pytest.approx(expected, abs=1e-9)


def test_replay_on_a_uniform_log_is_that_of_obp() -> None:
    rng = np.random.default_rng(1)
    wanted = np.eye(K)[rng.integers(0, K, N)]
    sample = Sample(arm=rng.integers(0, K, N), propensity=np.full(N, 1 / K), reward=rng.random(N), target=wanted)
    expected = obp.ReplayMethod().estimate_policy_value(
        reward=sample.reward, action=sample.arm, action_dist=wanted[:, :, None]
    )
    assert replay(sample).mean() == pytest.approx(expected, abs=1e-9)


def test_values_and_intervals_are_those_of_vw_estimators() -> None:
    sample = data()
    theirs = [vw_ips.Estimator(), vw_snips.Estimator()]
    intervals = [vw_gaussian.Interval(), vw_clopper_pearson.Interval()]
    for p, r, q in zip(sample.propensity, sample.reward, sample.of_served(sample.target), strict=True):
        for estimator in (*theirs, *intervals):
            estimator.add_example(p, r, q)
    assert [ips(sample).mean(), snips(sample).mean()] == pytest.approx([e.get() for e in theirs], abs=1e-9)
    assert normal(ips(sample)) == pytest.approx(intervals[0].get(), abs=1e-9)
    assert clopper_pearson(sample.weight, sample.reward) == pytest.approx(intervals[1].get(), abs=1e-9)


def test_the_sequence_is_that_of_vw_estimators() -> None:
    """vw-estimators lets the guess of the next score exceed 1, which its theorem does not allow; ours stops there."""
    rng = np.random.default_rng(2)
    weight, reward = rng.random(N), (rng.random(N) < 0.4).astype(float)
    theirs = vw_cs.Interval()
    for w, r in zip(weight, reward, strict=True):
        theirs.add_example(1.0, r, w)
    assert weighted_interval(weight, reward, method="gamma_mixture") == pytest.approx(theirs.get(), abs=1e-9)
    sample, wild = data(), vw_cs.Interval()
    for p, r, q in zip(sample.propensity, sample.reward, sample.of_served(sample.target), strict=True):
        wild.add_example(p, r, q)
    ours = weighted_interval(sample.weight, sample.reward, method="gamma_mixture")
    assert ours == pytest.approx(wild.get(), abs=1e-4)
