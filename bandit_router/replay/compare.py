"""Target against baseline on a log: both by name, values, slices, a gate, in one document."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.declared import named as named_choice
from bandit_router.errors import InvalidInput
from bandit_router.policies import Policy, build
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.diagnostics import never_metered
from bandit_router.replay.document import Document, LogFacts
from bandit_router.replay.estimators.intervals import Interval
from bandit_router.replay.evaluate import DEFAULT_ESTIMATORS, Evaluation, evaluate
from bandit_router.replay.gate import INTERVALS, IntervalKind, judge, parse_gate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted
from bandit_router.replay.paired import differences
from bandit_router.replay.targets import Learning, follow, frozen, named, one_arm, uniform
from bandit_router.store.saved import load_state

MOST_SLICES = 20
LOGGING = "logging policy"


class Target(NamedTuple):
    """A target policy on a log: probabilities, the rows a learning one took for its own, and how it learned."""

    name: str
    table: F64
    kept: Bool | None
    learning: str
    notes: tuple[str, ...] = ()


def is_fixed(text: str) -> bool:
    """Whether `text` names a target that does not learn: an arm, uniform, or a saved state."""
    return named(text).kind != "policy"


def make_target(
    text: str,
    log: LoggedEvents,
    *,
    utility: Utility | None = None,
    settings: Mapping[str, Any] | None = None,
    learning: Learning = "accepted",
    seed: int = 0,
    key: bytes | None = None,
) -> Target:
    """The target that `text` names.

    Args:
        text: "arm=ID"; "uniform"; the path of a saved state (see `save_state`), which stays frozen; or the name of a
            policy, which starts untrained and learns along the log.
        key: secret that a saved state was signed with.
        settings: constructor arguments of a named policy.
        learning: from which rows it learns, see `follow`.

    Raises:
        InvalidInput: no such policy, arm or file; a saved state that does not fit, see `frozen`.
    """
    kind, name = named(text)
    if kind == "arm":
        return Target(text, one_arm(log, name), None, "fixed")
    if kind == "uniform":
        return Target(name, uniform(log), None, "fixed")
    if kind == "state":
        saved = load_state(Path(name), key=key)
        table, notes = frozen(saved.policy, saved.arms, saved.channels, log, utility=utility)
        return Target(text, table, None, "frozen state", tuple(notes))
    policy = make_policy(text, log, settings or {})
    table, kept = follow(policy, log, utility=utility, learning=learning, seed=seed)
    own = kept if learning == "accepted" else None
    return Target(text, table, own, f"learned from {learning} rows")


def make_policy(name: str, log: LoggedEvents, settings: Mapping[str, Any]) -> Policy:
    """An untrained policy for the log's arms and features. Raises InvalidInput for settings it does not take."""
    return build(name, settings, n_arms=len(log.arms), dim=len(log.features), channels=len(CHANNELS))


def compare(
    log: LoggedEvents,
    target: Target,
    *,
    baseline: Target | None = None,
    utility: Utility | None = None,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    bounds: Mapping[str, Interval] | None = None,
    alpha: float = 0.05,
    gate: str | None = None,
    slices: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    modes: Sequence[str] | None = None,
    interval: IntervalKind = "anytime",
) -> dict[str, Any]:
    """Everything `bandit-router replay` reports, as one JSON-ready document, see `Document`.

    Args:
        baseline: what the target is compared with; default the logging policy itself. Differences are paired.
        gate: for instance "utility > baseline", "latency_s < baseline + 0.1", "quality > 0.7".
        slices: features of the log, or "policy" or "mode": the value is also given for each of their values.
        interval: of the differences and the gate. "anytime" holds whenever the log is looked at, "fixed" is narrower,
            for a log that is looked at once.
        others: see `evaluate`.

    Raises:
        InvalidInput: see `evaluate`; a gate that cannot be read; an unknown slice.
    """
    condition = None if gate is None else parse_gate(gate)
    named_choice("interval", interval, dict.fromkeys(INTERVALS))
    shared: dict[str, Any] = {"utility": utility, "bounds": bounds, "modes": modes}
    options = {**shared, "alpha": alpha, "estimators": estimators, "groups": groups}
    result, other = evaluate(log, target.table, kept=target.kept, **options), None
    if baseline is not None and result.answered:
        other = evaluate(log, baseline.table, kept=baseline.kept, **options)
    apart: dict[str, Interval | None] = {
        name: metric.difference if interval == "anytime" else metric.difference_normal
        for name, metric in result.metrics.items()
    }
    if baseline is not None:
        both = result.metrics.keys() & (other.metrics.keys() if other is not None else ())
        found = differences(log, target.table, baseline.table, alpha=alpha, interval=interval, **shared) if both else {}
        apart = {name: found.get(name) if name in both else None for name in result.metrics}
    document = Document(
        policy=target.name,
        learning=target.learning,
        own_history=None if target.kept is None else int(target.kept.sum()),
        baseline=LOGGING if baseline is None else baseline.name,
        log=describe(log),
        answered=result.answered and (other is None or other.answered),
        refusals=refusals(log, result, utility) + ([] if other is None else other.diagnostics.refusals),
        alpha=alpha,
        interval=interval,
        utility=utility or Utility(),
        metrics=dict(result.metrics),
        baseline_metrics=None if other is None else dict(other.metrics),
        differences=apart,
        diagnostics=result.diagnostics,
        left_out=len(log) - result.diagnostics.rows,
        unjoined={name: result.diagnostics.rows - metric.n for name, metric in result.metrics.items()},
        slices={name: _slices(log, target, name, alpha, shared) for name in slices} if result.answered else {},
        assumptions=[*target.notes, *(() if baseline is None else baseline.notes)],
    ).built()
    if condition is not None:
        document["gate"] = judge(gate or "", condition, document)
    return document


def refusals(log: LoggedEvents, result: Evaluation, utility: Utility | None) -> list[str]:
    """Why the log cannot answer, the cause before its consequence; empty when it can."""
    if result.answered:
        return []
    return never_metered(utility or Utility(), log.metered()) or result.diagnostics.refusals


def describe(log: LoggedEvents) -> LogFacts:
    """What log it was: sizes, time span, arms, policies, modes, and a hash of decisions and outcomes."""
    digest = hashlib.sha256()
    for column in (log.arm, log.propensity, log.outcomes, log.contexts):
        digest.update(np.ascontiguousarray(column).tobytes())
    times = log.timestamp_s[~np.isnan(log.timestamp_s)]
    return LogFacts(
        rows=len(log),
        arms=list(log.arms),
        features=len(log.features),
        span_s=float(np.ptp(times)) if len(times) else None,
        policies=sorted(set(log.policy.tolist())),
        modes=sorted(set(log.mode.tolist())),
        sha256=digest.hexdigest(),
    )


# -- slices --------------------------------------------------------------------------------------------------------


def _slices(
    log: LoggedEvents, target: Target, name: str, alpha: float, shared: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The doubly robust value in every group of rows that shares one value of a column."""
    if name in ("policy", "mode"):
        column: Any = getattr(log, name)
    elif name in log.features:
        column = log.contexts[:, log.features.index(name)]
    else:
        raise InvalidInput(f"unknown slice {name!r}; there are policy, mode, {', '.join(log.features)}")
    modes = shared["modes"]
    inside_mode = name == "mode" and modes is None  # each mode by itself, also those that do not count together
    rows_that_count = np.ones(len(log), dtype=np.bool_) if inside_mode else counted(log, modes)[0]
    values = sorted(set(column[rows_that_count].tolist()))
    if len(values) > MOST_SLICES:
        raise InvalidInput(f"{name} has {len(values)} values, more than {MOST_SLICES}; slice by a label")
    rows = []
    for value in values:
        inside = np.asarray(column == value) & rows_that_count
        part = log.take(inside)
        chosen = {**shared, "modes": modes and sorted(set(part.mode.tolist()))}
        result = evaluate(part, target.table[inside], estimators=("dr",), alpha=alpha, **chosen)
        row: dict[str, Any] = {"value": value, "rows": int(inside.sum()), "ess": result.diagnostics.ess}
        if result.answered:
            metric = result.metrics["utility"]
            row |= {"logged": metric.logged, "dr": metric.estimates["dr"].value, "anytime": None}
            row |= {"normal": metric.estimates["dr"].intervals["normal"]}
            row["anytime"] = next(iter(metric.anytime.values()), None)
        else:
            row["refusals"] = result.diagnostics.refusals
        rows.append(row)
    return rows
