"""What an operator takes out of what was learned, or puts back: by event, or all that one source has reported.

The log stays; only whether its entries teach changes. Then every policy is learned anew from the log, exactly as if it
had been so from the beginning, and the result is appended to the log, so that routers that run take it over like an
import. An earlier correction's result is no longer the truth then and only holds its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.learner import Learner, Restored
from bandit_router.settling.rules import Settled
from bandit_router.store.entries import CORRECTED, LOST, row_entry, row_sum
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import decisions, deltas, log, quarantine, rewards, snapshots
from bandit_router.store.wire import decode_reward

_PAGE = 500
_TEACHES = ("rewarded", "default", "suspect")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A reward that did not count, or a suspect outcome: why, when, and what it says; None where it cannot be read."""

    event_id: str
    reason: str
    at_s: float
    outcome: Outcome | None
    source: str | None = None


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """A correction: how many log entries it changed, and the log position of the result for the last policy."""

    changed: int
    position: int


def held(ledger: Ledger) -> list[Held]:
    """What is in quarantine: suspect outcomes in order of the log, then refused rewards in order of arrival."""
    with ledger.engine.connect() as connection:
        kept = connection.execute(select(quarantine).order_by(quarantine.c.id)).all()
        known = {row.event_id for row in kept if row.reason == "suspect"}
        found = [
            Held(event_id=e.decision.event_id, reason=e.status, at_s=e.decision.timestamp_s, outcome=e.outcome)
            for e in _entries(connection, (log.c.kind == "settled") & ~log.c.learned)
            if e.status == "suspect" and e.decision.event_id not in known
        ]
        return found + [_refused(row) for row in kept]


def _refused(row: Any) -> Held:
    try:
        reward = decode_reward(row.reward)
    except (msgspec.DecodeError, ValueError):
        return Held(event_id=row.event_id, reason=row.reason, at_s=row.at_s, outcome=None)
    return Held(event_id=row.event_id, reason=row.reason, at_s=row.at_s, outcome=reward.outcome, source=reward.source)


def reported_by(ledger: Ledger, source: str) -> list[str]:
    """The events that a source has had a reward counted for."""
    with ledger.engine.connect() as connection:
        found = select(rewards.c.event_id).where(rewards.c.source == source).distinct()
        return sorted(connection.execute(found).scalars())


def correct(
    ledger: Ledger, ids: Sequence[str], *, learn: bool, begin: int, fold: Callable[[], Sequence[Learner]]
) -> Corrected:
    """Let the settled entries of these events teach, or no longer; see above.

    Args:
        ledger: the database. ids: the events. learn: whether they teach from now on.
        begin: position of the oldest state that all policies can be learned anew from. fold: learns them anew.

    Raises:
        InvalidInput: an event is not settled, or is older than the state that a policy can be learned anew from; an
            entry cannot teach (expired, diverted, ...); the replicas share by deltas. Nothing has changed then.
    """
    with ledger.writing() as (connection, _):
        if connection.execute(select(deltas.c.replica).limit(1)).first() is not None:
            raise InvalidInput("replicas share this store by deltas, which cannot be taken back; start a new store")
        entries = [e for page in _pages(ids) for e in _entries(connection, log.c.event_id.in_(page))]
        _check(ids, entries, learn=learn, begin=begin)
        changed = [entry for entry in entries if entry.learned != learn]
        for entry in changed:
            _mark(connection, entry.position, learn)
        if changed:
            connection.execute(update(log).where(log.c.kind == CORRECTED).values(kind=LOST))
            first = min(entry.position for entry in changed)
            connection.execute(delete(snapshots).where(snapshots.c.position >= first))
        if learn:
            for page in _pages(ids):
                mine = quarantine.c.event_id.in_(page) & (quarantine.c.reason == "suspect")
                connection.execute(delete(quarantine).where(mine))
    return Corrected(changed=len(changed), position=_append(ledger, fold()))


def _check(ids: Sequence[str], entries: Sequence[Settled], *, learn: bool, begin: int) -> None:
    missing = set(ids) - {entry.decision.event_id for entry in entries}
    if missing:
        raise InvalidInput(f"{len(missing)} events are not in the log, for instance {min(missing)!r}; nothing changed")
    for entry in entries:
        if entry.position <= begin:
            raise InvalidInput(
                f"event {entry.decision.event_id!r} is at {entry.position}, before the oldest state that is kept, at "
                f"{begin}, which has learned from it; import a state from before, or start a new store"
            )
        if learn and not (entry.status in _TEACHES and entry.reward is not None and entry.decision.learnable):
            raise InvalidInput(f"event {entry.decision.event_id!r} teaches nothing: its status is {entry.status}")


def _append(ledger: Ledger, learners: Sequence[Learner]) -> int:
    """Append what has been learned; others may write meanwhile, and what they did is learned first."""
    while True:
        with ledger.writing() as (_, end):
            if all(learner.position == end.position for learner in learners):
                for learner in learners:
                    state = learner.capture()[1]
                    end.entries.append(Restored(position=end.next, state=state, corrected=True))
                return end.next - 1
            upto = end.position
        for learner in learners:
            while learner.position < upto:
                learner.fold(ledger.read(learner.position, _PAGE))


def _entries(connection: Connection, condition: Any) -> Iterable[Settled]:
    joined = log.join(decisions, decisions.c.event_id == log.c.event_id)
    query = select(log, decisions.c.record, decisions.c.crc.label("record_crc")).select_from(joined)
    for row in connection.execute(query.where(condition).order_by(log.c.position)).all():
        entry = row_entry(row)
        if isinstance(entry, Settled):
            yield entry


def _mark(connection: Connection, position: int, learn: bool) -> None:
    mine = log.c.position == position
    row = connection.execute(select(log).where(mine)).one()
    reward = None if row.reward is None else float(row.reward)
    crc = row_sum(row.position, row.kind, row.event_id, row.replica, learn, reward, bytes(row.body))
    connection.execute(update(log).where(mine).values(learned=learn, crc=crc))


def _pages(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    unique = sorted(set(ids))
    return [unique[start : start + _PAGE] for start in range(0, len(unique), _PAGE)]
