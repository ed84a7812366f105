"""What a policy declares, against what it does, and one sentence for one mistake at every door."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, LinUCB, build
from bandit_router.policies.base import CAPABILITIES
from bandit_router.policies.ucb1 import UCB1
from bandit_router.testing import check_policy

SIZES = {"n_arms": 3, "dim": 2, "channels": 2}


def variants(name):
    """The default settings, and each number among them moved."""
    yield {}
    for key, setting in POLICIES[name].choices().items():
        if setting.kind is float:
            yield {key: setting.default / 2 or 0.5}


def learned(policy, *, propensity=0.5, contexts=((1.0, 1.0), (1.0, -1.0))):
    for step in range(60):
        arm = step % 3
        policy.learn(contexts[step % 2], arm, [abs(arm - 2 * (step % 2)) / 2, 0.1], propensity=propensity)
    return policy


@pytest.mark.parametrize("name", POLICIES)
def test_what_reads_the_propensity_is_changed_by_it_at_some_setting(name):
    changed = False
    for settings in variants(name):
        one, other = (learned(build(name, settings, **SIZES), propensity=p).state() for p in (0.9, 0.2))
        changed |= any(one[key].tobytes() != other[key].tobytes() for key in one)
    assert changed == POLICIES[name].reads_propensity


@pytest.mark.parametrize("name", [name for name in POLICIES if POLICIES[name].contextual])
def test_a_contextual_policy_tells_contexts_apart(name):
    policy = learned(build(name, **SIZES))
    assert (policy.probabilities([1.0, 1.0]) != policy.probabilities([1.0, -1.0])).any()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_capability_has_a_policy_with_it_and_one_without(capability):
    assert len({getattr(policy, capability) for policy in POLICIES.values()}) > 1


class Silent(LinUCB):
    """Says nothing of arms that it does estimate."""

    def _estimate(self, x):
        estimate = super()._estimate(x)
        estimate.mean[:] = np.nan
        return estimate


class Weighing(LinUCB):
    """Weighs by the propensity without saying so."""

    def _learn(self, x, arm, y, weight, propensity):
        super()._learn(x, arm, y, weight / propensity, propensity)


class Stubborn(LinUCB):
    """Declares that it widens, and does not."""

    def _widen(self, arm, keep):
        pass


class Doubling(LinUCB):
    """Its sums hold every outcome twice, and its policy does not."""

    def _start(self):
        super()._start()
        self.statistics.delta = lambda since: {
            name: 2 * (now - since[name]) for name, now in self.statistics.sums().items()
        }


class Staring(UCB1):
    """Declares no context and uses it."""

    def _distribution(self, x, arms, prices, penalty):
        p = super()._distribution(x, arms, prices, penalty)
        return p if x[-1] > 0 else p[::-1]


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Silent, "estimates_are_given_exactly_where_they_are_declared"),
        (Weighing, "the_propensity_is_read_only_where_that_is_declared"),
        (Stubborn, "widening_is_possible_exactly_where_it_is_declared"),
        (Doubling, "sums_add_up_where_that_is_declared"),
        (Staring, "the_context_matters_only_where_that_is_declared"),
    ],
)
def test_a_wrong_declaration_is_named_with_its_law(broken, law):
    from bandit_router.testing import POLICY_LAWS

    (declared,) = [each for each in POLICY_LAWS if each.__name__ == law]
    with pytest.raises(AssertionError):
        declared(broken)


def test_a_subclass_that_sets_another_default_declares_it():
    from bandit_router.declared import setting

    class Careful(LinUCB):
        alpha: float = setting(default=0.05)

    assert Careful(n_arms=2, dim=1).settings() == {**LinUCB(n_arms=2, dim=1).settings(), "alpha": 0.05}
    assert Careful.from_state(Careful(n_arms=2, dim=1).state()).alpha == 0.05
    check_policy(Careful)
    assert LinUCB(n_arms=2, dim=1).alpha == 0.3


def test_settings_beside_an_instance_are_refused():
    policy = LinUCB(n_arms=2, dim=1)
    assert build(policy, n_arms=2, dim=1) is policy
    with pytest.raises(InvalidInput, match="go with a policy's name, got a LinUCB as well"):
        build(policy, {"alpha": 99}, n_arms=2, dim=1)
    with pytest.raises(InvalidInput, match=r"the policy must have \{'n_arms': 3, 'dim': 1\}"):
        build(policy, n_arms=3, dim=1)
