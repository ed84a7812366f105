"""Records of decisions and of what became of them, and the keyed draw."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from bandit_router.outcomes import Outcome
from bandit_router.policies.base import F64, Bool, InvalidInput

Refusal = Literal["unknown", "duplicate", "late", "invalid", "out_of_range", "unmetered", "degraded"]
REFUSALS: tuple[Refusal, ...] = (
    "unknown",
    "duplicate",
    "late",
    "invalid",
    "out_of_range",
    "unmetered",
    "degraded",
)


def event_uniform(key: bytes, event_id: str) -> float:
    """A uniform number in [0, 1) that depends on the key and the event id alone (keyed BLAKE2b, 53 bits).

    Raises InvalidInput for an id that is not a string of valid Unicode, ValueError for a key above 64 bytes.

    Example:
        >>> event_uniform(b"k", "r-1") == event_uniform(b"k", "r-1")
        True
    """
    try:
        name = event_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidInput(f"event_id must be a string of valid Unicode, got {event_id!r}") from None
    digest = hashlib.blake2b(name, key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


class Decision(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One recorded draw.

    Attributes:
        event_id: the caller's id of the request.
        arm: id of the drawn arm. propensity: the exact probability it was drawn with.
        probabilities: the whole distribution, in catalogue order; None when degraded.
        context: the feature vector, shape (dim,). eligible: mask over the catalogue, None for all.
        penalty: known costs at this decision, in utility units, None for none.
        timestamp_s: when, in seconds of the router's clock.
        policy: name of the policy. state_version: outcomes it had learned.
        degraded: the policy failed and the fallback arm was served; such a decision is never learned from.
    """

    event_id: str
    arm: str
    arm_index: int
    propensity: float
    probabilities: F64 | None
    context: F64
    eligible: Bool | None
    penalty: F64 | None
    timestamp_s: float
    policy: str
    state_version: int
    degraded: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one observed outcome.

    Attributes:
        event_id: the request. arm: the arm it was accounted to, None if unknown.
        reward: the utility it settled at; None when refused.
        refused: why it was not learned from, None when it was.
        outcome: as reported.
    """

    event_id: str
    arm: str | None
    reward: float | None
    refused: Refusal | None
    outcome: Outcome
