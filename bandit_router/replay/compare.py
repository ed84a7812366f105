"""Target against baseline on a log: both by name, values, slices, a gate, in one document."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies import Policy, build
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.diagnostics import never_metered
from bandit_router.replay.estimators.intervals import Interval
from bandit_router.replay.evaluate import DEFAULT_ESTIMATORS, Evaluation, evaluate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.targets import Learning, follow, frozen, named, one_arm, uniform
from bandit_router.store.saved import load_state

MOST_SLICES = 20
_GATE = re.compile(r"^\s*(\w+)\s*([<>])\s*(baseline|[-+\d.eE]+)\s*(?:([-+])\s*([\d.eE]+))?\s*$")


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
) -> dict[str, Any]:
    """Everything `bandit-router replay` reports, as one JSON-ready document.

    Args:
        baseline: what the target is compared with; default the logging policy itself. Against another policy both
            values get alpha / 2 and the difference is the union bound.
        gate: for instance "utility > baseline", "latency_s < baseline + 0.1", "quality > 0.7".
        slices: features of the log, or "policy" or "mode": the value is also given for each of their values.
        others: see `evaluate`.

    Raises:
        InvalidInput: see `evaluate`; a gate that cannot be read; an unknown slice.
    """
    condition = None if gate is None else parse_gate(gate)
    shared: dict[str, Any] = {"utility": utility, "bounds": bounds, "modes": modes}
    options = {**shared, "estimators": estimators, "groups": groups}
    result = evaluate(log, target.table, alpha=alpha, kept=target.kept, **options)
    other = None
    if baseline is not None and result.answered:
        other = evaluate(log, baseline.table, alpha=alpha / 2, kept=baseline.kept, **options)
        halved = evaluate(log, target.table, alpha=alpha / 2, kept=target.kept, **options)
        differences = _apart(halved, other)
    else:
        differences = {name: metric.difference for name, metric in result.metrics.items()}
    document = {
        "policy": target.name,
        "learning": target.learning,
        "own_history": None if target.kept is None else int(target.kept.sum()),
        "baseline": "logging policy" if baseline is None else baseline.name,
        "log": describe(log),
        "answered": result.answered and (other is None or other.answered),
        "refusals": refusals(log, result, utility) + ([] if other is None else other.diagnostics.refusals),
        "alpha": alpha,
        "utility": msgspec.to_builtins(utility or Utility()),
        "metrics": msgspec.to_builtins(result.metrics),
        "baseline_metrics": None if other is None else msgspec.to_builtins(other.metrics),
        "differences": differences,
        "diagnostics": msgspec.to_builtins(result.diagnostics),
        "slices": {name: _slices(log, target, name, alpha, shared) for name in slices} if result.answered else {},
        "gate": None,
        "assumptions": [*target.notes, *(() if baseline is None else baseline.notes)],
    }
    if condition is not None:
        document["gate"] = judge(gate or "", condition, document)
    return document


def refusals(log: LoggedEvents, result: Evaluation, utility: Utility | None) -> list[str]:
    """Why the log cannot answer, the cause before its consequence; empty when it can."""
    if result.answered:
        return []
    return never_metered(utility or Utility(), log.metered()) or result.diagnostics.refusals


def describe(log: LoggedEvents) -> dict[str, Any]:
    """What log it was: sizes, time span, arms, policies, modes, and a hash of decisions and outcomes."""
    digest = hashlib.sha256()
    for column in (log.arm, log.propensity, log.outcomes, log.contexts):
        digest.update(np.ascontiguousarray(column).tobytes())
    times = log.timestamp_s[~np.isnan(log.timestamp_s)]
    return {
        "rows": len(log),
        "arms": list(log.arms),
        "features": len(log.features),
        "span_s": float(np.ptp(times)) if len(times) else None,
        "policies": sorted(set(log.policy.tolist())),
        "modes": sorted(set(log.mode.tolist())),
        "sha256": digest.hexdigest(),
    }


def _apart(target: Evaluation, baseline: Evaluation) -> dict[str, Interval | None]:
    """Intervals of value minus baseline value, from an interval each at half the alpha."""
    differences: dict[str, Interval | None] = {}
    for name, metric in target.metrics.items():
        other = baseline.metrics.get(name)
        ends = [next(iter(m.anytime.values()), None) for m in (metric, other) if m is not None]
        known = [end for end in ends if end is not None]
        apart = (known[0][0] - known[1][1], known[0][1] - known[1][0]) if len(known) == 2 else None
        differences[name] = apart
    return differences


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
    values = sorted(set(column.tolist()))
    if len(values) > MOST_SLICES:
        raise InvalidInput(f"{name} has {len(values)} values, more than {MOST_SLICES}; slice by a label")
    rows = []
    for value in values:
        inside = np.asarray(column == value)
        result = evaluate(log.take(inside), target.table[inside], estimators=("dr",), alpha=alpha, **shared)
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


# -- the gate ------------------------------------------------------------------------------------------------------


class Condition(NamedTuple):
    """What a gate asks of one metric's interval; level None means the baseline's value."""

    metric: str
    above: bool
    level: float | None
    margin: float


def parse_gate(text: str) -> Condition:
    """A condition from "METRIC > baseline", "METRIC < baseline + 0.1" or "METRIC > 0.7".

    Example:
        >>> parse_gate("latency_s < baseline + 0.1").margin
        0.1
    """
    match = _GATE.match(text)
    if not match or match[1] not in ("utility", "reward", *CHANNELS):
        raise InvalidInput(f"expected a gate such as 'utility > baseline' or 'latency_s < 2.5', got {text!r}")
    try:
        level = None if match[3] == "baseline" else float(match[3])
        margin = 0.0 if match[5] is None else float(match[4] + match[5])
    except ValueError:
        raise InvalidInput(f"expected a number in the gate {text!r}") from None
    return Condition(match[1], match[2] == ">", level, margin)


def judge(text: str, condition: Condition, document: Mapping[str, Any]) -> dict[str, Any]:
    """The gate passes when the whole interval is on the right side; without an interval it does not."""
    metric = document["metrics"].get(condition.metric)
    interval, goal = None, condition.margin + (condition.level or 0.0)
    if metric is not None and document["answered"]:
        anytime = next(iter(metric["anytime"].values()), None)
        interval = document["differences"][condition.metric] if condition.level is None else anytime
    if interval is None:
        return {"condition": text, "bound": None, "passed": False}
    bound = interval[0] if condition.above else interval[1]
    return {"condition": text, "bound": bound, "passed": bool(bound > goal if condition.above else bound < goal)}
