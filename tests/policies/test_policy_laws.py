"""Every law over every registered policy, and proof that the laws can fail."""

import numpy as np
import pytest

from bandit_router.policies import POLICIES, LinUCB, UniformRandom
from bandit_router.policies.distributions import draw
from bandit_router.testing import POLICY_LAWS, check_policy

SLOW = ("logs_are_unbiased", "memory_is_bounded")
LAWS = [
    pytest.param(law, id=law.__name__, marks=pytest.mark.slow if law.__name__ in SLOW else ()) for law in POLICY_LAWS
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", POLICIES)
def test_law(name, law):
    law(POLICIES[name])


class SoftmaxOfArgmax(LinUCB):
    """Plays nearly the argmax but reports another distribution: the defect the laws are there to catch."""

    def probabilities(self, context, eligible=None, prices=None, penalty=None):
        p = super().probabilities(context, eligible, prices, penalty)
        return p / 2


class Forgetful(LinUCB):
    """Restores the statistics but not the estimates."""

    def _restore(self, arrays):
        super()._restore(arrays)
        self.statistics.restore({**self.statistics.arrays(), "theta": np.zeros_like(arrays["theta"])})


class Peeking(UniformRandom):
    """Counts decisions while deciding."""

    def _distribution(self, x, arms, prices, penalty):
        self.steps += 1
        return super()._distribution(x, arms, prices, penalty)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (SoftmaxOfArgmax, "propensities_are_a_distribution"),
        (Forgetful, "a_reload_chooses_the_same"),
        (Peeking, "deciding_changes_nothing"),
    ],
)
def test_a_broken_policy_is_named_with_the_law_it_breaks(broken, law):
    with pytest.raises(AssertionError, match=law):
        check_policy(broken)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("learned", [0, 1])
def test_a_new_policy_estimates_its_arms_without_a_warning(name, learned):
    policy = POLICIES[name](n_arms=3, dim=2)
    for _ in range(learned):
        policy.learn([1.0, 0.5], 0, [0.5])
    assert policy.estimate([1.0, 0.5]).bonus.shape == (3,)


def test_logging_a_softmax_for_an_argmax_biases_ips():
    """Four Bernoulli arms, uniform policy worth 0.45: the defect of a peer, and why p is what we draw from."""
    means, rng = np.array([0.3, 0.4, 0.5, 0.6]), np.random.default_rng(0)
    policy = LinUCB(n_arms=4, dim=1, alpha=1.0, floor=0.1)
    right, wrong = [], []
    for _ in range(8000):
        estimate = policy.estimate([1.0])
        scores = estimate.mean[:, 0] + estimate.bonus
        p, logged = policy.probabilities([1.0]), np.exp(scores) / np.exp(scores).sum()
        arm = draw(p, rng.random())
        quality = float(rng.random() < means[arm])
        right.append(quality / (4 * p[arm]))
        wrong.append(quality / (4 * logged[arm]))
        policy.learn([1.0], arm, [quality])
    assert abs(np.mean(right) - 0.45) < 3 * np.std(right) / np.sqrt(len(right))
    assert abs(np.mean(wrong) - 0.45) > 3 * np.std(wrong) / np.sqrt(len(wrong))
