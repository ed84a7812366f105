"""What `bandit-router replay` answers, from a log in memory or from one pass: one document, the same keys."""

from __future__ import annotations

from typing import Any

import msgspec

from bandit_router.replay.estimators.intervals import Interval


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which log it was; what one pass over it cannot tell is None or empty.

    Attributes:
        rows: all of them. arms: ids. features: their number. span_s: from the first to the last decision, seconds.
        policies, modes: names in it. sha256: of decisions and outcomes.
    """

    rows: int
    arms: list[str]
    features: int | None = None
    span_s: float | None = None
    policies: list[str] = []
    modes: list[str] = []
    sha256: str | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one target on one log.

    Attributes:
        policy: the target. learning: from which rows. own_history: how many it took for its own.
        baseline: what it is compared with. interval: kind that differences and the gate rest on.
        left_out: rows that do not count. unjoined: rows that count without the metric, by metric.
        metrics, baseline_metrics: see `Metric`. differences: interval of value minus baseline value, by metric.
        diagnostics: see `Diagnostics`. slices: values by part of the log. assumptions: what the numbers rest on.
    """

    policy: str
    learning: str
    baseline: str
    log: LogFacts
    answered: bool
    refusals: list[str]
    alpha: float
    interval: str
    utility: Any
    metrics: dict[str, Any]
    differences: dict[str, Interval | None]
    diagnostics: Any
    left_out: int
    unjoined: dict[str, int]
    own_history: int | None = None
    baseline_metrics: dict[str, Any] | None = None
    slices: dict[str, list[dict[str, Any]]] = {}
    gate: dict[str, Any] | None = None
    assumptions: list[str] = []

    def built(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain
