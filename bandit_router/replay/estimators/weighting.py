"""Importance weighting: plain, clipped, self-normalised, sub-Gaussian and balanced."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.replay.estimators.sample import Sample, ratio_scores


def ips(sample: Sample) -> F64:
    """w r. Unbiased when the propensities are right and positive wherever the target plays.

    Source: Horvitz & Thompson 1952; for bandits Li et al. 2015 (arXiv 1003.5956's follow-up).

    Example:
        >>> half, always_first = np.array([0.5, 0.5]), np.array([[1.0, 0.0], [1.0, 0.0]])
        >>> s = Sample(arm=np.array([0, 1]), propensity=half, reward=np.array([1.0, 0.0]), target=always_first)
        >>> float(ips(s).mean())
        1.0
    """
    return np.asarray(sample.weight * sample.reward)


def clip_level(sample: Sample) -> float:
    """sqrt(n), the truncation that keeps truncated importance sampling consistent (Ionides 2008, section 2)."""
    return math.sqrt(len(sample.arm))


def clipped_ips(sample: Sample, level: float | None = None) -> F64:
    """min(w, level) r; level defaults to sqrt(n) (Ionides 2008). Biased down for positive rewards, steadier."""
    return np.asarray(np.minimum(sample.weight, clip_level(sample) if level is None else level) * sample.reward)


def snips(sample: Sample) -> F64:
    """sum(w r) / sum(w): in the range of the rewards, biased by O(1/n) (Swaminathan & Joachims 2015)."""
    return ratio_scores(sample.weight * sample.reward, sample.weight)


def shrunk_weight(sample: Sample, share: float | None = None) -> F64:
    """w / (1 - share + share w), the harmonic correction of Metelli, Russo & Restelli 2021, eq. 6 with s = -1.

    share defaults to sqrt(2 log(1/0.05) / (3 n mean(w^2))), their Theorem 5.1 at 5 %, at most 1.
    """
    w = sample.weight
    if share is None:
        share = min(1.0, math.sqrt(2 * math.log(20.0) / (3 * max(float((w * w).sum()), 1e-12))))
    return np.asarray(w / (1.0 - share + share * w))


def sub_gaussian_ips(sample: Sample, share: float | None = None) -> F64:
    """Shrunken weight times reward: sub-Gaussian tails without clipping (Metelli et al. 2021)."""
    return shrunk_weight(sample, share) * sample.reward


def balanced_ips(sample: Sample, weight: F64 | None = None) -> F64:
    """sum(w' r) / sum(w') with weights w' learned by telling target rows from logged rows, not from propensities.

    Source: Sondhi, Arbour & Dimmery 2020 (balanced off-policy evaluation). The weights are right only if the contexts
    hold everything that the logging policy looked at.

    Args:
        sample: must carry contexts unless `weight` is given.
        weight: learned weights of the served arms, shape (n,).
    """
    w = balanced_weight(sample) if weight is None else weight
    return ratio_scores(w * sample.reward, w)


def balanced_weight(sample: Sample, ridge: float = 1.0, steps: int = 25) -> F64:
    """Odds of "target" against "logged" for each served pair, by one logistic ridge per arm (Newton's method).

    Row i counts as a target row of arm a with weight target[i, a] and as a logged row if a was served.
    """
    if sample.contexts is None:
        raise InvalidInput("balanced weights need contexts")
    x = np.column_stack([np.ones(len(sample.arm)), sample.contexts])
    odds = np.zeros(len(sample.arm))
    for arm in np.unique(sample.arm):
        served = sample.arm == arm
        beta = _logistic(x, sample.target[:, arm], served.astype(np.float64), ridge, steps)
        odds[served] = np.exp(x[served] @ beta)
    return odds


def _logistic(x: F64, positive: F64, negative: F64, ridge: float, steps: int) -> F64:
    beta = np.zeros(x.shape[1])
    total = positive + negative
    penalty = ridge * np.eye(len(beta))
    penalty[0, 0] = 1e-6
    for _ in range(steps):
        p = expit(x @ beta)
        gradient = x.T @ (positive - total * p) - penalty @ beta
        step = np.linalg.solve((x * (total * p * (1 - p))[:, None]).T @ x + penalty, gradient)
        beta += np.clip(step, -5.0, 5.0)
        if np.abs(step).max() < 1e-10:
            break
    return beta
