"""The laws of what a policy declares: its class attributes against what it does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.testing.laws import expect
from bandit_router.testing.subjects import ARMS, CHANNELS, DIM, PRICES, Factory, random_context, same_state


def taught(make: Factory, *, propensity: float = 0.5, steps: int = 60) -> Policy:
    """A policy that has learned about every arm in turn, with one propensity."""
    policy, rng = make(n_arms=ARMS, dim=DIM, channels=CHANNELS), np.random.default_rng(10)
    for step in range(steps):
        policy.learn(random_context(rng, DIM), step % ARMS, [rng.random(), 0.1], propensity=propensity)
    return policy


def the_context_matters_only_where_that_is_declared(make: Factory) -> None:
    """Without `contextual` the distribution is the same in every context."""
    policy, rng = taught(make), np.random.default_rng(11)
    if policy.contextual:
        return
    first = policy.probabilities(random_context(rng, DIM), prices=PRICES)
    for _ in range(10):
        other = policy.probabilities(random_context(rng, DIM), prices=PRICES)
        expect(bool((other == first).all()), f"{first} in one context, {other} in another, and contextual is False")


def the_propensity_is_read_only_where_that_is_declared(make: Factory) -> None:
    """Without `reads_propensity` the same outcomes lead to the same state, whatever they were drawn with."""
    first, second = taught(make, propensity=0.9), taught(make, propensity=0.1)
    if not first.reads_propensity:
        expect(
            same_state(first.state(), second.state()), "the propensity was learned from, and reads_propensity is False"
        )


def estimates_are_given_exactly_where_they_are_declared(make: Factory) -> None:
    """With `has_estimates` the quality of an arm that has learned is a number, without it NaN."""
    policy = taught(make)
    known = np.isfinite(policy.estimate(np.array([1.0, 0.3, -0.2])).mean[:, 0])
    expect(
        bool((known == policy.has_estimates).all()), f"estimates {known}, and has_estimates is {policy.has_estimates}"
    )


def widening_is_possible_exactly_where_it_is_declared(make: Factory) -> None:
    """With `widens` one arm keeps its estimate and learns faster, the others stay; without it nothing changes."""
    policy, plain, x = taught(make), taught(make), np.array([1.0, 0.3, -0.2])
    before = policy.estimate(x).mean
    if not policy.widens:
        try:
            policy.widen(0, 0.1)
        except InvalidInput:
            expect(same_state(policy.state(), plain.state()), "a refused widen changed the state")
            return
        raise AssertionError("widen was accepted, and widens is False")
    policy.widen(0, 0.1)
    expect(np.allclose(policy.estimate(x).mean, before, atol=1e-8), "widen moved an estimate")
    for each in (policy, plain):
        each.learn(x, 0, [before[0, 0] + 1.0, 0.1])
    moved = [float(each.estimate(x).mean[0, 0] - before[0, 0]) for each in (policy, plain)]
    expect(moved[0] > moved[1], f"an outcome moved the widened arm by {moved[0]}, the same arm unwidened by {moved[1]}")
    others = [each.estimate(x).mean[1:] for each in (policy, plain)]
    expect(np.allclose(others[0], others[1]), "widening one arm changed another")


def arms_change_places_where_that_is_declared(make: Factory) -> None:
    """With `per_arm` a policy in another order decides as before, arm by arm, and goes on so; without it it refuses."""
    policy, order, rng = taught(make), [*range(1, ARMS), 0], np.random.default_rng(13)
    if policy.per_arm is None:
        try:
            policy.in_order(order)
        except InvalidInput:
            return
        raise AssertionError("in_order was accepted, and per_arm is None")
    moved = policy.in_order(order)
    for _ in range(20):
        x, arm, outcome = random_context(rng, DIM), int(rng.integers(ARMS)), [rng.random(), 0.1]
        ours, theirs = moved.probabilities(x, prices=PRICES), policy.probabilities(x, prices=PRICES)[order]
        expect(np.allclose(ours, theirs, atol=1e-6), f"{ours} in another order, {theirs} before")
        policy.learn(x, arm, outcome, propensity=0.5)
        moved.learn(x, order.index(arm), outcome, propensity=0.5)


def sums_add_up_where_that_is_declared(make: Factory) -> None:
    """With `merges` of "sums", what two replicas learned apart is together what one would have learned from both."""
    here, there, whole = taught(make), taught(make), taught(make)
    if here.merges != "sums":
        return
    since, rng = statistics_of(there).sums(), np.random.default_rng(12)
    for step in range(40):
        x, arm, outcome = random_context(rng, DIM), int(rng.integers(ARMS)), [rng.random(), 0.1]
        for each in (whole, (here, there)[step % 2]):
            each.learn(x, arm, outcome)
    statistics_of(here).merge(statistics_of(there).delta(since))
    for _ in range(10):
        x = random_context(rng, DIM)
        ours, theirs = here.estimate(x).mean, whole.estimate(x).mean
        expect(np.allclose(ours, theirs, atol=1e-6), f"{ours} merged, {theirs} learned at one place")


def statistics_of(policy: Policy) -> RidgeStatistics:
    """The sums of a policy that declares them."""
    statistics = getattr(policy, "statistics", None)
    if not isinstance(statistics, RidgeStatistics):
        raise AssertionError(f"merges is 'sums', so `statistics` must be RidgeStatistics, got {statistics!r}")
    return statistics


CAPABILITY_LAWS: tuple[Callable[[Factory], None], ...] = (
    the_context_matters_only_where_that_is_declared,
    the_propensity_is_read_only_where_that_is_declared,
    estimates_are_given_exactly_where_they_are_declared,
    widening_is_possible_exactly_where_it_is_declared,
    sums_add_up_where_that_is_declared,
    arms_change_places_where_that_is_declared,
)
