"""What a log can and cannot say about a target policy."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from typing import Any

import msgspec
import numpy as np
from scipy.special import chdtrc, ndtr

from bandit_router.arrays import F64, Bool
from bandit_router.records.outcomes import COSTS, DECLARED, LARGEST, Utility
from bandit_router.replay.estimators.sample import effective_size
from bandit_router.replay.logs.logged import LoggedEvents

BLOCKS = 10
UNSUPPORTED = 0.01
WRONG_P, WRONG_MEAN, ROUNDING = 1e-6, 0.05, 1e-6


class ArmCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: how often it was served, what it earned, what the target would send it, is its propensity calibrated.

    `calibration` is the sum of 1 / propensity over its plays by the number of rows it was eligible in: 1 is right.
    """

    arm: str
    plays: int
    share: float
    target_share: float
    joined: float
    mean_reward: float | None
    calibration: float | None
    calibration_z: float | None


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """Everything to look at before believing an estimate. Percentiles are of the importance weights.

    `ess` is the effective sample size (sum w)^2 / sum w^2 (Kish 1965). `weight_p` tests that the weights' mean is 1.
    `unsupported` is the target's mass on arms that were never served while eligible. `ratio_p` tests the arms'
    traffic against the logged probabilities (sample-ratio mismatch), None where the log does not hold them.
    `drift_p` tests that ten consecutive parts of the log earned the same. What one pass over a log cannot tell is None
    or empty.
    """

    rows: int
    degraded: int | None
    joined: float
    ess: float
    ess_share: float
    weight_mean: float
    weight_z: float
    weight_p: float
    weight_max: float
    smallest_propensity: float | None
    weight_percentiles: dict[str, float]
    unsupported: float | None
    unsupported_arms: list[str]
    ratio_p: float | None
    drift_p: float | None
    block_reward: list[float | None]
    block_weight: list[float]
    arms: list[ArmCheck]
    warnings: list[str]
    refusals: list[str]


def diagnose(log: LoggedEvents, target: F64, reward: F64) -> Diagnostics:
    """Check a log against a target policy.

    Args:
        log: all rows. target: shape (n, K). reward: shape (n,), NaN where none was joined.
    """
    kept = ~log.degraded
    rows, table, y = log.take(kept), target if kept.all() else target[kept], reward[kept]
    n, joined = len(rows), ~np.isnan(y)
    weight = table[np.arange(n), rows.arm] / rows.propensity
    mean, z = _mean_test(weight, 1.0)
    missing = _never_served(rows)
    unsupported = float(table[:, missing].sum() / n) if n else 0.0
    ess = effective_size(weight)
    facts: dict[str, Any] = {
        "rows": n,
        "degraded": int((~kept).sum()),
        "joined": float(joined.mean()) if n else 0.0,
        "ess": ess,
        "ess_share": ess / n if n else 0.0,
        "weight_mean": mean,
        "weight_z": z,
        "weight_p": 2 * float(ndtr(-abs(z))),
        "weight_max": float(weight.max(initial=0.0)),
        "smallest_propensity": float(np.nanmin(rows.propensity)) if np.isfinite(rows.propensity).any() else None,
        "unsupported": unsupported,
        "unsupported_arms": [rows.arms[a] for a in np.flatnonzero(missing & (table.sum(axis=0) > 0))],
        "ratio_p": _ratio_test(rows),
        "drift_p": _drift_test(y[joined]),
    }
    return Diagnostics(
        **facts,
        weight_percentiles=_percentiles(weight),
        block_reward=[float(b.mean()) if len(b) else None for b in _blocks(y[joined])],
        block_weight=[float(b.mean()) for b in _blocks(weight) if len(b)],
        arms=[_arm_check(rows, table, y, a) for a in range(len(rows.arms))],
        warnings=_warnings(facts),
        refusals=_refusals(facts, rows, weight, joined),
    )


def _refusals(facts: dict[str, Any], rows: LoggedEvents, weight: F64, joined: Bool) -> list[str]:
    """Why no number may be given, in words that say the way out."""
    n = len(rows)
    if not n or not facts["joined"]:
        return ["no row of the log has both a decision that was not degraded and a reward"]
    missing = int(np.isnan(rows.propensity).sum())
    if missing:
        return [f"{missing} of {n} rows carry no propensity: log the probability of each drawn arm"]
    reasons = []
    if facts["unsupported"] > UNSUPPORTED:
        arms = ", ".join(facts["unsupported_arms"])
        reasons.append(f"no overlap: {facts['unsupported']:.1%} of the target's plays go to arms never served: {arms}")
    if not weight[joined].any():
        return reasons or ["no overlap: the target policy never plays what was served and has a reward"]
    deterministic = bool((rows.propensity > 1 - 1e-9).all()) and not np.allclose(weight, 1.0)
    if deterministic:
        return [
            f"deterministic logging: every propensity is 1 and the target agrees in {weight.mean():.1%} of the rows; "
            "no log without randomisation can tell what the other arms would have earned"
        ]
    if facts["weight_p"] < WRONG_P and abs(facts["weight_mean"] - 1) > WRONG_MEAN:
        reasons.append(
            f"the weights' mean is {facts['weight_mean']:.3f} where 1 is required (z {facts['weight_z']:.1f}): "
            "the propensities are wrong, or 0 where the target plays"
        )
    return reasons


def _warnings(facts: dict[str, Any]) -> list[str]:
    rules = [
        (facts["ess"] < 30, f"effective sample size {facts['ess']:.1f} of {facts['rows']} rows: intervals are wide"),
        (facts["joined"] < 1, f"rewards joined for {facts['joined']:.1%} of the rows: assumes the rest is alike"),
        (facts["degraded"] > 0, f"{facts['degraded']} degraded rows left out"),
        (0 < facts["unsupported"] <= UNSUPPORTED, f"{facts['unsupported']:.2%} of the target's plays have no support"),
        (facts["weight_p"] < 0.001, f"the weights' mean {facts['weight_mean']:.3f} differs from 1"),
        ((facts["ratio_p"] or 1) < 0.001, "sample-ratio mismatch: traffic does not follow the logged probabilities"),
        (
            (facts["drift_p"] or 1) < 0.001,
            "the reward drifts over the log: a mean over time, not a level, is estimated",
        ),
    ]
    return [text for holds, text in rules if holds]


def not_randomised(log: LoggedEvents) -> str | None:
    """Why no policy but the logging one can be valued on any of this log, or None."""
    p = log.propensity[~log.degraded]
    if np.isnan(p).all():
        return "no drawn row carries a propensity: log the probability of each drawn arm"
    if bool((p[~np.isnan(p)] > 1 - 1e-9).all()):
        return "every propensity is 1: no log without randomisation can tell what another arm would have earned"
    return None


def out_of_range(log: LoggedEvents, columns: Mapping[str, str]) -> list[str]:
    """Channels with a declared range whose values leave it, with the option that rescales them.

    Args:
        columns: the column map in use, for the name to put in the option.
    """
    notes = []
    for name in log.metered():
        y, (least, most) = log.channel(name), DECLARED[name].range
        low, high = float(np.nanmin(y)), float(np.nanmax(y))
        if low >= least and high <= most:
            continue
        note = f"{name} lies in {low:g}..{high:g}, outside {least:g}..{most:g}: declare --bound {name}={low:g}:{high:g}"
        if low >= 0 and most < LARGEST:
            top = next((t for t in (5, 10, 100) if high <= t), math.ceil(high))
            column = columns.get(name, name)
            given = f"({column})" if re.search(r"[-+*/%:]", column) else column
            note += f" for replay, or rescale with --columns {name}={given}/{top}"
        notes.append(note)
    return notes


def never_metered(utility: Utility, metered: Container[str]) -> list[str]:
    """Why there is no utility at all, where it prices channels that no row has."""
    names = [name for name in COSTS if utility.priced(name) and name not in metered]
    return (
        [f"no row has {', '.join(names)}, which the utility prices: meter it, or leave out its price"] if names else []
    )


def _never_served(log: LoggedEvents) -> Bool:
    """Mask of the arms that were eligible somewhere and served nowhere."""
    offered = True if log.eligible is None else log.eligible.any(axis=0)
    return np.asarray((np.bincount(log.arm, minlength=len(log.arms)) == 0) & offered)


def _mean_test(values: F64, expected: float) -> tuple[float, float]:
    """The mean, and how many standard errors it is from `expected`."""
    if not len(values):
        return 0.0, 0.0
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(len(values))
    if abs(mean - expected) < ROUNDING:  # propensities in float32
        return mean, 0.0
    return mean, (mean - expected) / error if error > 1e-12 else math.inf


def _percentiles(weight: F64) -> dict[str, float]:
    levels = (50, 90, 99, 99.9)
    return {f"{level:g}": float(np.percentile(weight, level)) for level in levels} if len(weight) else {}


def _blocks(values: F64) -> list[F64]:
    return np.array_split(values, BLOCKS)


def _ratio_test(log: LoggedEvents) -> float | None:
    """Chi-square p value of the arms' counts against the logged distribution; uniform logs imply it."""
    k = len(log.arms)
    offered = np.full(len(log), k) if log.eligible is None else log.eligible.sum(axis=1)
    if log.probabilities is not None:
        expected = log.probabilities.sum(axis=0)
    elif not len(log) or not np.allclose(log.propensity * offered, 1.0):
        return None
    elif log.eligible is None:
        expected = np.full(k, len(log) / k)
    else:
        expected = (log.eligible / offered[:, None]).sum(axis=0)
    counts = np.bincount(log.arm, minlength=len(expected))
    used = expected > 0
    statistic = float(((counts - expected)[used] ** 2 / expected[used]).sum())
    return float(chdtrc(max(1, used.sum() - 1), statistic))


def _drift_test(y: F64) -> float | None:
    """Chi-square p value that ten consecutive parts share one mean; None for a constant or short log."""
    if len(y) < 20 * BLOCKS or not y.std() > 0:
        return None
    means = np.array([block.mean() for block in _blocks(y)])
    sizes = np.array([len(block) for block in _blocks(y)])
    statistic = float((sizes * (means - y.mean()) ** 2).sum() / y.var())
    return float(chdtrc(BLOCKS - 1, statistic))


def _arm_check(log: LoggedEvents, target: F64, reward: F64, arm: int) -> ArmCheck:
    served = log.arm == arm
    eligible = slice(None) if log.eligible is None else log.eligible[:, arm]
    plays, joined = int(served.sum()), served & ~np.isnan(reward)
    inverse = np.where(served, 1.0 / log.propensity, 0.0)[eligible]
    calibration, z = _mean_test(inverse, 1.0)
    known = plays > 0 and math.isfinite(calibration)
    return ArmCheck(
        arm=log.arms[arm],
        plays=plays,
        share=plays / len(log) if len(log) else 0.0,
        target_share=float(target[:, arm].mean()) if len(log) else 0.0,
        joined=float(joined.sum() / plays) if plays else 0.0,
        mean_reward=float(reward[joined].mean()) if joined.any() else None,
        calibration=calibration if known else None,
        calibration_z=z if known and math.isfinite(z) else None,
    )
