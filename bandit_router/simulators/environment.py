"""What an environment is: contexts in order, and what every arm would have answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.records.arms import Arm

BLOCK = 1024


class Block(NamedTuple):
    """Consecutive steps of a stream.

    Attributes:
        contexts: shape (steps, dim).
        outcomes: what each arm would return, shape (steps, arms, channels); a policy sees the row of its arm only.
        means: their expectations, same shape, so that regret is exact; the same array where there is no noise.
        playable: arms that can be chosen at each step, at least one, shape (steps, arms); None where all can.
            Nothing is known of the others: their quality is NaN.
    """

    contexts: F64
    outcomes: F64
    means: F64
    playable: Bool | None = None


class Environment(Protocol):
    """A stream of requests over fixed arms. Streams depend on the seed alone, never on the policy: paired luck.

    Attributes:
        name: readable id; it also keys the noise. arms: in order. channels: metered ones, quality first.
        dim: context length. horizon: default number of steps. scales: reference amount of each channel but quality.
    """

    name: str
    arms: tuple[Arm, ...]
    channels: tuple[str, ...]
    dim: int
    horizon: int
    scales: dict[str, float]

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """The stream of one seed, in blocks of `BLOCK` steps (the last one shorter)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts for the results file."""
        ...


def generator(name: str, purpose: str, seed: int, block: int = 0) -> np.random.Generator:
    """The random stream of one (environment, purpose, seed, block), the same on every machine."""
    digest = hashlib.blake2b(f"{name}\0{purpose}".encode(), digest_size=8).digest()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int.from_bytes(digest, "big"), seed, block])))


def draws(name: str, seed: int, block: int, steps: int) -> F64:
    """Uniform numbers of one block, one a step: every policy draws its arm with the same ones."""
    return generator(name, "draw", seed, block).random(BLOCK)[:steps]
