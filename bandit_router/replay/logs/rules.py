"""When a row of a log cannot be used: every reason once, as a check of one row and of whole columns, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from bandit_router.reading.cells import LATEST
from bandit_router.records.outcomes import CHANNELS, COSTS
from bandit_router.replay.logs.row import Row

if TYPE_CHECKING:
    import polars as pl

EMPTY = "empty event id or arm"
PROPENSITY = "propensity outside (0, 1]"
NOT_ELIGIBLE = "served arm not among the eligible"
CONTEXT = "context not finite"
NUMBERS = "outcome, reward or timestamp not finite"
NEGATIVE = "negative cost"
SENSE = "number beyond any sense"
RANGE = "weight or state_version out of range"
STRANGER = "arm not in the given catalogue"
SPREAD = "probabilities are no distribution over the arms"
LENGTH = "context has another length than the first row's"
TWICE = "duplicate event id"
_FINITE = (*CHANNELS, "reward", "timestamp_s")
_SLACK, HAIR = 1e-3, 1e-6
LARGEST = 1e15
"""No quality, cost, token count, feature or weight is larger; a second of the year 9999 is the last time."""


def of_row(row: Row, *, arms: Set[str] | None = None) -> str | None:
    """Why this row cannot be used, or None; `arms` are those of a given catalogue."""
    return next((reason for reason, broken in _row_rules(row, arms).items() if broken), None)


def _row_rules(row: Row, arms: Set[str] | None) -> dict[str, bool]:
    context = row.context.values() if isinstance(row.context, dict) else row.context
    numbers = [value for name in _FINITE if (value := getattr(row, name)) is not None]
    p = row.probabilities
    return {
        EMPTY: not row.event_id or not row.arm,
        PROPENSITY: row.propensity is not None and not 0 < row.propensity <= 1,
        NOT_ELIGIBLE: row.eligible is not None and row.arm not in row.eligible,
        CONTEXT: not all(map(math.isfinite, context)),
        NUMBERS: not all(map(math.isfinite, numbers)),
        NEGATIVE: any((getattr(row, name) or 0.0) < 0 for name in COSTS),
        SENSE: any(abs(value) > LARGEST for value in (*numbers, *context, row.weight))
        or abs(row.timestamp_s or 0.0) >= LATEST,
        RANGE: not (row.weight > 0 and math.isfinite(row.weight)) or not -1 <= row.state_version < 2**63,
        STRANGER: arms is not None and not named(row) <= arms,
        SPREAD: p is not None
        and (row.arm not in p or not all(value >= 0 for value in p.values()) or abs(sum(p.values()) - 1) > _SLACK),
    }


def named(row: Row) -> set[str]:
    """Every arm id that the row mentions."""
    return {row.arm, *(row.eligible or ()), *(row.resident or ()), *(row.unhealthy or ()), *(row.probabilities or ())}


def of_frame(arms: Sequence[str]) -> pl.Expr:
    """The same of every row of a frame with the columns of `Row`, NaN where a number is unknown; null for a good row.

    `probabilities` are lists over `arms`.
    """
    import polars as pl

    rules = _frame_rules(list(arms))
    return pl.coalesce(pl.when(broken.fill_null(True)).then(pl.lit(reason)) for reason, broken in rules.items())


def _frame_rules(arms: list[str]) -> dict[str, pl.Expr]:
    import polars as pl

    p, eligible, weight = pl.col("propensity"), pl.col("eligible"), pl.col("weight")
    spread, finite = pl.col("probabilities"), pl.element().is_finite().fill_null(False)
    strangers = (
        pl.col(name).list.set_difference(arms).list.len() > 0 for name in ("eligible", "resident", "unhealthy")
    )
    return {
        EMPTY: (pl.col("event_id").fill_null("") == "") | (pl.col("arm").fill_null("") == ""),
        PROPENSITY: p.is_not_nan() & ~weighable(p),
        NOT_ELIGIBLE: eligible.is_not_null() & ~eligible.list.contains(pl.col("arm")),
        CONTEXT: ~pl.col("context").list.eval(finite).list.all(),
        NUMBERS: pl.any_horizontal(pl.col(name).is_infinite() for name in _FINITE),
        NEGATIVE: pl.any_horizontal(pl.col(name) < 0 for name in COSTS),
        SENSE: pl.any_horizontal(
            pl.col(name).fill_nan(None).abs() > LARGEST for name in (*_FINITE, "weight")
        ).fill_null(False)
        | pl.col("context").list.eval(pl.element().abs() > LARGEST).list.any().fill_null(False)
        | (pl.col("timestamp_s").fill_nan(None).abs() >= LATEST).fill_null(False),
        RANGE: ~((weight > 0) & weight.is_finite()) | (pl.col("state_version") < -1),
        STRANGER: pl.any_horizontal(~pl.col("arm").is_in(arms), *strangers).fill_null(False),
        SPREAD: spread.is_not_null()
        & ((spread.list.len() != len(arms)) | (spread.list.min() < 0) | ((spread.list.sum() - 1).abs() > _SLACK)),
    }


def weighable(propensity: pl.Expr) -> pl.Expr:
    """Whether a propensity can weigh a row; one a hair over 1 counts as 1."""
    return (propensity > 0) & (propensity <= 1 + HAIR)


def certain(propensity: float) -> float:
    """A probability that float32 arithmetic left a hair over 1 is 1."""
    return 1.0 if 1.0 < propensity <= 1.0 + HAIR else propensity
