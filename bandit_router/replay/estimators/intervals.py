"""Fixed-n intervals: right for a log whose length was set beforehand and whose logging policy did not learn."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, ndtri

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput

Interval = tuple[float, float]
RESAMPLED = 2000


def check_alpha(alpha: float) -> None:
    """Raise InvalidInput unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must be in (0, 1), got {alpha}")


def normal(scores: F64, alpha: float = 0.05) -> Interval:
    """mean +- z sd / sqrt(n), by the central limit theorem.

    Example:
        >>> low, high = normal(np.array([0.0, 1.0, 0.0, 1.0]))
        >>> round(low, 4), round(high, 4)
        (-0.0658, 1.0658)
    """
    check_alpha(alpha)
    half = float(ndtri(1 - alpha / 2)) * standard_error(scores)
    return float(scores.mean()) - half, float(scores.mean()) + half


def standard_error(scores: F64) -> float:
    """sd / sqrt(n) with n - 1 degrees of freedom; infinite for a single score."""
    return math.inf if len(scores) < 2 else float(scores.std(ddof=1)) / math.sqrt(len(scores))


def bootstrap(scores: F64, alpha: float = 0.05, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentiles of the mean over resampled rows (Efron 1979).

    Above 2,000 rows the rows are first averaged in 2,000 runs of neighbours and the runs are resampled. Scores of a
    self-normalised estimator are linearised, so its ratio is not recomputed in each resample.
    """
    check_alpha(alpha)
    blocks = scores if len(scores) <= RESAMPLED else _block_means(scores)
    means = _resample(len(blocks), resamples, seed) @ blocks
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _block_means(scores: F64) -> F64:
    edges = np.linspace(0, len(scores), RESAMPLED + 1).astype(np.intp)
    sums = np.add.reduceat(scores, edges[:-1])
    return np.asarray(sums * (RESAMPLED / len(scores)))


@lru_cache(maxsize=4)
def _resample(n: int, resamples: int, seed: int) -> F64:
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples)
    return np.asarray(counts / n)


def clopper_pearson(weight: F64, reward: F64, bounds: Interval = (0.0, 1.0), alpha: float = 0.05) -> Interval:
    """Clopper & Pearson 1934 on n / max(w) trials with sum(w r) / max(w) successes.

    Exact for binary rewards and equal weights alone; for others the field's rule of thumb (vw-estimators has the
    same). Rewards are scaled into [0, 1] by `bounds`.
    """
    check_alpha(alpha)
    low, high = bounds
    largest = float(weight.max())
    if not largest > 0:
        return bounds
    scaled = weight * (reward - low) / (high - low)
    successes, trials = float(scaled.sum()) / largest, len(weight) / largest
    lower = betaincinv(successes, trials - successes + 1, alpha / 2) if successes > 0 else 0.0
    upper = betaincinv(successes + 1, trials - successes, 1 - alpha / 2) if successes < trials else 1.0
    return low + float(lower) * (high - low), low + float(upper) * (high - low)
