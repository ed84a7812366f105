"""Exact probabilities that each of several independent scores is the largest."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaincinv, ndtr

from bandit_router.arrays import F64
from bandit_router.policies.distributions import greedy

_LEGENDRE = {nodes: np.polynomial.legendre.leggauss(nodes) for nodes in range(3, 13)}
_NORMAL_BREAKS = np.array([-8.5, -5.0, -3.5, -2.4, -1.5, -0.7, 0.0, 0.7, 1.5, 2.4, 3.5, 5.0, 8.5])
_BETA_LEVELS = np.array([0.0, 1e-9, 1e-5, 1e-3, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.999, 1 - 1e-5, 1 - 1e-9, 1.0])


def gaussian_wins(mean: F64, sd: F64) -> F64:
    """Probability that each of several independent normal scores is the largest.

    P(a wins) = integral of f_a(s) * prod_{b != a} F_b(s) ds, by Gauss-Legendre panels on every arm's own scale, so a
    narrow arm among wide ones is resolved too. Arms with sd 0 are points; tied points share. The result is accurate
    to about 1e-7, at worst to 5e-6, and then normalised; arms that cannot reach the best one's lower tail get 0.
    """
    sd = np.maximum(sd, 1e-9 * max(1.0, float(np.abs(mean).max()), float(sd.max())))
    reach = _NORMAL_BREAKS[-1] * sd
    lowest = (mean - reach).max()
    contenders = np.flatnonzero(mean + reach >= lowest)
    p = np.zeros(len(mean))
    if len(contenders) == 1:
        p[contenders] = 1.0
        return p
    m, s = mean[contenders, None], sd[contenders, None]
    breaks = np.unique(m + s * _NORMAL_BREAKS)
    breaks = breaks[breaks >= lowest]
    first = np.unique(np.floor(breaks / (0.5 * s.min())), return_index=True)[1]  # finer than half an sd helps nobody
    first[-1] = len(breaks) - 1
    points, weights = _panels(breaks[first], nodes=min(12, max(4, 48 // len(contenders))))
    z = (points - m) / s
    density = np.exp(-0.5 * z * z) / s
    p[contenders] = (density * _product_of_others(ndtr(z))) @ weights
    return np.asarray(p / p.sum())


def beta_wins(a: F64, b: F64, scale: float, offset: F64) -> F64:
    """Probability that each of several independent scores scale * Beta(a, b) + offset is the largest; scale > 0.

    The same integral against dF_a on a fine grid: no density, so it holds where the density is infinite.
    """
    edges = scale * betaincinv(a[:, None], b[:, None], _BETA_LEVELS) + offset[:, None]
    breaks = np.unique(edges)
    breaks = breaks[breaks >= edges[:, 0].max()]
    if len(breaks) == 1:
        return greedy(edges[:, -1], 0.0)
    grid = np.union1d(breaks, _panels(breaks, nodes=12)[0])
    cdf = betainc(a[:, None], b[:, None], np.clip((grid - offset[:, None]) / scale, 0.0, 1.0))
    cdf[grid >= edges[:, -1:]] = 1.0  # where rounding leaves the argument just below 1, much may lie above it
    others = _product_of_others(cdf)
    wins = (np.diff(cdf, axis=1) * (others[:, 1:] + others[:, :-1]) / 2).sum(axis=1)
    return np.asarray(wins / wins.sum())


def _panels(breaks: F64, nodes: int) -> tuple[F64, F64]:
    """Gauss-Legendre nodes and weights on every interval between neighbouring breaks."""
    unit, weight = _LEGENDRE[nodes]
    half = np.diff(breaks)[:, None] / 2
    middle = (breaks[:-1] + breaks[1:])[:, None] / 2
    return (middle + half * unit).ravel(), (half * weight).ravel()


def _product_of_others(cdf: F64) -> F64:
    """For every row the product of the other rows, without a division."""
    before, after = np.ones_like(cdf), np.ones_like(cdf)
    np.cumprod(cdf[:-1], axis=0, out=before[1:])
    np.cumprod(cdf[:0:-1], axis=0, out=after[-2::-1])
    return before * after
