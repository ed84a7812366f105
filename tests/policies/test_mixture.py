"""The mixture against its parts run by hand, and its bound on sequences made to break it."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import Exp3, GaussianThompson, HierarchicalLinTS, LinTS, LinUCB
from bandit_router.policies.mixture import MixtureThompson, PolicyMixture

SIZES = {"n_arms": 3, "dim": 2, "channels": 2}
PRICES = np.array([1.0, -0.3])


def test_shares_and_probabilities_are_those_of_the_parts_run_by_hand():
    mixture = MixtureThompson(**SIZES, rate=2.0)
    parts = [LinTS(**SIZES), HierarchicalLinTS(**SIZES), GaussianThompson(**SIZES)]
    errors, rng = np.zeros(3), np.random.default_rng(0)
    for _ in range(60):
        x, arm, y = rng.normal(size=2), int(rng.integers(3)), [rng.random(), rng.random()]
        shares = np.exp(-2.0 * errors) / np.exp(-2.0 * errors).sum()
        by_hand = sum(s * part.probabilities(x, prices=PRICES) for s, part in zip(shares, parts, strict=True))
        assert mixture.probabilities(x, prices=PRICES) == pytest.approx(by_hand, abs=1e-12)
        for j, part in enumerate(parts):
            guess = np.nan_to_num(part.estimate(x).mean[arm, 0])
            errors[j] += (y[0] - min(max(guess, 0.0), 1.0)) ** 2
            part.learn(x, arm, y)
        mixture.learn(x, arm, y)


def test_the_average_is_within_the_bound_of_the_best_part():
    """Total squared error at most the best one's plus log(3) / rate, for qualities that follow, flip and are noise."""
    rng = np.random.default_rng(1)
    mixture: MixtureThompson
    sequences = {
        "linear": lambda t, x: np.clip(0.5 + 0.3 * x[1], 0, 1),
        "flips": lambda t, x: float(t // 25 % 2),
        "noise": lambda t, x: rng.random(),
        "against": lambda t, x: float(np.clip(mixture.estimate(x).mean[0, 0], 0, 1) < 0.5),
    }
    for quality in sequences.values():
        mixture = MixtureThompson(n_arms=1, dim=2)
        error = 0.0
        for t in range(300):
            x = np.array([1.0, rng.uniform(-1, 1)])
            y = quality(t, x)
            guesses = [np.clip(np.nan_to_num(part.estimate(x).mean[0, 0]), 0, 1) for part in mixture.policies]
            error += (y - mixture.weights() @ guesses) ** 2
            mixture.learn(x, 0, [y])
        assert error <= mixture.errors.min() + np.log(3) / mixture.rate


@pytest.mark.parametrize(("slope", "winner"), [(0.4, "LinTS"), (0.0, "GaussianThompson")])
def test_the_policy_whose_model_holds_takes_over(slope, winner):
    class Two(PolicyMixture):
        bases = (LinTS, GaussianThompson)

    rng, policy = np.random.default_rng(2), Two(n_arms=2, dim=9, rate=2.0)
    for _ in range(400):
        x, arm = np.concatenate([[1.0], rng.uniform(-1, 1, 8)]), int(rng.integers(2))
        sign = 1 if arm else -1
        policy.learn(x, arm, [np.clip(0.5 + sign * slope * x[1] + 0.1 * rng.normal(), 0, 1)])
    shares = dict(zip([base.__name__ for base in Two.bases], policy.weights(), strict=True))
    assert max(shares, key=shares.get) == winner
    assert shares[winner] > 0.9


def test_another_mixture_is_two_lines_and_obeys_a_reload():
    class Optimists(PolicyMixture):
        bases = (LinUCB, GaussianThompson)

    policy = Optimists(n_arms=2, dim=1)
    policy.learn([1.0], 0, [0.7])
    copy = Optimists.from_state(policy.state())
    assert copy.probabilities([1.0]).tolist() == policy.probabilities([1.0]).tolist()
    assert copy.errors.tolist() == [pytest.approx(0.49), pytest.approx(0.49)]


@pytest.mark.parametrize("parts", [(LinTS, LinTS), (LinTS, Exp3)])
def test_parts_that_could_not_be_told_apart_or_judged_are_refused(parts):
    with pytest.raises(InvalidInput, match="different policies that estimate"):
        type("Bad", (PolicyMixture,), {"bases": parts})
