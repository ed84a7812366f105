"""What one decision books in the budgets, and the bill that settles it."""

from __future__ import annotations

import msgspec

from bandit_router.records.outcomes import Outcome


class Part(msgspec.Struct, frozen=True):
    """One request's stake in one account."""

    limit: str
    account: str
    expected: float
    target: float
    held: float
    window: int


class Reprice(msgspec.Struct, frozen=True, array_like=True):
    """A known price change: an arm's amounts on a channel are `factor` times what they were."""

    arm: str
    channel: str
    factor: float


class Booking(msgspec.Struct, frozen=True, array_like=True, tag="b1"):
    """What one decision booked.

    Attributes:
        event_id, arm, at_s: the decision. parts: its stakes.
        reprices: price changes that are in no entry yet; a bill that came in between is folded before them.
        chosen: whether the policy chose the arm; what it did not choose moves no price.
    """

    event_id: str
    arm: str
    at_s: float
    parts: tuple[Part, ...]
    reprices: tuple[Reprice, ...] = ()
    chosen: bool = True


class Bill(msgspec.Struct, frozen=True, array_like=True, tag="s1"):
    """An outcome reported for a decision.

    Attributes:
        event_id, outcome: the report. served_arm: the arm that served in fact, None for the decided one.
        until_s: how long it may wait for its booking; 0 if it may not.
        believed: whether its outcome was valid; the amounts of one that was not are spent, and say nothing of later
            requests.
    """

    event_id: str
    outcome: Outcome
    served_arm: str | None = None
    until_s: float = 0.0
    believed: bool = True
