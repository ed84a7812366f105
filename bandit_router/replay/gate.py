"""A condition on one metric's interval that lets a policy through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.estimators.intervals import Interval

IntervalKind = Literal["anytime", "fixed"]
INTERVALS: tuple[IntervalKind, ...] = ("anytime", "fixed")
_GATE = re.compile(r"^\s*(\w+)\s*([<>])\s*(baseline|[-+\d.eE]+)\s*(?:([-+])\s*([\d.eE]+))?\s*$")


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


def best_estimate(metric: Mapping[str, Any]) -> dict[str, Any]:
    """The estimate to read: doubly robust, else the first."""
    estimates = metric["estimates"]
    found: dict[str, Any] = estimates.get("dr") or next(iter(estimates.values()))
    return found


def value_interval(metric: Mapping[str, Any], kind: IntervalKind) -> Interval | None:
    """The interval of a metric's value in a document, of the kind that was asked for; None where there is none."""
    if kind == "fixed":
        normal: Interval = best_estimate(metric)["intervals"]["normal"]
        return normal
    return next(iter(metric["anytime"].values()), None)


def judge(text: str, condition: Condition, document: Mapping[str, Any]) -> dict[str, Any]:
    """The gate passes when the whole interval is on the right side; without an interval it does not."""
    metric = document["metrics"].get(condition.metric)
    interval, goal = None, condition.margin + (condition.level or 0.0)
    if metric is not None and document["answered"]:
        of_value = condition.level is not None
        interval = (
            value_interval(metric, document["interval"]) if of_value else document["differences"][condition.metric]
        )
    if interval is None:
        return {"condition": text, "bound": None, "passed": False}
    bound = interval[0] if condition.above else interval[1]
    return {"condition": text, "bound": bound, "passed": bool(bound > goal if condition.above else bound < goal)}
