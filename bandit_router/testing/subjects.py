"""Policies to try the laws on: sizes, streams, and policies that have learned from them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw

ARMS, DIM, CHANNELS = 4, 3, 2
PRICES = np.array([1.0, -0.2])


class Factory(Protocol):
    """Makes a fresh policy of the given sizes; a policy class is one."""

    def __call__(self, *, n_arms: int, dim: int, channels: int) -> Policy:
        """A policy that has learned nothing."""
        ...


def trained(make: Factory, seed: int = 0, steps: int = 200) -> Policy:
    """A policy that has learned a random history from its own draws."""
    policy = make(n_arms=ARMS, dim=DIM, channels=CHANNELS)
    play(policy, np.random.default_rng(seed), steps)
    return policy


def play(policy: Policy, rng: np.random.Generator, steps: int) -> list[int]:
    """Let a policy decide and learn on random contexts with linear qualities in [0, 1]; returns the arms it drew."""
    slopes = np.random.default_rng(99).normal(size=(policy.n_arms, policy.dim))
    arms = []
    for _ in range(steps):
        x = random_context(rng, policy.dim)
        p = policy.probabilities(x, prices=PRICES)
        arm = draw(p, rng.random())
        quality = np.clip(0.5 + 0.2 * slopes[arm] @ x + 0.1 * rng.normal(), 0.0, 1.0)
        policy.learn(x, arm, [quality, 0.1 * arm], propensity=min(float(p[arm]), 1.0))
        arms.append(arm)
    return arms


def random_context(rng: np.random.Generator, dim: int) -> F64:
    """A leading 1 and numbers in [-1, 1]."""
    return np.concatenate([[1.0], rng.uniform(-1, 1, dim - 1)])


def same_state(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two states are the same to the byte."""
    return first.keys() == second.keys() and all(
        first[k].shape == second[k].shape and first[k].tobytes() == second[k].tobytes() for k in first
    )
