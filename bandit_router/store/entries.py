"""Log entries as database rows, and back."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.learner import ArmAdded, Entry, Restored
from bandit_router.settling.rules import Settled, Status
from bandit_router.store import snapshot
from bandit_router.store.wire import decode_decision, encode_struct

COLUMNS = ("position", "kind", "event_id", "replica", "learned", "reward", "body")
LOST = "lost"  # the kind of an entry that was found unreadable and given up


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """What the log keeps of a settled decision; the decision itself is in its own table."""

    outcome: Outcome
    status: Status


_body = msgspec.msgpack.Decoder(_Body)
_added = msgspec.msgpack.Decoder(ArmAdded)


def entry_row(entry: Entry, replica: str) -> tuple[Any, ...]:
    """The row of an entry, in the order of COLUMNS."""
    if isinstance(entry, Settled):
        body = encode_struct(_Body(entry.outcome, entry.status))
        event_id = entry.decision.event_id
        return (entry.position, "settled", event_id, replica, entry.learned, entry.reward, body)
    if isinstance(entry, ArmAdded):
        return (entry.position, "arm", None, replica, False, None, encode_struct(entry))
    return (entry.position, "restored", None, replica, False, None, snapshot.encode(entry.position, entry.state))


def row_entry(row: Row[Any], *, learn: bool = True) -> Entry:
    """The entry of a row that carries COLUMNS and the decision's `record`; unlearned unless `learn`."""
    try:
        if row.kind == "settled":
            body = _body.decode(row.body)
            return Settled(
                position=row.position,
                decision=decode_decision(row.record),
                outcome=body.outcome,
                reward=row.reward,
                status=body.status,
                learned=bool(row.learned) and learn,
            )
        if row.kind == "arm":
            return _added.decode(row.body)
        return Restored(position=row.position, state=snapshot.decode(row.body).state)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        why = "its decision is gone" if row.kind == "settled" and row.record is None else str(error)
        raise InvalidInput(f"log entry {row.position} cannot be read: {why}") from None
