"""The value of a target policy on a log: every metric, several estimators, intervals, and when to say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.declared import named
from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.records.outcomes import CHANNELS, DECLARED, LARGEST, Utility
from bandit_router.replay.diagnostics import Diagnostics, diagnose
from bandit_router.replay.estimators import ESTIMATORS, MODELLED
from bandit_router.replay.estimators.doubly_robust import dr
from bandit_router.replay.estimators.intervals import (
    Interval,
    bootstrap,
    check_alpha,
    clopper_pearson,
    normal,
    standard_error,
)
from bandit_router.replay.estimators.regression import crossfit, progressive
from bandit_router.replay.estimators.sample import Sample, effective_size
from bandit_router.replay.estimators.sequences import (
    METHODS,
    robust_difference,
    robust_interval,
    weighted_difference,
    weighted_interval,
)
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted

DEFAULT_ESTIMATORS = ("ips", "snips", "dm", "dr")
BETTING_ROWS = 200_000
FLOOR_ROWS = 100


class Valued(msgspec.Struct, frozen=True, kw_only=True):
    """One estimator's answer: value, standard error, effective sample size, fixed-n intervals by method."""

    value: float
    standard_error: float
    ess: float
    intervals: dict[str, Interval]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of the target policy.

    Attributes:
        n: rows in which it was metered. logged: mean under the logging policy. logged_interval: its normal interval.
        logged_anytime: its anytime-valid one, None when the range is not known.
        estimates: by estimator. anytime: anytime-valid intervals for the target's value by method, the key of the
            default one in `sequence`; empty when the metric's range is not known.
        difference: anytime-valid interval for value minus logged value. difference_normal: the fixed-n one, of
            doubly robust scores where "dr" is among the estimators, else of IPS scores.
        bounds: range that the sequences rest on.
    """

    n: int
    logged: float
    logged_interval: Interval
    logged_anytime: Interval | None
    estimates: dict[str, Valued]
    anytime: dict[str, Interval]
    scores: str | None
    difference: Interval | None
    difference_normal: Interval
    bounds: Interval | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of the target policy. `metrics` is empty when `diagnostics.refusals` is not."""

    alpha: float
    diagnostics: Diagnostics
    metrics: dict[str, Metric]

    @property
    def answered(self) -> bool:
        """Whether the log could answer."""
        return not self.diagnostics.refusals


def evaluate(
    log: LoggedEvents,
    target: F64,
    *,
    utility: Utility | None = None,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    bounds: Mapping[str, Interval] | None = None,
    alpha: float = 0.05,
    groups: Mapping[str, str] | None = None,
    kept: Bool | None = None,
    modes: Sequence[str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Value of `target` in utility and in every metered channel.

    Args:
        log: the logged decisions; degraded ones are left out.
        target: the target policy's distribution in each row, shape (n, K), made without knowledge of the row's outcome.
        utility: prices; default quality alone. New prices need no new reading of the log, only this call.
        estimators: names from `ESTIMATORS`.
        bounds: range of a channel, for the anytime-valid intervals; quality is [0, 1] unless given.
        alpha: 1 minus the coverage of every interval.
        groups: group of each arm by id, for "mips".
        kept: rows a learning policy took for its own; makes "replay" the mean over its own history.
        modes: of the rows that count; default those that were drawn, see `counted`.
        seed: of bootstrap and rejection.

    Returns:
        An evaluation; without metrics when the log cannot answer. A channel of which alone it can say nothing is left
        out, with a warning in the diagnostics.

    Raises:
        InvalidInput: unknown estimator, channel or mode, wrong shapes, an outcome outside its declared range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arm = rng.integers(0, 2, 2000)
        >>> log = LoggedEvents.of(arms=("a", "b"), arm=arm, propensity=np.full(2000, 0.5), quality=0.3 + 0.4 * arm)
        >>> answer = evaluate(log, np.tile([0.0, 1.0], (2000, 1)))
        >>> round(answer.metrics["utility"].estimates["dr"].value, 2)
        0.7
    """
    check_alpha(alpha)
    for name in estimators:
        named("estimator", name, ESTIMATORS)
    if target.shape != (len(log), len(log.arms)):
        raise InvalidInput(f"target must have shape {(len(log), len(log.arms))}, got {target.shape}")
    rows, notes = counted(log, modes)
    if not rows.all():
        log, target, kept = log.take(rows), target[rows], None if kept is None else kept[rows]
    prices = Utility() if utility is None else utility
    columns = columns_of(log, prices)
    diagnostics = diagnose(log, target, columns["utility"])
    diagnostics.warnings.extend(notes)
    if diagnostics.refusals:
        return Evaluation(alpha=alpha, diagnostics=diagnostics, metrics={})
    ranges = declared_ranges(prices, bounds or {})
    answer = partial(_metric, log, target, estimators=estimators, alpha=alpha, groups=groups, kept=kept, seed=seed)
    metrics: dict[str, Metric] = {}
    for name, y in columns.items():
        limits = checked_range(name, y, ranges.get(name))
        same = name == "quality" and limits == ranges.get("utility") and not any(prices.prices.values())
        try:
            metrics[name] = metrics["utility"] if same else answer(y=y, bounds=limits)
        except Unanswerable as why:
            if name == "utility":
                raise
            diagnostics.warnings.append(f"{name} is left out: {why}")
    return Evaluation(alpha=alpha, diagnostics=diagnostics, metrics=metrics)


def columns_of(log: LoggedEvents, utility: Utility) -> dict[str, F64]:
    """Utility, the logged reward where it says something else, and every channel metered in a row that counts."""
    columns = {"utility": log.utility(utility), **{name: log.channel(name) for name in ("reward", *CHANNELS)}}
    same = np.array_equal(columns["reward"], columns["utility"], equal_nan=True)
    counts = ~log.degraded
    return {
        name: y
        for name, y in columns.items()
        if name == "utility" or (not np.isnan(y[counts]).all() and not (same and name == "reward"))
    }


def declared_ranges(utility: Utility, given: Mapping[str, Interval]) -> dict[str, Interval]:
    """Declared ranges, and the utility's when all that it prices have one."""
    known = {name: channel.range for name, channel in DECLARED.items() if channel.high < LARGEST}  # else mere sense
    ranges: dict[str, Interval] = {**known, **given}
    for name, (low, high) in ranges.items():
        if name not in (*CHANNELS, "reward", "utility") or not -math.inf < low < high < math.inf:
            raise InvalidInput(f"bounds need a channel and a finite low < high, got {name}={low}:{high}")
    if "utility" not in ranges and all(name in ranges for name in CHANNELS if utility.priced(name)):
        weights = dict(zip(CHANNELS, utility.weights(CHANNELS).tolist(), strict=True))
        ends = [sorted(weights[name] * end for end in ranges[name]) for name in CHANNELS if utility.priced(name)]
        ranges["utility"] = (sum(low for low, _ in ends), sum(high for _, high in ends))
    return ranges


def checked_range(name: str, y: F64, bounds: Interval | None) -> Interval | None:
    """The declared range of values; raises InvalidInput for a value outside."""
    if bounds is None:
        return None
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    slack = 1e-9 * (bounds[1] - bounds[0])
    if low < bounds[0] - slack or high > bounds[1] + slack:
        raise InvalidInput(f"{name} was logged in {low:g}..{high:g}, outside its range {bounds[0]:g}:{bounds[1]:g}")
    return bounds


def _metric(
    log: LoggedEvents,
    target: F64,
    *,
    y: F64,
    bounds: Interval | None,
    estimators: Sequence[str],
    alpha: float,
    groups: Mapping[str, str] | None,
    kept: Bool | None,
    seed: int,
) -> Metric:
    rows = ~np.isnan(y) & ~log.degraded
    part, reward = log.take(rows), y[rows]
    sample = Sample(
        arm=part.arm,
        propensity=part.propensity,
        reward=reward,
        target=target if rows.all() else target[rows],
        predictions=_predictions(part, reward, estimators),
        logging=part.probabilities,
        contexts=part.contexts,
        groups=_groups(log.arms, groups),
        kept=None if kept is None else kept[rows],
        seed=seed,
    )
    if not sample.weight.any():
        raise Unanswerable("the target policy never plays what was served where this was metered")
    one = partial(_valued, sample, repeat=repeats(part), bounds=bounds, alpha=alpha, seed=seed)
    estimates = {name: one(ESTIMATORS[name]) for name in estimators}
    anytime, scores, difference = _sequences(part, sample, bounds, alpha)
    mine = dr(sample) if "dr" in estimators else sample.weight * reward
    gain = weighted_scores(mine - reward, repeats(part))
    return Metric(
        n=len(part),
        logged=float(np.average(reward, weights=part.weight)),
        logged_interval=normal(weighted_scores(reward, repeats(part)), alpha),
        logged_anytime=_logged_sequence(part, reward, bounds, alpha),
        estimates=estimates,
        anytime=anytime,
        scores=scores,
        difference=difference,
        difference_normal=normal(gain, alpha),
        bounds=bounds,
    )


def _predictions(log: LoggedEvents, reward: F64, estimators: Sequence[str]) -> F64 | None:
    if not MODELLED.intersection(estimators):
        return None
    return crossfit(log.contexts, log.arm, reward, len(log.arms))


def _groups(arms: Sequence[str], groups: Mapping[str, str] | None) -> Index | None:
    """The group of each arm as a number; None where an arm has none."""
    if groups is None or not set(arms) <= groups.keys():
        return None
    labels = sorted(set(groups.values()))
    return np.array([labels.index(groups[arm]) for arm in arms], dtype=np.intp)


def repeats(log: LoggedEvents) -> F64 | None:
    """Row weights, None when all are equal."""
    return None if np.ptp(log.weight) == 0 else log.weight


def weighted_scores(scores: F64, repeat: F64 | None) -> F64:
    """Scores of the mean in which row i counts repeat[i] times."""
    if repeat is None:
        return scores
    mean = float(np.average(scores, weights=repeat))
    return np.asarray(mean + repeat * (scores - mean) / repeat.mean())


def _valued(
    sample: Sample,
    estimator: Callable[[Sample], F64],
    *,
    repeat: F64 | None,
    bounds: Interval | None,
    alpha: float,
    seed: int,
) -> Valued:
    scores = weighted_scores(estimator(sample), repeat)
    w = sample.weight
    intervals = {"normal": normal(scores, alpha), "bootstrap": bootstrap(scores, alpha, seed=seed)}
    if bounds is not None and estimator is ESTIMATORS["ips"] and repeat is None:
        intervals["clopper-pearson"] = clopper_pearson(w, sample.reward, bounds, alpha)
    return Valued(
        value=float(scores.mean()),
        standard_error=standard_error(scores),
        ess=effective_size(w),
        intervals=intervals,
    )


def _sequences(
    log: LoggedEvents, sample: Sample, bounds: Interval | None, alpha: float
) -> tuple[dict[str, Interval], str | None, Interval | None]:
    """Anytime-valid intervals by method, the scores they rest on, and the one of the difference.

    Doubly robust scores take the smallest logged propensity for the logger's floor, and the width of their sequence
    has a term of about 4 / (floor n). They are used where that is small, which is known before any reward is seen;
    IPS scores need no floor.
    """
    if bounds is None or repeats(log) is not None:
        return {}, None, None
    low, span = bounds[0], bounds[1] - bounds[0]
    w, reward = sample.weight, np.clip((sample.reward - low) / span, 0.0, 1.0)
    largest = 1.0 / float(sample.propensity.min())
    methods = METHODS if len(w) <= BETTING_ROWS else METHODS[:1]
    if largest * FLOOR_ROWS <= len(w):
        scores = past_scores(log, sample, reward)
        sides = {m: robust_interval(scores, largest, method=m, alpha=alpha) for m in methods}
        kind, change = "doubly robust", robust_difference(scores, reward, largest, alpha=alpha)
    else:
        scale = min(largest, math.sqrt(len(w)))
        sides = {m: weighted_interval(w, reward, method=m, alpha=alpha, scale=scale) for m in methods}
        kind, change = "ips", weighted_difference(w, reward, alpha=alpha, scale=scale)
    scaled = {name: (low + span * a, low + span * b) for name, (a, b) in sides.items()}
    return scaled, kind, (span * change[0], span * change[1])


def _logged_sequence(log: LoggedEvents, reward: F64, bounds: Interval | None, alpha: float) -> Interval | None:
    """The anytime-valid interval of what was logged."""
    if bounds is None or repeats(log) is not None:
        return None
    low, span = bounds[0], bounds[1] - bounds[0]
    first, last = weighted_interval(np.ones(len(log)), np.clip((reward - low) / span, 0.0, 1.0), alpha=alpha)
    return low + span * first, low + span * last


def past_scores(log: LoggedEvents, sample: Sample, reward: F64) -> F64:
    """Doubly robust scores whose predictions know only earlier rows; rewards in [0, 1]."""
    q = progressive(log.contexts, log.arm, reward, len(log.arms), start=0.5)
    return dr(replace(sample, reward=reward, predictions=np.clip(q, 0.0, 1.0, out=q)))


__all__ = ["DEFAULT_ESTIMATORS", "Evaluation", "Metric", "Unanswerable", "Valued", "evaluate"]
