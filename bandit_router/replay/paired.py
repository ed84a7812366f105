"""One policy's value minus another's on the same rows: what both meet alike cancels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bandit_router.arrays import F64
from bandit_router.records.outcomes import Utility
from bandit_router.replay.estimators.doubly_robust import dr
from bandit_router.replay.estimators.intervals import Interval, normal
from bandit_router.replay.estimators.regression import crossfit
from bandit_router.replay.estimators.sample import Sample
from bandit_router.replay.estimators.sequences import robust_difference, weighted_interval
from bandit_router.replay.evaluate import (
    FLOOR_ROWS,
    checked_range,
    columns_of,
    declared_ranges,
    past_scores,
    repeats,
    weighted_scores,
)
from bandit_router.replay.gate import IntervalKind
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted


def differences(
    log: LoggedEvents,
    target: F64,
    other: F64,
    *,
    utility: Utility | None = None,
    bounds: Mapping[str, Interval] | None = None,
    alpha: float = 0.05,
    modes: Sequence[str] | None = None,
    interval: IntervalKind = "anytime",
) -> dict[str, Interval | None]:
    """Interval of the target's value minus the other's, by metric; None where there is none.

    Args:
        target, other: distributions in each row, shape (n, K). interval: "fixed" is the normal one of the doubly robust
            scores' differences. "anytime" needs a declared range and rows of equal weight; it is paired where the
            smallest propensity allows doubly robust scores, otherwise the union of two sequences at alpha / 2.
        others: see `evaluate`.

    Example:
        >>> arm = np.arange(2000) % 2
        >>> log = LoggedEvents.of(arms=("a", "b"), arm=arm, propensity=np.full(2000, 0.5), quality=0.5 + 0.4 * arm)
        >>> found = differences(log, np.tile([0.0, 1.0], (2000, 1)), np.tile([1.0, 0.0], (2000, 1)), interval="fixed")
        >>> [round(float(end), 2) for end in found["utility"]]
        [0.4, 0.4]
    """
    counts = counted(log, modes)[0] & ~log.degraded
    prices = utility or Utility()
    ranges = declared_ranges(prices, bounds or {})
    found: dict[str, Interval | None] = {}
    for name, y in columns_of(log, prices).items():
        rows = counts & ~np.isnan(y)
        part, reward = log.take(rows), y[rows]
        if not len(part):
            continue
        limits = checked_range(name, reward, ranges.get(name))
        tables = (target[rows], other[rows])
        if interval == "fixed":
            found[name] = _fixed(part, reward, tables, alpha)
        else:
            known = limits if repeats(part) is None else None
            found[name] = None if known is None else _anytime(part, reward, tables, known, alpha)
    return found


def _samples(log: LoggedEvents, reward: F64, tables: tuple[F64, F64], predictions: F64 | None) -> tuple[Sample, Sample]:
    one, other = (
        Sample(
            arm=log.arm,
            propensity=log.propensity,
            reward=reward,
            target=table,
            predictions=predictions,
            logging=log.probabilities,
            contexts=log.contexts,
        )
        for table in tables
    )
    return one, other


def _fixed(log: LoggedEvents, reward: F64, tables: tuple[F64, F64], alpha: float) -> Interval:
    samples = _samples(log, reward, tables, crossfit(log.contexts, log.arm, reward, len(log.arms)))
    return normal(weighted_scores(dr(samples[0]) - dr(samples[1]), repeats(log)), alpha)


def _anytime(log: LoggedEvents, y: F64, tables: tuple[F64, F64], bounds: Interval, alpha: float) -> Interval:
    low, span = bounds[0], bounds[1] - bounds[0]
    reward, largest = np.clip((y - low) / span, 0.0, 1.0), 1.0 / float(log.propensity.min())
    samples = _samples(log, reward, tables, None)
    if largest * FLOOR_ROWS <= len(log):
        scores = [past_scores(log, sample, reward) for sample in samples]
        first, last = robust_difference(scores[0], scores[1], largest, alpha=alpha)
    else:
        scale = min(largest, math.sqrt(len(log)))
        one, two = (weighted_interval(s.weight, reward, alpha=alpha / 2, scale=scale) for s in samples)
        first, last = one[0] - two[1], one[1] - two[0]
    return span * first, span * last
