"""From trajectories to means with confidence intervals, and the results document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bandit_router.arrays import F64
from bandit_router.records.outcomes import COSTS
from bandit_router.simulators.controllers import Hindsight
from bandit_router.simulators.paged import PagedTrajectory, split
from bandit_router.simulators.run import Reference, RoutedTrajectory, Trajectory

LEVEL = 0.95


def interval(values: Sequence[float] | F64) -> dict[str, Any]:
    """Mean and 95 % Student interval over seeds; a single seed has no interval (null).

    Example:
        >>> interval([1.0, 2.0, 3.0])["mean"]
        2.0
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return {"mean": mean, "ci95": None}
    half = float(stdtrit(len(x) - 1, 0.5 + LEVEL / 2) * x.std(ddof=1) / np.sqrt(len(x)))
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def policy_result(
    label: str,
    *,
    default: bool,
    trajectories: Sequence[Trajectory],
    references: Sequence[Reference],
    arms: Sequence[str],
    channels: Sequence[str],
    horizon: int,
) -> dict[str, Any]:
    """One entry of `policies` in the results document; trajectories and references are paired by seed."""
    final = np.array([t.curve[-1] for t in trajectories])
    best = np.array([r.fixed[-1, r.best_fixed] for r in references])
    oracle = np.array([r.oracle[-1] for r in references])
    sums = np.sum([t.outcome_sums for t in trajectories], axis=0)
    counts = np.sum([t.outcome_counts for t in trajectories], axis=0)
    means = {c: float(s / n) if n else None for c, s, n in zip(channels, sums, counts, strict=True)}
    plays = np.sum([t.plays for t in trajectories], axis=0)
    return {
        "policy": label,
        "default": default,
        "utility_mean": interval(final / horizon),
        "regret": {"best_fixed": interval(best - final), "oracle": interval(oracle - final)},
        "quality_mean": means["quality"],
        **{f"{c}_mean": means.get(c) for c in COSTS},
        "arm_share": {arm: float(share) for arm, share in zip(arms, plays / max(plays.sum(), 1.0), strict=True)},
        "events_per_second": len(trajectories) * horizon / max(sum(t.seconds for t in trajectories), 1e-9),
    }


def paging_result(
    trajectories: Sequence[Trajectory], known: Sequence[Hindsight | None], horizon: int
) -> dict[str, Any]:
    """The `paging` of one policy, means over seeds; nothing where nothing pages."""
    pairs = [
        (t, h) for t, h in zip(trajectories, known, strict=True) if isinstance(t, PagedTrajectory) and h is not None
    ]
    if not pairs:
        return {}
    splits = [split(t, h.value) for t, h in pairs]

    def mean(name: str) -> float:
        return float(np.mean([getattr(t.counters, name) for t, _ in pairs]))

    return {
        "paging": {
            "misses": mean("misses"),
            "miss_rate": mean("misses") / horizon,
            "loads": mean("loads"),
            "reloads": mean("reloads"),
            "page_ms_per_request": mean("paged_ms") / horizon,
            "page_mb_per_request": mean("paged_bytes") / horizon / 1e6,
            "regret_static_cache": interval([s.total for s in splits]),
            "regret_by_seed": [float(s.total) for s in splits],
            "routing_regret": float(np.mean([s.routing for s in splits])),
            "cache_regret": float(np.mean([s.cache for s in splits])),
            "reload_cost": float(np.mean([s.reload for s in splits])),
        }
    }


def router_result(trajectories: Sequence[Trajectory], horizon: int) -> dict[str, Any]:
    """The `router` of one policy, means over seeds: what was counted, and of each limit; nothing without a router."""
    runs = [t for t in trajectories if isinstance(t, RoutedTrajectory)]
    if not runs:
        return {}
    names = sorted({name for t in runs for name in t.counted})
    counted = {name: float(np.mean([t.counted.get(name, 0.0) for t in runs])) for name in names}
    rows = [row for t in runs for row in t.limits]
    limits = {
        account: {
            field: _mean_of([row[field] for row in rows if row["account"] == account])
            for field in ("requests", "mean", "committed", "overruns", "shadow_price")
        }
        for account in sorted({row["account"] for row in rows})
    }
    held = counted.get("mode_holdout", 0.0) / horizon
    return {"router": {"holdout_share": held, "counted": counted, "limits": limits}}


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def reference_result(references: Sequence[Reference], arms: Sequence[str], horizon: int) -> dict[str, Any]:
    """The `references` of the results document: best fixed arm over all seeds, oracle, uniform random."""
    fixed = np.mean([r.fixed[-1] for r in references], axis=0) / horizon
    best = int(fixed.argmax())
    return {
        "best_fixed": {"arm": arms[best], "utility_mean": float(fixed[best])},
        "oracle": {"utility_mean": float(np.mean([r.oracle[-1] for r in references]) / horizon)},
        "random": {"utility_mean": float(fixed.mean())},
    }
