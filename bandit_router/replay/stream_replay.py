"""The replay document of a streaming pass: a fixed arm or uniform, by IPS and SNIPS, on a log of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from bandit_router.records.outcomes import Utility
from bandit_router.replay.compare import LOGGING
from bandit_router.replay.diagnostics import WRONG_MEAN, WRONG_P, Diagnostics, never_metered
from bandit_router.replay.document import Document, LogFacts
from bandit_router.replay.estimators.intervals import Interval
from bandit_router.replay.estimators.moments import Moments, difference, merged, sequence
from bandit_router.replay.evaluate import Metric, Valued, checked_range, declared_ranges
from bandit_router.replay.gate import IntervalKind, judge, parse_gate
from bandit_router.replay.modes import left_out
from bandit_router.replay.stream import Streamed, target_of
from bandit_router.replay.stream_columns import main_metric


def streamed_document(
    found: Streamed,
    *,
    policy: str,
    utility: Utility | None = None,
    bounds: Mapping[str, Interval] | None = None,
    alpha: float = 0.05,
    gate: str | None = None,
    modes: Sequence[str] | None = None,
    interval: IntervalKind = "anytime",
) -> dict[str, Any]:
    """Values, anytime-valid intervals and refusals from the moments alone.

    Args:
        found: from `stream`, or several merged in the order of the log.
        policy: "uniform" or "arm=ID". utility, bounds, alpha, gate, modes, interval: see `compare`.

    Raises:
        InvalidInput: these are sums of another policy or at other prices, the log does not know the arm, the gate
            cannot be read, bounds are no range, or a metric was logged outside its range.
    """
    condition = None if gate is None else parse_gate(gate)
    prices = utility or Utility()
    found.require(target_of(policy, prices, modes))
    found.require_arm(policy)
    ranges = declared_ranges(prices, bounds or {})
    columns = {"utility": found.blocks.get(main_metric(prices), []), **found.blocks}
    if columns.get("reward") == columns["utility"]:  # it says nothing else, as in memory
        columns.pop("reward", None)
    sums = {name: merged(blocks) for name, blocks in columns.items()}
    refusals = never_metered(prices, found.blocks) or _refusals(sums["utility"])
    answers = {} if refusals else {name: total for name, total in sums.items() if not _silent(total)}
    metrics = {}
    for name, total in answers.items():
        limits = checked_range(name, np.array([total.low, total.high]), ranges.get(name))
        metrics[name] = _metric(total, columns[name], limits, alpha)
    kind = "difference" if interval == "anytime" else "difference_normal"
    document = Document(
        policy=policy,
        learning="fixed, streamed",
        baseline=LOGGING,
        log=LogFacts(rows=found.rows, arms=found.arms),
        answered=not refusals,
        refusals=refusals,
        alpha=alpha,
        interval=interval,
        utility=prices,
        metrics=dict(metrics),
        differences={name: getattr(metric, kind) for name, metric in metrics.items()},
        diagnostics=_facts(sums, found),
        left_out=found.left_out + sum(found.other.values()),
        unjoined={name: found.unjoined[main_metric(prices) if name == "utility" else name] for name in metrics},
    ).built()
    if condition is not None:
        document["gate"] = judge(gate or "", condition, document)
    return document


def _silent(sums: Moments) -> list[str]:
    """Why the rows that have the metric say nothing of it."""
    if sums.n < 2:
        return [f"expected at least two rows with the metric, got {sums.n}"]
    return [] if sums.w > 0 else ["no overlap: the target policy never plays what was served"]


def _refusals(sums: Moments) -> list[str]:
    if reasons := _silent(sums):
        return reasons
    z = sums.weight_z()
    mean = sums.w / sums.n
    if 2 * float(ndtr(-abs(z))) < WRONG_P and abs(mean - 1) > WRONG_MEAN:
        return [f"the weights' mean is {mean:.3f} where 1 is required (z {z:.1f}): wrong propensities, or no overlap"]
    return []


def _metric(sums: Moments, blocks: list[Moments], bounds: Interval | None, alpha: float) -> Metric:
    errors, z = sums.errors(), float(ndtri(1 - alpha / 2))
    values = {"ips": sums.ips(), "snips": sums.snips()}

    def normal(value: float, error: float) -> Interval:
        return value - z * error, value + z * error

    return Metric(
        n=sums.n,
        logged=sums.logged,
        logged_interval=normal(sums.logged, errors["logged"]),
        logged_anytime=None if bounds is None else sequence([block.unweighted() for block in blocks], bounds, alpha),
        estimates={
            name: Valued(
                value=value,
                standard_error=errors[name],
                ess=sums.ess,
                intervals={"normal": normal(value, errors[name])},
            )
            for name, value in values.items()
        },
        anytime={} if bounds is None else {"gamma_mixture": sequence(blocks, bounds, alpha)},
        scores=None if bounds is None else "ips",
        difference=None if bounds is None else difference(blocks, bounds, alpha),
        difference_normal=normal(values["ips"] - sums.logged, errors["difference"]),
        bounds=bounds,
    )


def _facts(by_metric: Mapping[str, Moments], found: Streamed) -> Diagnostics:
    sums = by_metric["utility"]
    warnings = [f"{found.left_out} rows left out"] if found.left_out else []
    warnings += [left_out(mode, count) for mode, count in found.other.items()]
    others = {name: _silent(total) for name, total in by_metric.items() if name != "utility"}
    warnings += [f"{name} is left out: {reasons[0]}" for name, reasons in others.items() if reasons]
    n, z = max(1, sums.n), sums.weight_z() if sums.n > 1 else 0.0
    counting = found.rows - found.left_out - sum(found.other.values())
    return Diagnostics(
        rows=counting,
        degraded=None,
        joined=sums.n / max(1, counting),
        ess=sums.ess,
        ess_share=sums.ess / n,
        weight_mean=sums.w / n,
        weight_z=z,
        weight_p=2 * float(ndtr(-abs(z))),
        weight_max=sums.largest,
        smallest_propensity=found.smallest,
        weight_percentiles={},
        unsupported=None,
        unsupported_arms=[],
        ratio_p=None,
        drift_p=None,
        block_reward=[],
        block_weight=[],
        arms=[],
        warnings=warnings,
        refusals=_refusals(sums),
    )
