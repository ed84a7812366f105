"""Anytime-valid confidence sequences: they hold at every stopping time and under a logging policy that learns.

All of them bound the mean of scores y_t whose conditional mean, given the past, is the value v, from below; the upper
bound is the lower bound of the mirrored reward, each at alpha / 2. They need rewards of known range and scores that
use only the past (propensities as logged, predictions from earlier rows); they need no bound on the weights.

If the value drifts, `gamma_mixture` covers the mean of the conditional values so far; the other two cover a
time-weighted mean of them.

Source: Waudby-Smith & Ramdas 2024 (arXiv 2010.09686); Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2024
(arXiv 2210.10768), Proposition 3 and Theorem 4; Karampatziakis, Mineiro & Ramdas 2021 (arXiv 2102.09540).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln

from bandit_router.arrays import F64
from bandit_router.replay.estimators.intervals import Interval, check_alpha

_TRUNCATION = 0.5
_HALVINGS = 40


def _past(y: F64, scale: float) -> tuple[F64, F64]:
    """Regularised mean and variance of the scores before each step: predictable, shape (n,) each.

    `scale` prior steps of mean 1/2 and variance scale / 4: what weights up to `scale` make of rewards in [0, 1].
    """
    t = np.arange(1, len(y) + 1)
    mean = (0.5 * scale + y.cumsum()) / (t + scale)
    variance = (0.25 * scale * scale + ((y - mean) ** 2).cumsum()) / (t + scale)
    return np.concatenate([[0.5], mean[:-1]]), np.concatenate([[0.25 * scale], variance[:-1]])


def _bets(y: F64, alpha: float, scale: float) -> F64:
    """sqrt(2 log(1/alpha) / (variance t log(t + 1))), the predictable plug-in of WSR eq. 15, t counted from `scale`."""
    t = np.arange(1, len(y) + 1) + scale - 1.0
    return np.asarray(np.sqrt(2 * math.log(1 / alpha) / (_past(y, scale)[1] * t * np.log1p(t))))


def empirical_bernstein(y: F64, *, alpha: float = 0.05, scale: float = 1.0) -> F64:
    """Lower bounds after each step for the mean, which lies in [0, 1], of scores y >= 0; shape (n,), running maximum.

    L_t = (sum l_i y_i - log(1/alpha) - sum psi(l_i) (y_i - m_{i-1})^2) / sum l_i with psi(l) = -log(1 - l) - l.

    Args:
        scale: size of the largest scores to expect, at least 1; it tunes the bets and is not needed for validity.

    Example:
        >>> bounds = empirical_bernstein(np.full(1000, 0.5))
        >>> bool(0.45 < bounds[-1] < 0.5)
        True
    """
    check_alpha(alpha)
    bet = np.minimum(_bets(y, alpha, scale), _TRUNCATION)
    spread = (y - np.minimum(_past(y, scale)[0], 1.0)) ** 2
    gain = (bet * y).cumsum() - math.log(1 / alpha) - ((-np.log1p(-bet) - bet) * spread).cumsum()
    return np.asarray(np.maximum.accumulate(np.maximum(gain / bet.cumsum(), 0.0)))


def log_capital(y: F64, mean: float, *, floor: float = 0.0, alpha: float = 0.05, scale: float = 1.0) -> F64:
    """Log capital, after each step, of the bettor who holds that the mean is above `mean`; y >= -floor.

    A nonnegative martingale if `mean` is the mean, so it passes log(1 / alpha) with probability at most alpha, ever
    (Ville 1939). Decreasing in `mean`.
    """
    bet = np.minimum(_bets(y, alpha, scale), _TRUNCATION / max(floor + mean, 1e-12))
    return np.asarray(np.log1p(bet * (y - mean)).cumsum())


def betting(
    y: F64, *, floor: float = 0.0, low: float = 0.0, high: float = 1.0, alpha: float = 0.05, scale: float = 1.0
) -> float:
    """Lower bound for the mean in [low, high] of scores y >= -floor: the largest mean that was ever bet away.

    The running intersection over all steps is included: it is the largest capital so far that is compared.

    Args:
        scale: see `empirical_bernstein`.

    Example:
        >>> 0.45 < betting(np.full(1000, 0.5)) < 0.5
        True
    """
    check_alpha(alpha)
    goal = math.log(1 / alpha)

    def bet_away(mean: float) -> bool:
        return bool(log_capital(y, mean, floor=floor, alpha=alpha, scale=scale).max(initial=0.0) >= goal)

    if not bet_away(low):
        return low
    inside, outside = low, high
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if bet_away(middle) else (inside, middle)
    return inside


def gamma_mixture(total: float, count: float, spread: float, alpha: float = 0.05) -> float:
    """Lower bound for the mean, in [0, 1], of `count` nonnegative scores from three running sums.

    Args:
        total: sum of the scores. count: their number.
        spread: sum of (y_t - guess_t)^2 where guess_t, in [0, 1], knows only the past.

    The gamma-exponential mixture of Howard et al. 2021, Proposition 9, as Karampatziakis et al. 2021 use it. The sums
    may be taken block by block with one guess per block, so logs larger than memory need one pass.
    """
    check_alpha(alpha)
    goal = math.log(1 / alpha)
    top = min(1.0, total / count)
    if log_wealth(total, spread) <= goal:
        return 0.0
    if log_wealth(total - count * top, spread) >= goal:
        return top
    return float(brentq(lambda mean: log_wealth(total - count * mean, spread) - goal, 0.0, top))


def log_wealth(s: F64 | float, v: F64 | float, rho: float = 1.0) -> F64:
    """Log of the gamma-exponential mixture at s = sum(y - mean), v = spread; passes log(1 / alpha) as a capital does.

    Below s = 0 the mixture is less than 1; -inf is given there.
    """

    def log_lower_gamma(a: F64 | float, x: F64 | float) -> F64:
        return np.asarray(np.log(np.maximum(gammainc(a, x), 1e-300)) + gammaln(a))

    positive = np.maximum(s, 0.0)
    a, x = v + rho, positive + v + rho
    wealth = x - rho - a * np.log(x) + log_lower_gamma(a, x) - log_lower_gamma(rho, rho) + rho * math.log(rho)
    return np.where(np.asarray(s) < 0, -np.inf, wealth)


def gamma_sums(y: F64) -> tuple[float, float, float]:
    """The three sums of `gamma_mixture` for scores in memory, each guess the past mean (at most 1)."""
    before = np.concatenate([[0.0], y.cumsum()[:-1]])
    guess = np.minimum((before + 0.5) / np.arange(1, len(y) + 1), 1.0)
    return float(y.sum()), float(len(y)), float(((y - guess) ** 2).sum())


def lower(y: F64, method: str, *, floor: float, low: float, high: float, alpha: float, scale: float) -> float:
    """Lower bound for the mean in [low, high] of scores y >= -floor, by any of `METHODS`."""
    if method == "betting":
        return betting(y, floor=floor, low=low, high=high, alpha=alpha, scale=scale)
    span = floor + high
    z = (y + floor) / span
    if method == "gamma_mixture":
        bound = gamma_mixture(*gamma_sums(z), alpha=alpha)
    else:
        bound = float(empirical_bernstein(z, alpha=alpha, scale=max(1.0, scale / span))[-1])
    return max(low, bound * span - floor)


METHODS = ("gamma_mixture", "betting", "empirical_bernstein")


# -- two-sided intervals, rewards scaled into [0, 1] -------------------------------------------------------------------


def weighted_interval(
    weight: F64, reward: F64, *, method: str = METHODS[0], alpha: float = 0.05, scale: float = 1.0
) -> Interval:
    """Sequence for the IPS value; the weights need no bound."""
    low, miss = (
        lower(weight * r, method, floor=0.0, low=0.0, high=1.0, alpha=alpha / 2, scale=scale)
        for r in (reward, 1.0 - reward)
    )
    return _ordered(low, 1.0 - miss)


def robust_interval(scores: F64, largest: float, *, method: str = METHODS[0], alpha: float = 0.05) -> Interval:
    """Sequence for the doubly robust value.

    Args:
        scores: direct + w (r - q), shape (n,), with predictions in [0, 1] made from earlier rows alone.
        largest: what no weight can exceed, 1 / the smallest propensity the logger uses.
    """
    low, miss = (
        lower(y, method, floor=largest, low=0.0, high=1.0, alpha=alpha / 2, scale=largest)
        for y in (scores, 1.0 - scores)
    )
    return _ordered(low, 1.0 - miss)


def weighted_difference(
    weight: F64, reward: F64, *, method: str = METHODS[0], alpha: float = 0.05, scale: float = 1.0
) -> Interval:
    """Sequence for the IPS value minus the logging policy's own; the mean of (w - 1) (1 - r) is its negative."""
    low, miss = (
        lower((weight - 1.0) * r, method, floor=1.0, low=-1.0, high=1.0, alpha=alpha / 2, scale=scale)
        for r in (reward, 1.0 - reward)
    )
    return _ordered(low, -miss)


def robust_difference(
    scores: F64, reward: F64, largest: float, *, method: str = METHODS[0], alpha: float = 0.05
) -> Interval:
    """Sequence for the doubly robust value minus the logging policy's own; see `robust_interval`."""
    gain = scores - reward
    low, loss = (
        lower(y, method, floor=largest + 1.0, low=-1.0, high=1.0, alpha=alpha / 2, scale=largest) for y in (gain, -gain)
    )
    return _ordered(low, -loss)


def _ordered(low: float, high: float) -> Interval:
    """An empty intersection, which happens with probability at most alpha, becomes its hull."""
    return min(low, high), max(low, high)
