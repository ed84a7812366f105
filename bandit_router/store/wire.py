"""Records as bytes: MessagePack arrays with a version, floats and arrays by their exact bits."""

from __future__ import annotations

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.records.booking import Booking
from bandit_router.records.decisions import Decision, Mode
from bandit_router.settling.rules import Reward


class _Decision(msgspec.Struct, array_like=True, frozen=True, tag="d1", forbid_unknown_fields=True):
    """A decision with its arrays as little-endian bytes; the field order is the format."""

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


class _Reward(msgspec.Struct, array_like=True, frozen=True, tag="r1", forbid_unknown_fields=True):
    """A reward."""

    reward: Reward


def _plain(value: object) -> object:
    """NumPy numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a number, got {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder(_Decision | _Reward)


def encode_decision(decision: Decision) -> bytes:
    """A decision as bytes."""
    p, mask, cost = decision.probabilities, decision.eligible, decision.penalty
    return _encoder.encode(
        _Decision(
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
        )
    )


def encode_reward(reward: Reward) -> bytes:
    """A reward as bytes."""
    return _encoder.encode(_Reward(reward))


def encode_struct(struct: msgspec.Struct) -> bytes:
    """Any other record as bytes."""
    return _encoder.encode(struct)


def decode(data: bytes) -> Decision | Reward:
    """What `encode_decision` or `encode_reward` made. Raises msgspec.DecodeError for anything else."""
    record = _decoder.decode(data)
    if isinstance(record, _Reward):
        return record.reward
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    fields["context"] = _floats(record.context)
    fields["probabilities"] = _floats(record.probabilities)
    fields["penalty"] = _floats(record.penalty)
    fields["eligible"] = _mask(record.eligible)
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
