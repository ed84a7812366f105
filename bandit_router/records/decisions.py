"""Records of decisions and of what became of them, and the keyed draw."""

from __future__ import annotations

import functools
import hashlib
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.records.booking import Booking
from bandit_router.records.failures import FailureKind
from bandit_router.records.outcomes import Outcome

Refusal = Literal[
    "unknown",
    "duplicate",
    "too_many",
    "settled",
    "late",
    "invalid",
    "out_of_range",
    "degraded",
    "diverted",
    "suspect",
    "unavailable",
]
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)
Mode = Literal["online", "apprentice", "shadow", "off", "holdout", "guarded"]
MAX_ID = 512


def event_uniform(key: bytes, event_id: str) -> float:
    """A uniform number in [0, 1) that depends on the key and the event id alone (keyed BLAKE2b, 53 bits).

    Raises InvalidInput for an id that is not a string of valid Unicode, ValueError for a key above 64 bytes.

    Example:
        >>> event_uniform(b"k", "r-1") == event_uniform(b"k", "r-1")
        True
    """
    keyed = _keyed(key).copy()
    try:
        keyed.update(event_id.encode())
    except (AttributeError, UnicodeEncodeError):
        raise InvalidInput(f"event_id must be a string of valid Unicode, got {event_id!r}") from None
    return (int.from_bytes(keyed.digest(), "big") >> 11) * 2.0**-53


@functools.lru_cache(maxsize=16)
def _keyed(key: bytes) -> hashlib.blake2b:
    """The hash after its key block, which is half of the work."""
    return hashlib.blake2b(key=key, digest_size=8)


def check_id(name: str, value: str) -> None:
    """Raise InvalidInput unless `value` can be an id everywhere: 1 to 512 bytes of UTF-8 without NUL.

    Bytes, because an index of PostgreSQL has to take two of them in 2,700.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or "\0" in value:
        raise InvalidInput(f"{name} must be text of 1 to {MAX_ID} bytes without NUL, got {value!r:.60}")
    if not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidInput(f"{name} is not valid text (a lone surrogate): {value[:40]!r}") from None
        if size > MAX_ID:
            raise InvalidInput(f"{name} must be text of 1 to {MAX_ID} bytes without NUL, got {size} bytes")


_FLOAT64 = np.dtype(np.float64)


def frozen_context(context: ArrayLike) -> F64:
    """A copy of the caller's context that nobody can write to: what was decided on is what is learned from."""
    if type(context) is np.ndarray and context.dtype is _FLOAT64:
        x = context.copy()
        x.setflags(write=False)
        return x
    try:
        given = np.asarray(context)
    except (TypeError, ValueError, OverflowError):
        given = None
    if given is None or given.dtype.kind not in "fiub" or isinstance(context, np.ma.MaskedArray):
        raise InvalidInput(f"context must be an array of real numbers, all of them there, got {context!r:.80}")
    if given.dtype.itemsize <= 8:
        x = given.astype(np.float64)
    else:
        with np.errstate(over="ignore"):  # a long double beyond every float is infinite, and refused as that
            x = given.astype(np.float64)
    x.flags.writeable = False
    return x


class Decision(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):  # no cycles: not worth tracking
    """One recorded draw.

    Attributes:
        event_id: the caller's id of the request.
        arm: id of the drawn arm. propensity: the exact probability it was drawn with.
        probabilities: the policy's whole distribution, in catalogue order; None when it was not asked or failed.
        context: the feature vector, shape (dim,). eligible: mask over the catalogue, None for all.
        penalty: known costs at this decision, in utility units, None for none.
        timestamp_s: when, in seconds of the router's clock.
        policy: name of the policy. state_version: outcomes it had learned.
        degraded: the policy or the store failed and the baseline was served, or the baseline was to serve and could
            not, and another arm did; such a decision is never learned from.
        mode: why this arm: the policy chose it (`online`), or it is the baseline, by the rollout's mode or holdout
            (see `Rollout`), because the guard stepped in (`guarded`), or because the policy may choose none of
            the eligible arms (`off` in an online rollout).
        proposed: id of the arm the policy drew from `probabilities` while the baseline served, else None.
        booking: what the budgets booked for it, None without budgets.
        tenant: whose request it was, for budgets. unit: whom the holdout was drawn by. Both None where not given.
        resident: mask over the catalogue of what was in fast memory, None where not known.
        unhealthy: mask over the catalogue of the arms that their health kept out of this draw, None for no one.
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
    mode: Mode = "online"
    proposed: str | None = None
    booking: Booking | None = None
    tenant: str | None = None
    unit: str | None = None
    resident: Bool | None = None
    unhealthy: Bool | None = None

    @property
    def learnable(self) -> bool:
        """Whether the policy may learn from this decision's outcome."""
        return not self.degraded and self.mode in ("online", "apprentice", "guarded")


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one observed outcome.

    Attributes:
        event_id: the request. arm: the arm it was accounted to, None if unknown.
        reward: the utility it settled at; None when refused or pending.
        refused: why it was not counted, None when it was.
        outcome: as reported.
        failure: the kind of failure it settled as, None for none.
    """

    event_id: str
    arm: str | None
    reward: float | None
    refused: Refusal | None
    outcome: Outcome
    failure: FailureKind | None = None

    @property
    def pending(self) -> bool:
        """Accepted, but its decision is still open: other channels are awaited, or the window has to close first."""
        return self.reward is None and self.refused is None and self.failure is None
