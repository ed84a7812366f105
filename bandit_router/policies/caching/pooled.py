"""What adapters are plausibly worth, judged by all of them: a router's own bonus only says how little it has seen."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64

SPREAD_PRIOR = 0.05
PRIOR_ARMS = 2.0
RATE = 0.01
HARDLY_PLAYED = 0.9


class PooledEstimate:
    """Utilities shrunk to the mean of all arms instead of to the router's prior, with the spread seen between arms.

    A ridge estimate of an arm that was never played is its prior, usually 0, and its bonus is set to make it be tried.
    Neither says what the arm is likely to be worth. With the bonus b of an arm, b_0 |x| the widest ever seen (that of
    an arm without data) and m its mean, the share of the prior that is left in m is

        w = (b / (b_0 |x|))^2

    With p the mean of the arms with w > 0.9 (what the router assumes of an arm without data; 0 if there is none),

        y = (m - w p) / (1 - w)                                                   what the arm's own data say
        q = sum (m - w p) / sum (1 - w)                                           mean of all arms in this context
        v = (2 * 0.05 + sum (1 - w)^2 (y - q)^2) / (2 + sum (1 - w)^2 - 1)        variance between arms
        left = (1/v + 4/b^2)^-1 / v                                               share of v that is left
        estimate = q + min(1 - left, 1 - w) (y - q),   deviation = sqrt(v left)

    The bonus counts as two standard deviations of y. The two sums of v are averaged over past requests; 0.05 is the
    variance of a Beta(2, 2), for utilities between 0 and 1, and counts as two arms.

    Source: ours; shrinkage to the mean of a group is empirical Bayes (Efron & Morris 1975). w is exact for one
    direction of context, and an approximation across directions.
    """

    def __init__(self) -> None:
        self._widest = 0.0
        self._squares, self._informed = 0.0, 0.0

    def __call__(self, contexts: F64, mean: F64, bonus: F64) -> tuple[F64, F64]:
        """Estimate and deviation, both shape (n, arms), of contexts (n, dim) with the router's mean and bonus."""
        share = self._prior_share(contexts, bonus)
        fresh = share > HARDLY_PLAYED
        prior = np.where(fresh, mean, 0.0).sum(axis=1, keepdims=True) / np.maximum(fresh.sum(axis=1, keepdims=True), 1)
        known, own = 1 - share, mean - share * prior
        informed = known.sum(axis=1, keepdims=True)
        pooled = np.where(informed > 0.5, own.sum(axis=1, keepdims=True) / np.maximum(informed, 0.5), prior)
        ahead = own - known * pooled
        variance = self._variance(ahead, known)
        width = np.where(np.isfinite(bonus), bonus, 0.0) ** 2
        left = np.where(np.isfinite(bonus), width / (width + 4 * variance), 1.0)
        trust = np.minimum((1 - left) / np.maximum(known, 1e-12), 1.0)
        return pooled + trust * ahead, np.sqrt(variance * left)

    def _prior_share(self, contexts: F64, bonus: F64) -> F64:
        finite = np.isfinite(bonus)
        relative = np.where(finite, bonus, 0.0) / np.maximum(np.linalg.norm(contexts, axis=1), 1e-12)[:, None]
        self._widest = max(self._widest, float(relative.max(initial=0.0)))
        return np.where(finite, (relative / max(self._widest, 1e-12)) ** 2, 1.0)

    def _variance(self, deviation: F64, known: F64) -> float:
        keep = (1 - RATE) ** len(known)
        squares = (deviation**2).sum(axis=1).mean()
        informed = np.maximum((known**2).sum(axis=1) - 1, 0.0).mean()
        self._squares += (1 - keep) * (float(squares) - self._squares)
        self._informed += (1 - keep) * (float(informed) - self._informed)
        return (PRIOR_ARMS * SPREAD_PRIOR + self._squares) / (PRIOR_ARMS + self._informed)
