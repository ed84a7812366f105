"""The columns of the event log, and what kind of value each of them holds."""

from __future__ import annotations

from typing import Any, Literal, get_type_hints

import msgspec

from bandit_router.records.outcomes import CHANNELS, Amounts


class Row(Amounts, frozen=True):  # not keyword-only, as the channels are: so they come last in the record
    """One decision as the event log spells it; the JSON Lines format is this record, one per line.

    Its fields are the columns of every other format too: a new one is added here and in `LoggedEvents`.

    `eligible` and `resident` are arm ids, None for all eligible and for residency not logged. `context` is a vector,
    or named features: then the log's features are the sorted names, and absent ones are 0. An empty context is one
    constant feature. `probabilities` is the whole logged distribution by arm id, where it is known. `weight` is how
    many decisions the row stands for, above 1 where the collector dropped some at random. `tenant` is whose request it
    was, `unit` whom the holdout was drawn by. `failure` is how the drawn arm failed, None where it did not.
    `unhealthy` are ids of the arms that their health kept out, None for no one.
    """

    event_id: str
    arm: str
    context: list[float] | dict[str, float] = msgspec.field(default_factory=list)
    propensity: float | None = None
    timestamp_s: float | None = None
    eligible: list[str] | None = None
    probabilities: dict[str, float] | None = None
    policy: str = ""
    state_version: int = -1
    resident: list[str] | None = None
    unhealthy: list[str] | None = None
    tenant: str | None = None
    unit: str | None = None
    failure: str | None = None
    reward: float | None = None
    mode: str = "online"
    degraded: bool = False
    weight: float = 1.0


Kind = Literal["arm", "text", "number", "whole", "flag", "ids", "context", "distribution"]
_KINDS: dict[Any, Kind] = {
    str: "text",
    str | None: "text",
    float: "number",
    float | None: "number",
    int: "whole",
    bool: "flag",
    list[str] | None: "ids",
    list[float] | dict[str, float]: "context",
    dict[str, float] | None: "distribution",
}


def _kinds() -> dict[str, Kind]:
    hints = get_type_hints(Row)
    return {name: "arm" if name == "arm" else _KINDS[hints[name]] for name in Row.__struct_fields__}


COLUMNS: dict[str, Kind] = _kinds()
"""Every column of the event log with the kind of its values, in the order of the record."""


def of_kind(*kinds: Kind) -> tuple[str, ...]:
    """The columns of these kinds but the channels, in order."""
    return tuple(name for name, kind in COLUMNS.items() if kind in kinds and name not in CHANNELS)
