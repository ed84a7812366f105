"""The laws of a policy, functions of a factory `make(n_arms=..., dim=..., channels=...) -> Policy`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import chdtrc

from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.testing.capabilities import CAPABILITY_LAWS
from bandit_router.testing.laws import check, expect
from bandit_router.testing.subjects import (
    ARMS,
    CHANNELS,
    DIM,
    PRICES,
    Factory,
    play,
    random_context,
    same_state,
    trained,
)


def check_policy(make: Factory) -> None:
    """Check every law; raises AssertionError naming the first that is broken.

    Example:
        >>> from bandit_router import LinUCB
        >>> check_policy(LinUCB)
    """
    check(POLICY_LAWS, make)


def propensities_are_a_distribution(make: Factory) -> None:
    """They sum to 1, lie in [0, 1] and are 0 on ineligible arms, before and after learning."""
    rng = np.random.default_rng(1)
    policy = make(n_arms=ARMS, dim=DIM, channels=CHANNELS)
    for _ in range(40):
        eligible = rng.random(ARMS) < 0.6
        eligible[rng.integers(ARMS)] = True
        p = policy.probabilities(random_context(rng, DIM), eligible, PRICES, rng.uniform(0, 0.3, ARMS))
        expect(p.shape == (ARMS,), f"expected shape ({ARMS},), got {p.shape}")
        expect(abs(p.sum() - 1.0) < 1e-9, f"propensities sum to {p.sum()}")
        expect((p >= 0).all(), f"negative propensity in {p}")
        expect((p[~eligible] == 0).all(), f"an ineligible arm has a positive propensity in {p}")
        play(policy, rng, 5)


def propensities_match_frequencies(make: Factory) -> None:
    """100,000 draws agree with the stated distribution (chi-square, p above 1e-6), and never hit a zero."""
    policy = trained(make)
    rng = np.random.default_rng(2)
    for _ in range(3):
        p = policy.probabilities(random_context(rng, DIM), prices=PRICES)
        counts = np.bincount([draw(p, u) for u in rng.random(100_000)], minlength=ARMS)
        expect((counts[p == 0] == 0).all(), f"an arm of propensity 0 was drawn: {p}, {counts}")
        likely = p * counts.sum() >= 5
        observed = np.append(counts[likely], counts[~likely].sum())
        expected = np.append(p[likely], p[~likely].sum()) * counts.sum()
        keep = expected >= 1.0
        statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
        degrees = max(int(keep.sum()) - 1, 1)
        expect(chdtrc(degrees, statistic) > 1e-6, f"draws {counts} do not match propensities {p}")


def deciding_changes_nothing(make: Factory) -> None:
    """`probabilities` reads the model only: the same answer twice, and the same state to the byte."""
    policy = trained(make)
    before, x = policy.state(), np.array([1.0, 0.3, -0.2])
    first = policy.probabilities(x, prices=PRICES)
    first_copy = first.copy()
    second = policy.probabilities(x, prices=PRICES)
    first[:] = -1.0  # a caller may scribble on the answer
    expect((second == first_copy).all(), f"two answers differ: {first_copy}, {second}")
    expect(same_state(before, policy.state()), "deciding changed the state")


def a_reload_chooses_the_same(make: Factory) -> None:
    """State saved and loaded reproduces 1,000 of 1,000 choices, and goes on learning alike."""
    policy = trained(make)
    state = policy.state()
    copy = type(policy).from_state(state)
    rng = np.random.default_rng(3)
    for _ in range(1000):
        x, uniform = random_context(rng, DIM), rng.random()
        ours, theirs = policy.probabilities(x, prices=PRICES), copy.probabilities(x, prices=PRICES)
        expect(draw(ours, uniform) == draw(theirs, uniform), f"{ours} before saving, {theirs} after")
    play(policy, np.random.default_rng(4), 50)
    expect(not same_state(state, policy.state()) or policy.steps == 0, "the saved state changed with the policy")
    play(copy, np.random.default_rng(4), 50)
    expect(same_state(policy.state(), copy.state()), "the reloaded policy learned differently")


def order_of_independent_arms_does_not_matter(make: Factory) -> None:
    """Two arms' histories interleaved either way lead to the same propensities, unless it declares order_free False."""
    if not make(n_arms=ARMS, dim=DIM, channels=CHANNELS).order_free:
        return
    rng = np.random.default_rng(5)
    events = [(random_context(rng, DIM), arm, [rng.random(), 0.1], rng.uniform(0.1, 1)) for arm in (0, 1) * 30]
    grouped = sorted(events, key=lambda event: event[1])
    first, second = (make(n_arms=ARMS, dim=DIM, channels=CHANNELS) for _ in range(2))
    for policy, order in ((first, events), (second, grouped)):
        for x, arm, outcome, propensity in order:
            policy.learn(x, arm, outcome, propensity=propensity)
    for _ in range(20):
        x = random_context(rng, DIM)
        ours, theirs = first.probabilities(x, prices=PRICES), second.probabilities(x, prices=PRICES)
        expect(np.allclose(ours, theirs, atol=1e-6), f"{ours} interleaved, {theirs} arm by arm")


def a_new_arm_is_usable_at_once(make: Factory) -> None:
    """It can be decided on, learned and copied from another arm, and the others keep their estimates."""
    policy = trained(make)
    x = np.array([1.0, 0.3, -0.2])
    before = policy.estimate(x).mean
    expect(policy.add_arm() == ARMS, "the new arm must be appended")
    expect(policy.add_arm(like=0, strength=5.0) == ARMS + 1, "the new arm must be appended")
    p = policy.probabilities(x, prices=PRICES)
    expect(p.shape == (ARMS + 2,), f"expected {ARMS + 2} propensities, got {p.shape}")
    expect(abs(p.sum() - 1.0) < 1e-9, f"propensities sum to {p.sum()}")
    only = np.arange(ARMS + 2) == ARMS
    expect(policy.probabilities(x, only)[ARMS] == 1.0, "the new arm alone must be played")
    after = policy.estimate(x).mean
    expect(np.allclose(after[:ARMS], before, equal_nan=True), "adding an arm changed the others")
    expect(np.allclose(after[ARMS + 1], before[0], atol=1e-9, equal_nan=True), "like= must copy the estimate")
    policy.learn(x, ARMS, [1.0, 0.0], propensity=0.5)
    expect(
        same_state(policy.state(), type(policy).from_state(policy.state()).state()), "state with a new arm must reload"
    )


def memory_is_bounded(make: Factory) -> None:
    """A thousand more events do not make the state larger."""
    policy = trained(make, steps=300)
    before = _bytes(policy)
    play(policy, np.random.default_rng(6), 1000)
    after = _bytes(policy)
    expect(after <= 1.05 * before + 64, f"state grew from {before} to {after} bytes over 1,000 events")


def bad_input_is_refused_before_anything_changes(make: Factory) -> None:
    """NaN, wrong dimension, unknown arm, empty eligible set, bad weight or propensity raise InvalidInput."""
    policy = trained(make)
    before, x = policy.state(), np.array([1.0, 0.3, -0.2])
    none = np.zeros(ARMS, dtype=bool)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("NaN context", lambda: policy.probabilities([1.0, np.nan, 0.0])),
        ("wrong dimension", lambda: policy.probabilities([1.0, 0.0])),
        ("empty eligible set", lambda: policy.probabilities(x, none)),
        ("wrong eligible length", lambda: policy.probabilities(x, np.ones(ARMS + 1, dtype=bool))),
        ("NaN price", lambda: policy.probabilities(x, prices=np.array([1.0, np.nan]))),
        ("NaN penalty", lambda: policy.probabilities(x, penalty=np.full(ARMS, np.nan))),
        ("NaN quality", lambda: policy.learn(x, 0, [np.nan, 0.0])),
        ("infinite channel", lambda: policy.learn(x, 0, [0.5, np.inf])),
        ("wrong outcome length", lambda: policy.learn(x, 0, [0.5])),
        ("NaN context in learn", lambda: policy.learn([1.0, np.inf, 0.0], 0, [0.5, 0.0])),
        ("unknown arm", lambda: policy.learn(x, ARMS, [0.5, 0.0])),
        ("negative arm", lambda: policy.learn(x, -1, [0.5, 0.0])),
        ("weight 0", lambda: policy.learn(x, 0, [0.5, 0.0], weight=0.0)),
        ("propensity 0", lambda: policy.learn(x, 0, [0.5, 0.0], propensity=0.0)),
    ]
    for name, call in calls:
        try:
            call()
        except InvalidInput:
            pass
        else:
            raise AssertionError(f"{name} was accepted")
        expect(same_state(before, policy.state()), f"{name} changed the state")


def equal_seeds_give_equal_runs(make: Factory) -> None:
    """Two fresh policies on the same stream with the same numbers play the same arms."""
    first, second = (make(n_arms=ARMS, dim=DIM, channels=CHANNELS) for _ in range(2))
    runs = [play(policy, np.random.default_rng(7), 200) for policy in (first, second)]
    expect(runs[0] == runs[1], "the runs differ")


def a_penalty_never_attracts(make: Factory) -> None:
    """Raising one arm's penalty never raises its propensity."""
    policy = trained(make)
    rng = np.random.default_rng(8)
    for _ in range(20):
        x, arm = random_context(rng, DIM), int(rng.integers(ARMS))
        penalty = np.zeros(ARMS)
        low = policy.probabilities(x, prices=PRICES, penalty=penalty)[arm]
        penalty[arm] = 0.3
        high = policy.probabilities(x, prices=PRICES, penalty=penalty)[arm]
        expect(high <= low + 1e-6, f"arm {arm} went from {low} to {high} when penalised")


def an_unmetered_channel_keeps_its_estimate(make: Factory) -> None:
    """NaN in a cost channel moves the quality's estimate only."""
    policy = trained(make)
    x = np.array([1.0, 0.3, -0.2])
    before = policy.estimate(x).mean[0, 1]
    policy.learn(x, 0, [1.0, np.nan])
    after = policy.estimate(x).mean[0, 1]
    expect(np.isclose(before, after, rtol=1e-9, equal_nan=True), f"cost estimate went from {before} to {after}")


def logs_are_unbiased(make: Factory) -> None:
    """IPS of the uniform policy over the arms that could be drawn lies within 3 standard errors of the truth.

    Four Bernoulli arms; the standard error is the exact one of the martingale, from the logged distributions.
    """
    rng = np.random.default_rng(9)
    policy = make(n_arms=ARMS, dim=DIM, channels=CHANNELS)
    means = np.array([0.3, 0.4, 0.5, 0.6])
    error = variance = 0.0
    for _ in range(3000):
        x = random_context(rng, DIM)
        p = policy.probabilities(x, prices=PRICES)
        arm = draw(p, rng.random())
        quality = float(rng.random() < means[arm])
        support = p > 0
        size, truth = support.sum(), means[support].mean()
        error += quality / (size * p[arm]) - truth
        variance += (means[support] / (size**2 * p[support])).sum() - truth**2
        policy.learn(x, arm, [quality, 0.0], propensity=min(float(p[arm]), 1.0))
    z = error / np.sqrt(variance)
    expect(abs(z) < 3.0, f"the estimate is {z:.1f} standard errors from the truth")


POLICY_LAWS: tuple[Callable[[Factory], None], ...] = (
    propensities_are_a_distribution,
    propensities_match_frequencies,
    deciding_changes_nothing,
    a_reload_chooses_the_same,
    order_of_independent_arms_does_not_matter,
    a_new_arm_is_usable_at_once,
    memory_is_bounded,
    bad_input_is_refused_before_anything_changes,
    equal_seeds_give_equal_runs,
    a_penalty_never_attracts,
    an_unmetered_channel_keeps_its_estimate,
    logs_are_unbiased,
    *CAPABILITY_LAWS,
)


def _bytes(policy: Policy) -> int:
    return sum(array.nbytes for array in policy.state().values())
