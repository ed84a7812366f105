"""What a store lets go: entries of the log that are old and in a snapshot of every policy, and units to be forgotten.

The log then begins at its `origin` instead of at 0. Folds start from a snapshot at or after it, so the origin only
moves up to where every policy of the store has a snapshot that is whole, or, where replicas share by deltas, up to what
all of them have published.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, select, update

from bandit_router.errors import InvalidInput
from bandit_router.store import snapshot
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import decisions, deltas, early, head, log, quarantine, rewards, snapshots

PAGE = 1000


class Prune:
    """Drops what closed before a moment, page by page, so that nobody waits long for the database's lock.

    Args:
        ledger: the database. before_s: decisions whose windows closed before this go, once they are in a snapshot.
        key: of the snapshots.

    Attributes:
        dropped: rows that have gone, by table.
        held_by: a policy whose newest snapshot has kept the origin from going as far as it could; None for none.
    """

    def __init__(self, ledger: Ledger, before_s: float, *, key: bytes | None) -> None:
        self.ledger, self.before_s, self.key = ledger, before_s, key
        self.dropped: dict[str, int] = {}
        self.held_by: str | None = None

    def begin(self) -> int:
        """Move the origin, and return it."""
        with self.ledger.writing() as (connection, end):
            wanted = self._first_kept(connection, end.position) - 1
            for policy, position in _covered(connection, self.key).items():
                if position < wanted:
                    wanted, self.held_by = position, policy
            moved = update(head).values(origin=wanted).where(head.c.origin < wanted)
            connection.execute(moved)
            origin = int(connection.execute(select(head.c.origin)).scalar_one())
            old = (snapshots.c.position < origin) & (snapshots.c.position > 0)
            self._drop(connection, delete(snapshots).where(old), "snapshots")
        return origin

    def page(self) -> bool:
        """Drop one page of rows; False when nothing was left to drop."""
        with self.ledger.writing() as (connection, _):
            origin = connection.execute(select(head.c.origin)).scalar_one()
            old = select(log.c.position, log.c.event_id).where(log.c.position <= origin)
            rows = connection.execute(old.order_by(log.c.position).limit(PAGE)).all()
            if rows:
                drop_events(connection, [row.event_id for row in rows if row.event_id is not None], self._drop)
                upto = log.c.position <= rows[-1].position
                self._drop(connection, delete(log).where(upto), "log")
            more = bool(rows)
            for table in (quarantine, early):
                stale = select(table.c.id).where(table.c.at_s < self.before_s).limit(PAGE)
                if ids := connection.execute(stale).scalars().all():
                    self._drop(connection, delete(table).where(table.c.id.in_(ids)), table.name)
                    more = True
        return more

    def _first_kept(self, connection: Connection, end: int) -> int:
        """The first position whose decision's window had not closed by then; nothing is unsettled before it."""
        joined = log.join(decisions, decisions.c.event_id == log.c.event_id)
        kept = select(func.min(log.c.position)).select_from(joined).where(decisions.c.closes_s >= self.before_s)
        return int(connection.execute(kept).scalar_one() or end + 1)

    def _drop(self, connection: Connection, statement: object, table: str) -> None:
        count = connection.execute(statement).rowcount  # type: ignore[call-overload]
        self.dropped[table] = self.dropped.get(table, 0) + count


def drop_events(connection: Connection, ids: list[str], drop: Callable[[Connection, object, str], None]) -> None:
    """Drop decisions and what was reported of them."""
    for start in range(0, len(ids), 500):
        these = ids[start : start + 500]
        for table in (decisions, rewards, quarantine, early):
            drop(connection, delete(table).where(table.c.event_id.in_(these)), table.name)


def prune(ledger: Ledger, before_s: float, *, key: bytes | None, pause_s: float = 0.01) -> Prune:
    """All of it at once."""
    if not before_s <= time.time():
        raise InvalidInput(f"before must be in the past, got {before_s}")
    work = Prune(ledger, before_s, key=key)
    work.begin()
    while work.page():
        time.sleep(pause_s)  # others may write
    return work


def forget_unit(ledger: Ledger, unit: str, *, key: bytes | None) -> int:
    """Drop every decision of a unit, and what was reported of them; what was learned from them stays in the sums.

    Returns:
        how many decisions were dropped.

    Raises:
        InvalidInput: a policy has no snapshot that has learned the unit's last entry.
    """
    with ledger.writing() as (connection, _):
        ids = list(connection.execute(select(decisions.c.event_id).where(decisions.c.unit == unit)).scalars())
        theirs = select(func.max(log.c.position)).select_from(
            log.join(decisions, decisions.c.event_id == log.c.event_id)
        )
        last = connection.execute(theirs.where(decisions.c.unit == unit)).scalar_one() or 0
        for policy, position in _covered(connection, key).items():
            if position < last:
                raise InvalidInput(
                    f"the newest snapshot of {policy} is at {position}, and the unit is in the log up to {last}; "
                    "run `bandit-router state rebuild` for it first"
                )
        connection.execute(update(head).values(origin=last).where(head.c.origin < last))
        for start in range(0, len(ids), 500):
            connection.execute(delete(log).where(log.c.event_id.in_(ids[start : start + 500])))
        drop_events(connection, ids, lambda connection, statement, _: connection.execute(statement) and None)  # type: ignore[call-overload]
    return len(ids)


def _covered(connection: Connection, key: bytes | None) -> dict[str, int]:
    """By policy, the position up to which its state is kept without the log."""
    newest = select(deltas.c.policy, deltas.c.replica, func.max(deltas.c.position))
    shared: dict[str, int] = {}
    for policy, _, position in connection.execute(newest.group_by(deltas.c.policy, deltas.c.replica)):
        shared[policy] = min(position, shared.get(policy, position))
    covered = {}
    for policy in connection.execute(select(snapshots.c.policy).distinct()).scalars().all():
        covered[policy] = shared[policy] if policy in shared else _newest_whole(connection, policy, key)
    return covered


def _newest_whole(connection: Connection, policy: str, key: bytes | None) -> int:
    mine = select(snapshots.c.position, snapshots.c.body).where(snapshots.c.policy == policy)
    for position, body in connection.execute(mine.order_by(snapshots.c.position.desc())):
        try:
            snapshot.decode(bytes(body), key=key)
        except InvalidInput:
            continue
        return int(position)
    return 0
