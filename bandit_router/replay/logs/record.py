"""One decision as the event log spells it, from a router's decision and from the log in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bandit_router.arrays import Bool
from bandit_router.records.decisions import Decision
from bandit_router.records.failures import FailureKind
from bandit_router.records.outcomes import CHANNELS, Outcome
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.row import COLUMNS, Kind, Row

__all__ = ["Row", "row_of", "rows_of"]


def row_of(
    decision: Decision,
    outcome: Outcome | None,
    *,
    arms: Sequence[str],
    reward: float | None = None,
    failure: FailureKind | None = None,
) -> Row:
    """The record of a router's decision and what became of it; encode it to write the event log line by line.

    `probabilities` is what the served arm was drawn from. Where the baseline served, whatever the policy proposed, that
    is the baseline alone.

    Args:
        decision: from `Router.decide`. outcome: what was observed, None if nothing was.
        arms: the catalogue's ids in its order, also with arms added since; those were not eligible.
        reward: `Settlement.reward`. failure: `Settlement.failure`.

    Example:
        >>> from bandit_router import Arm
        >>> from bandit_router import Router
        >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], context=1, clock=lambda: 0.0)
        >>> decision = router.decide([1.0], event_id="r-1")
        >>> outcome = Outcome(quality=0.9)
        >>> settled = router.observe("r-1", outcome)
        >>> row = row_of(decision, outcome, arms=router.catalogue.ids, reward=settled.reward)
        >>> row.event_id, row.propensity, row.quality
        ('r-1', 0.5, 0.9)
    """
    metered = {} if outcome is None else {name: getattr(outcome, name) for name in CHANNELS}
    return Row(
        event_id=decision.event_id,
        arm=decision.arm,
        context=decision.context.tolist(),
        propensity=decision.propensity,
        timestamp_s=decision.timestamp_s,
        eligible=_eligible(decision, arms),
        probabilities=_drawn_from(decision, arms),
        policy=decision.policy,
        state_version=decision.state_version,
        resident=None if decision.resident is None else _ids(decision.resident, arms),
        unhealthy=None if decision.unhealthy is None else _ids(decision.unhealthy, arms),
        tenant=decision.tenant,
        unit=decision.unit,
        failure=failure,
        **metered,
        reward=reward,
        mode=decision.mode,
        degraded=decision.degraded,
    )


def _eligible(decision: Decision, arms: Sequence[str]) -> list[str] | None:
    """Ids of the arms that were eligible; None for all of `arms`, unless some are known to have been added since."""
    mask, p = decision.eligible, decision.probabilities
    if mask is not None:
        return _ids(mask, arms)
    return None if p is None or len(p) == len(arms) else list(arms[: len(p)])


def _ids(mask: Bool, arms: Sequence[str]) -> list[str]:
    """Ids of the arms in a mask over those that there were then."""
    return [arm for arm, inside in zip(arms[: len(mask)], mask.tolist(), strict=True) if inside]


def _drawn_from(decision: Decision, arms: Sequence[str]) -> dict[str, float] | None:
    """The distribution that the served arm was drawn from, by arm id; None where only its propensity is known."""
    p = decision.probabilities
    if decision.propensity == 1.0:  # also where the policy's own would have drawn another arm
        return {decision.arm: 1.0}
    return None if p is None else dict(zip(arms[: len(p)], p.tolist(), strict=True))


def rows_of(log: LoggedEvents) -> Iterator[Row]:
    """The log row by row; what an exporter of one record per line writes."""
    columns = [_values(log, name, kind) for name, kind in COLUMNS.items()]
    for values in zip(*columns, strict=True):
        yield Row(**dict(zip(COLUMNS, values, strict=True)))


def _values(log: LoggedEvents, name: str, kind: Kind) -> Iterable[Any]:
    """What the rows have in one column."""
    if kind == "arm":
        return (log.arms[i] for i in log.arm)
    if kind == "context":
        return (x.tolist() for x in log.contexts)
    column = log.channel(name) if name in CHANNELS else getattr(log, name)
    if column is None:
        return (None for _ in range(len(log)))
    if kind == "ids":
        arms = np.array(log.arms, dtype=object)
        return (arms[mask].tolist() for mask in column)
    if kind == "distribution":
        return (dict(zip(log.arms, p.tolist(), strict=True)) for p in column)
    if kind == "number":
        return (None if math.isnan(value) else value for value in column.tolist())
    values: list[Any] = column.tolist()
    return values
