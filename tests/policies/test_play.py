"""Runs of steps: the compiled loop does what the two verbs do, step for step."""

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, LinUCB
from bandit_router.policies.distributions import draw
from bandit_router.policies.linear_base import LinearPolicy
from bandit_router.policies.play import follow, play

LINEAR = [name for name, policy in POLICIES.items() if issubclass(policy, LinearPolicy)]
SIZES = {"n_arms": 7, "dim": 9, "channels": 2}
PRICES = np.array([1.0, -0.3])


def stream(steps, seed=0):
    rng = np.random.default_rng(seed)
    contexts = rng.normal(size=(steps, 9))
    theta = rng.normal(size=(7, 2, 9)) / 3
    outcomes = np.einsum("nck,tk->tnc", theta, contexts) + 0.1 * rng.normal(size=(steps, 7, 2))
    outcomes[..., 1][rng.random((steps, 7)) < 0.3] = np.nan
    return contexts, outcomes, rng.random(steps)


def by_hand(policy, contexts, outcomes, uniforms, penalty=None):
    arms, propensities = [], []
    for x, table, uniform in zip(contexts, outcomes, uniforms, strict=True):
        p = policy.probabilities(x, None, PRICES, penalty)
        arms.append(draw(p, uniform))
        propensities.append(p[arms[-1]])
        policy.learn(x, arms[-1], table[arms[-1]])
    return arms, propensities


def settings(name):
    return {**SIZES, "forgetting": 0.99, **({"decay": 0.99, "epsilon": 0.9} if name == "LinEpsilonGreedy" else {})}


@pytest.mark.parametrize("name", [*LINEAR, "UCB1"])
def test_a_run_equals_the_two_verbs_step_for_step(name):
    chosen = settings(name) if name in LINEAR else SIZES
    one, other = POLICIES[name](**chosen), POLICIES[name](**chosen)
    penalty = np.linspace(0.0, 0.2, 7)
    contexts, outcomes, uniforms = stream(400)
    expected = by_hand(one, contexts, outcomes, uniforms, penalty)
    halves = [
        play(other, contexts[part], outcomes[part], uniforms[part], PRICES, penalty=penalty)
        for part in (slice(0, 150), slice(150, 400))
    ]
    assert np.concatenate([arms for arms, _ in halves]).tolist() == expected[0]
    assert np.concatenate([p for _, p in halves]).tolist() == expected[1]
    assert other.steps == one.steps == 400
    for key, array in one.state().items():
        assert array.tobytes() == other.state()[key].tobytes(), key


def test_both_forms_choose_the_same_arms_on_a_longer_run(monkeypatch):
    contexts, outcomes, uniforms = stream(3000, seed=4)
    compiled = POLICIES["LinUCB"](**SIZES)
    arms, propensities = play(compiled, contexts, outcomes, uniforms, PRICES)
    monkeypatch.setattr("bandit_router.policies.native._kernels", None)
    reference, chances = play(POLICIES["LinUCB"](**SIZES), contexts, outcomes, uniforms, PRICES)
    assert arms.tolist() == reference.tolist()
    np.testing.assert_allclose(propensities, chances, atol=1e-12)


@pytest.mark.parametrize("name", ["LinUCB", "UCB1"])
def test_a_run_ends_after_the_first_step_that_plays_a_watched_arm(name):
    contexts, outcomes, uniforms = stream(300)
    whole, _ = play(POLICIES[name](**SIZES), contexts, outcomes, uniforms, PRICES)
    watched = np.arange(7) == whole[150]
    arms, propensities = play(POLICIES[name](**SIZES), contexts, outcomes, uniforms, PRICES, until=watched)
    first = int(np.flatnonzero(watched[whole])[0])
    assert arms.tolist() == whole[: first + 1].tolist()
    assert len(propensities) == len(arms)


@pytest.mark.parametrize("name", ["LinUCB", "UCB1"])
def test_a_step_that_learning_refuses_is_raised_after_the_steps_before_it(name):
    contexts, outcomes, uniforms = stream(100)
    outcomes[40, :, 0] = np.nan
    policy = POLICIES[name](**SIZES)
    with pytest.raises(InvalidInput, match="channel 0 must be finite"):
        play(policy, contexts, outcomes, uniforms, PRICES)
    assert policy.steps == 40


def test_a_subclass_with_its_own_learning_keeps_it():
    class Sceptic(LinUCB):
        def _learn(self, x, arm, y, weight, propensity):
            super()._learn(x, arm, y * 0.0, weight, propensity)

    contexts, outcomes, uniforms = stream(50)
    policy = Sceptic(**SIZES)
    play(policy, contexts, np.nan_to_num(outcomes), uniforms, PRICES)
    assert policy.estimate(np.ones(9)).mean.tolist() == np.zeros((7, 2)).tolist()


@pytest.mark.parametrize("name", [*LINEAR, "UCB1"])
def test_following_a_log_equals_the_two_verbs(name):
    chosen = settings(name) if name in LINEAR else SIZES
    contexts, outcomes, uniforms = stream(300, seed=2)
    rng = np.random.default_rng(3)
    logged = rng.integers(7, size=300)
    eligible = rng.random((300, 7)) < 0.7
    eligible[np.arange(300), logged] = True
    usable = rng.random(300) < 0.9
    seen = outcomes[np.arange(300), logged]
    one, other = POLICIES[name](**chosen), POLICIES[name](**chosen)
    table, kept = follow(
        one, contexts, logged, seen, PRICES, eligible=eligible, bars=uniforms / 7, share=1 / 7, usable=usable
    )
    for row in range(300):
        p = other.probabilities(contexts[row], eligible[row], PRICES)
        assert table[row].tolist() == p.tolist()
        assert kept[row] == (uniforms[row] / 7 < p[logged[row]] / 7)
        if kept[row] and usable[row]:
            other.learn(contexts[row], int(logged[row]), seen[row], propensity=float(p[logged[row]]))
    assert 0 < kept.sum() < 300
    assert one.steps == other.steps


@pytest.mark.parametrize("name", [*LINEAR, "UCB1"])
def test_propensities_change_nothing_for_a_policy_without_use(name):
    """The propensities of a log change nothing for a policy that does not weigh by them."""
    contexts, outcomes, uniforms = stream(100, seed=5)
    logged, rows = (uniforms * 7).astype(int), np.arange(100)
    given = (contexts, logged, np.nan_to_num(outcomes[rows, logged]), PRICES)
    masks = {"eligible": np.ones((100, 7), bool), "usable": np.ones(100, bool)}
    one, other = (
        follow(POLICIES[name](**SIZES), *given, **masks, bars=np.full(100, -1.0), share=1.0, propensities=p)[0]
        for p in (None, np.full(100, 1 / 7))
    )
    assert one.tobytes() == other.tobytes()
