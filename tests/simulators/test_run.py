"""The simulation loop on a table of three queries, with regret by hand, and paired luck."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, Fixed, LinUCB, UniformRandom
from bandit_router.policies.base import utility
from bandit_router.policies.distributions import draw
from bandit_router.records.outcomes import Utility
from bandit_router.simulators.environment import draws
from bandit_router.simulators.run import checkpoints, reference, simulate
from bandit_router.simulators.table import TableEnvironment, load_table

PRICED = Utility(prices={"cost_usd": 0.1}, scales={"cost_usd": 2.0})  # 0.05 a dollar


@pytest.fixture
def environment(write_table):
    """Utilities at PRICED: small 0.20, 0.45, 0.45; large 0.80, 0.55, -0.20; oracle 0.80, 0.55, 0.45."""
    return TableEnvironment(load_table(write_table()))


@pytest.fixture
def weights(environment):
    return PRICED.weights(environment.channels)


class Watching(UniformRandom):
    """Remembers what it was shown and told."""

    def __init__(self, **sizes):
        super().__init__(**{name: sizes[name] for name in ("n_arms", "dim", "channels")})
        self.contexts, self.told = [], []

    def _distribution(self, x, arms, prices, penalty):
        self.contexts.append(x.tolist())
        return super()._distribution(x, arms, prices, penalty)

    def _learn(self, x, arm, y, weight, propensity):
        self.told.append((x.tolist(), arm, y.tolist(), propensity))


def sized(policy, environment, **settings):
    return policy(n_arms=len(environment.arms), dim=environment.dim, channels=len(environment.channels), **settings)


def test_the_references_equal_the_hand_calculation(environment, weights):
    result = reference(environment, weights, seed=0, horizon=6)  # two passes
    np.testing.assert_allclose(result.fixed[-1], [2 * 1.10, 2 * 1.15])
    assert result.oracle[-1] == pytest.approx(2 * 1.80)
    assert result.best_fixed == 1
    assert result.fixed.shape == (6, 2)


@pytest.mark.parametrize(("arm", "quality", "cost"), [(0, 1.25, 3.0), (1, 1.75, 12.0)])
def test_a_fixed_arm_has_the_utility_and_the_outcomes_of_its_column(environment, weights, arm, quality, cost):
    run = simulate(environment, sized(Fixed, environment, arm=arm), weights, seed=0, horizon=3)
    assert run.curve[-1] == pytest.approx(quality - 0.05 * cost)
    np.testing.assert_allclose(run.outcome_sums, [quality, cost])
    assert run.outcome_counts.tolist() == [3, 3]
    assert run.plays.tolist() == [3 * (arm == 0), 3 * (arm == 1)]
    np.testing.assert_allclose(run.curve, reference(environment, weights, seed=0, horizon=3).fixed[:, arm])


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_beats_the_oracle_at_any_step(environment, weights, name):
    run = simulate(environment, sized(POLICIES[name], environment), weights, seed=1, horizon=50)
    assert (reference(environment, weights, seed=1, horizon=50).oracle - run.curve >= -1e-12).all()
    assert run.plays.sum() == 50


def test_a_policy_sees_its_own_arms_outcome_and_is_told_its_propensity(environment, weights):
    policy = sized(Watching, environment)
    simulate(environment, policy, weights, seed=2, horizon=9)
    (block,) = environment.blocks(2, 9)
    arms = [draw(np.array([0.5, 0.5]), uniform) for uniform in draws(environment.name, 2, 0, 9)]
    told = [(block.contexts[i].tolist(), arm, block.outcomes[i, arm].tolist(), 0.5) for i, arm in enumerate(arms)]
    assert policy.told == told
    assert policy.contexts == block.contexts.tolist()


def test_two_policies_meet_the_same_luck(environment, weights):
    """The same contexts and the same uniform numbers: alike policies play alike, whatever else runs."""
    first, second = (sized(Watching, environment) for _ in range(2))
    simulate(environment, first, weights, seed=3, horizon=40)
    simulate(environment, sized(LinUCB, environment), weights, seed=3, horizon=40)
    simulate(environment, second, weights, seed=3, horizon=40)
    assert first.told == second.told
    other = sized(Watching, environment)
    simulate(environment, other, weights, seed=4, horizon=40)
    assert first.told != other.told


def test_a_channel_that_is_not_metered_is_neither_summed_nor_counted(write_table, cells):
    cells |= {"energy_j": [None, 2.0] * 3}
    environment = TableEnvironment(load_table(write_table(outcomes=cells)))
    weights = Utility().weights(environment.channels)
    for arm, count in ((0, 0), (1, 3)):
        run = simulate(environment, sized(Fixed, environment, arm=arm), weights, seed=0, horizon=3)
        assert (run.outcome_sums[2], run.outcome_counts[2]) == (2.0 * count, count)
    with pytest.raises(InvalidInput, match="not metered for every request"):
        reference(environment, np.array([1.0, 0.0, -0.1]), seed=0, horizon=3)


def test_an_unpriced_channel_may_be_unknown():
    outcomes = np.array([[0.5, np.nan], [0.75, 2.0]])
    assert utility(outcomes, np.array([1.0, 0.0])).tolist() == [0.5, 0.75]
    assert np.isnan(utility(outcomes, np.array([1.0, -0.1]))[0])


@pytest.mark.parametrize("horizon", [1, 2, 199, 200, 201, 1785, 100_003])
def test_checkpoints_are_distinct_steps_up_to_the_last(horizon):
    steps = checkpoints(horizon)
    assert len(steps) == min(horizon, 200)
    assert (steps[0], steps[-1]) == (1, horizon)
    assert (np.diff(steps) > 0).all()
