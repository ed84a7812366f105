"""From scores to exact distributions over arms, and from a distribution to one arm."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies.native import kernels

_kernels = kernels()


def draw(p: F64, uniform: float) -> int:
    """The arm at `uniform` (in [0, 1)) on the inverse CDF of `p`; never an arm of probability 0."""
    if _kernels is not None:
        return int(_kernels.draw(p, uniform))
    cumulative = p.cumsum()
    arm = int(cumulative.searchsorted(uniform * cumulative[-1], side="right"))
    return arm if arm < len(p) else int(p.nonzero()[0][-1])


def greedy(scores: F64, floor: float) -> F64:
    """All of `1 - floor` on the best score (shared among exact ties), `floor` spread evenly over all."""
    best = scores == scores.max()
    return mix(best / best.sum(), floor)


def mix(p: F64, floor: float) -> F64:
    """Spread a declared share `floor` evenly over the arms, the rest as in `p`."""
    return np.asarray((1.0 - floor) * p + floor / len(p))


def softmax(scores: F64, temperature: float) -> F64:
    """Boltzmann distribution exp(score / temperature), normalised."""
    weights = np.exp((scores - scores.max()) / temperature)
    return np.asarray(weights / weights.sum())


def inverse_gap(scores: F64, learning_rate: float) -> F64:
    """SquareCB's distribution (Foster & Rakhlin 2020, arXiv 2002.04926, Algorithm 1).

    p_a = 1 / (K + learning_rate * (best - score_a)) for the K - 1 others, the rest on the best.
    """
    best = int(scores.argmax())
    p: F64 = 1.0 / (len(scores) + learning_rate * (scores[best] - scores))
    p[best] = 0.0
    p[best] = 1.0 - p.sum()
    return p
