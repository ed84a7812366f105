"""What the compiled kernels are for, as ratios of processor time within one run; never a time by itself."""

import time

import numpy as np
import pytest

from bandit_router.policies import LinUCB
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.policies.native import kernels
from bandit_router.policies.play import play

pytestmark = pytest.mark.skipif(kernels() is None, reason="there is one form only")


def least_seconds(call, turns=5):
    """Of several turns, because other programs can only add to it."""
    taken = []
    for _ in range(turns):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return min(taken)


def test_the_compiled_loop_is_at_least_five_times_the_numpy_loop():
    rng = np.random.default_rng(0)
    theta, quality = rng.normal(size=(16, 32)) / 6, np.ones(1)

    def seconds_a_step(policy, steps):
        contexts, uniforms = rng.normal(size=(steps, 32)), rng.random(steps)
        outcomes = np.ascontiguousarray((contexts @ theta.T)[..., None])
        return least_seconds(lambda: play(policy, contexts, outcomes, uniforms, quality)) / steps

    numpy = LinUCB(n_arms=16, dim=32)
    numpy.statistics = RidgeStatistics(16, 32, 1, ridge=1.0)
    assert seconds_a_step(numpy, 400) > 5 * seconds_a_step(LinUCB(n_arms=16, dim=32), 4000)


def test_choosing_among_many_learned_arms_reads_a_fraction_of_them():
    rng = np.random.default_rng(0)
    policy, quality = LinUCB(n_arms=128, dim=48, alpha=0.1), np.ones(1)
    contexts = rng.normal(size=(4000, 48))
    outcomes = np.ascontiguousarray((contexts @ rng.normal(size=(48, 128)) / 7)[..., None])
    play(policy, contexts, outcomes, rng.random(4000), quality)
    model, probes = policy.statistics, contexts[:200]
    chosen = least_seconds(lambda: [model.select(x, quality, 0.1) for x in probes])
    every = least_seconds(lambda: [model.index(x, quality, 0.1).argmax() for x in probes])
    assert every > 2 * chosen
