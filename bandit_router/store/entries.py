"""Log entries as database rows, and back."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from sqlalchemy import Row

from bandit_router.errors import InvalidInput
from bandit_router.records.failures import FailureKind
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.learner import ArmAdded, Entry, Restored
from bandit_router.settling.rules import Settled, Status
from bandit_router.store import snapshot
from bandit_router.store.wire import amounts, decode_decision, encode_struct, encode_values

COLUMNS = ("position", "kind", "event_id", "replica", "learned", "reward", "body", "crc")
CORRECTED = "corrected"  # the kind of what a correction gave
LOST = "lost"  # the kind of an entry that was found unreadable and given up


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """What the log keeps of a settled decision; the decision itself is in its own table."""

    outcome: Outcome
    status: Status
    failure: FailureKind | None = None


_body = msgspec.msgpack.Decoder(_Body)
_added = msgspec.msgpack.Decoder(ArmAdded)


def entry_row(entry: Entry, replica: str) -> tuple[Any, ...]:
    """The row of an entry, in the order of COLUMNS."""
    if isinstance(entry, Settled):
        told = () if entry.failure is None else (entry.failure,)
        body = encode_values((amounts(entry.outcome), entry.status, *told))
        event_id = entry.decision.event_id
        return _summed(entry.position, "settled", event_id, replica, entry.learned, entry.reward, body)
    if isinstance(entry, ArmAdded):
        return _summed(entry.position, "arm", None, replica, False, None, encode_struct(entry))
    state = snapshot.encode(entry.position, entry.state)
    return _summed(entry.position, CORRECTED if entry.corrected else "restored", None, replica, False, None, state)


def _summed(*values: Any) -> tuple[Any, ...]:
    return (*values, row_sum(*values))


def row_sum(*values: Any) -> int:
    """The CRC-32 of the values of a row, in the order of its columns."""
    return zlib.crc32(encode_values(values))


def _check(row: Row[Any]) -> None:
    reward = None if row.reward is None else float(row.reward)
    values = (row.position, row.kind, row.event_id, row.replica, bool(row.learned), reward, bytes(row.body))
    if row.crc is not None and row.crc != row_sum(*values):
        raise ValueError("its checksum is wrong: the row is damaged")
    whole = row.record is None or row.record_crc in (None, row_sum(row.event_id, bytes(row.record)))
    if not whole:
        raise ValueError("the checksum of its decision is wrong: the row is damaged")


def row_entry(row: Row[Any], *, learn: bool = True) -> Entry:
    """The entry of a row with COLUMNS, and of the decision `record` and `record_crc`; unlearned unless `learn`."""
    try:
        _check(row)
        if row.kind == "settled":
            body = _body.decode(row.body)
            return Settled(
                position=row.position,
                decision=decode_decision(row.record),
                outcome=body.outcome,
                reward=row.reward,
                status=body.status,
                learned=bool(row.learned) and learn,
                failure=body.failure,
            )
        if row.kind == "arm":
            return _added.decode(row.body)
        return Restored(position=row.position, state=snapshot.decode(row.body).state)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        why = "its decision is gone" if row.kind == "settled" and row.record is None else str(error)
        raise InvalidInput(f"log entry {row.position} cannot be read: {why}") from None
