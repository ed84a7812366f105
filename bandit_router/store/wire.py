"""Records as bytes: MessagePack arrays with a version, floats and arrays by their exact bits."""

from __future__ import annotations

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.records.booking import Booking
from bandit_router.records.decisions import Decision, Mode
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.rules import Reward


class _Decision(msgspec.Struct, array_like=True, frozen=True, tag="d1", forbid_unknown_fields=True):
    """A decision with its arrays as little-endian bytes.

    The order of the fields is the format: a new one comes last and has a default, so that older records can be read.
    """

    event_id: str
    arm: str
    arm_index: int
    propensity: float
    probabilities: bytes | None
    context: bytes
    eligible: bytes | None
    penalty: bytes | None
    timestamp_s: float
    policy: str
    state_version: int
    degraded: bool
    mode: Mode
    proposed: str | None
    booking: Booking | None = None
    tenant: str | None = None
    unit: str | None = None
    resident: bytes | None = None
    unhealthy: bytes | None = None


_FLOATS, _MASKS = ("context", "probabilities", "penalty"), ("eligible", "resident", "unhealthy")


class _Reward(msgspec.Struct, array_like=True, frozen=True, tag="r1", forbid_unknown_fields=True):
    """A reward."""

    reward: Reward


def _plain(value: object) -> object:
    """NumPy numbers as Python's."""
    if isinstance(value, np.floating):
        return float(value)  # of a long double, `item` is one again
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a number, got {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder(_Decision | _Reward)


def encode_decision(decision: Decision) -> bytes:
    """A decision as bytes."""
    p, cost, mask, near = decision.probabilities, decision.penalty, decision.eligible, decision.resident
    shut = decision.unhealthy
    record = _Decision(  # by place, which is ten times as fast; a test holds the order
        decision.event_id,
        decision.arm,
        decision.arm_index,
        decision.propensity,
        None if p is None else p.tobytes(),
        decision.context.tobytes(),
        None if mask is None else mask.tobytes(),
        None if cost is None else cost.tobytes(),
        decision.timestamp_s,
        decision.policy,
        decision.state_version,
        decision.degraded,
        decision.mode,
        decision.proposed,
        decision.booking,
        decision.tenant,
        decision.unit,
        None if near is None else near.tobytes(),
        None if shut is None else shut.tobytes(),
    )
    return _encoder.encode(record)


def encode_reward(reward: Reward) -> bytes:
    """A reward as bytes."""
    return _encoder.encode(_Reward(reward))


def encode_struct(struct: msgspec.Struct) -> bytes:
    """Any other record as bytes."""
    return _encoder.encode(struct)


def encode_values(values: object) -> bytes:
    """Plain values as bytes."""
    return _encoder.encode(values)


def amounts(outcome: Outcome) -> dict[str, float]:
    """The metered channels of an outcome, which is all that has to be kept of it."""
    return {name: getattr(outcome, name) for name in outcome.metered()}


def decode(data: bytes) -> Decision | Reward:
    """What `encode_decision` or `encode_reward` made. Raises msgspec.DecodeError for anything else."""
    record = _decoder.decode(data)
    if isinstance(record, _Reward):
        return record.reward
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    fields.update({name: _floats(fields[name]) for name in _FLOATS})
    fields.update({name: _mask(fields[name]) for name in _MASKS})
    return Decision(**fields)


def decode_decision(data: bytes) -> Decision:
    """A decision; raises msgspec.DecodeError when the bytes are something else."""
    decision = decode(data)
    if not isinstance(decision, Decision):
        raise msgspec.DecodeError("expected a decision, got a reward")
    return decision


def readable(data: bytes) -> Decision | None:
    """A decision, None when its bytes are damaged."""
    try:
        return decode_decision(data)
    except (msgspec.DecodeError, ValueError):
        return None


def decode_reward(data: bytes) -> Reward:
    """A reward; raises msgspec.DecodeError when the bytes are something else."""
    reward = decode(data)
    if not isinstance(reward, Reward):
        raise msgspec.DecodeError("expected a reward, got a decision")
    return reward


def _floats(data: bytes | None) -> F64 | None:
    if data is not None and len(data) % 8:
        raise msgspec.DecodeError(f"expected a multiple of 8 bytes, got {len(data)}")
    return None if data is None else np.frombuffer(data, dtype="<f8").astype(np.float64)


def _mask(data: bytes | None) -> Bool | None:
    return None if data is None else np.frombuffer(data, dtype=np.bool_).copy()
