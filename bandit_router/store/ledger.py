"""The database side of the store: everything that is read or written, one transaction at a time.

Every transaction that writes begins by updating the one row of `head`. That takes SQLite's write lock, or the row's
lock in PostgreSQL, until the commit: writers of all processes and hosts go one after the other, so log positions have
no gaps and become visible in order, and what a transaction has checked stays true until it commits. Unique keys on
decisions, rewards and settled events say the same in the schema.

The settled mark of an event and the change of the statistics are one transaction because they are one row, the entry in
`log`. Statistics are not written with it: they are the fold of the log up to a position, so the position is their name,
and a process that dies between a commit and its own fold folds the entry when it starts again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, RowMapping, delete, func, insert, select, update

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision
from bandit_router.settling.learner import ArmAdded, Entry, Lost, Restored, State
from bandit_router.settling.rules import Settled
from bandit_router.store.engine import PATIENCE_S, insert_rows, make_private, open_engine
from bandit_router.store.entries import COLUMNS, LOST, entry_row, row_entry
from bandit_router.store.migrations import migrate
from bandit_router.store.schema import arms, decisions, head, log, quarantine, snapshots
from bandit_router.store.settings import Durability
from bandit_router.store.wire import readable

_log = logging.getLogger(__name__)
_DECISION = (decisions.c.record, decisions.c.crc.label("record_crc"))
_arm = msgspec.msgpack.Decoder(Arm)
_PAGE = 1000


class Head:
    """The locked end of the log within one transaction: it numbers new entries and writes them at the end."""

    def __init__(self, row: RowMapping, replica: str) -> None:
        self.position: int = row["position"]
        self.closed_s: float = row["closed_s"]
        self.replica = replica
        self.entries: list[Entry] = []

    @property
    def next(self) -> int:
        """Position of the next new entry."""
        return self.position + len(self.entries) + 1

    def write(self, connection: Connection) -> None:
        """Append the new entries to the log and move the head."""
        rows = [entry_row(entry, self.replica) for entry in self.entries]
        if insert_rows(connection, log, COLUMNS, rows) != len(rows):
            raise RuntimeError("an event was about to be settled twice; nothing was written")
        last = self.position + len(rows)
        connection.execute(update(head).values(position=last, closed_s=self.closed_s))


class Ledger:
    """One database. Not thread-safe on its own: the writer thread owns it; the command line opens its own.

    Args:
        url: sqlite:/// or postgresql://. durability, patience_s: see `engine`.
        replica: name of this process in the log.

    Attributes:
        unreadable: why log entries could not be read, by position.
        only, only_after: for a replica that shares by deltas, whose entries to learn from and past which position.
    """

    def __init__(self, url: str, durability: Durability, replica: str, *, patience_s: float = PATIENCE_S) -> None:
        self.engine = open_engine(url, durability, patience_s)
        sqlite = self.engine.dialect.name == "sqlite"
        self._path = self.engine.url.database if sqlite and self.engine.url.database != ":memory:" else None
        self._file: tuple[int, int] | None = None
        self.replica = replica
        self.unreadable: dict[int, str] = {}
        self.only: str | None = None
        self.only_after = 0

    def open(self) -> None:
        """Create the schema or bring it up to date."""
        make_private(self._path)
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236458)")  # one creator at a time
            else:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            migrate(connection)
        self._file = self._identity()

    def replaced(self) -> bool:
        """Whether another file stands now where the SQLite file was opened; the connections to the old one are closed.

        Raises:
            FileNotFoundError: no file stands there. What would be written now would be gone with the process.
        """
        if self._file is None or self._identity() == self._file:
            return False
        self.engine.dispose()
        return True

    def _identity(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self.engine.dispose()
            raise FileNotFoundError(f"the file {self._path} is gone; put it, or a backup of it, back") from None
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Close the connections; what comes later opens new ones."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, Head]]:
        """A transaction that holds the head; entries given to it are in the log when it commits."""
        with self.engine.begin() as connection:
            moved = update(head).values(position=head.c.position).returning(head.c.position, head.c.closed_s)
            end = Head(connection.execute(moved).mappings().one(), self.replica)
            yield connection, end
            end.write(connection)

    # -- the log ---------------------------------------------------------------------------------------------

    def read(self, after: int, limit: int) -> list[Entry | Lost]:
        """Log entries past position `after`, in order; what cannot be read is noted and stands as lost."""
        joined = log.outerjoin(decisions, decisions.c.event_id == log.c.event_id)
        query = select(log, *_DECISION).select_from(joined).where(log.c.position > after)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(log.c.position).limit(limit)).all()
        known = len(self.unreadable)
        entries = [self._entry(row) for row in rows]
        if len(self.unreadable) > known:
            position, why = list(self.unreadable.items())[known]
            _log.error(
                "%d log entries are skipped, the first at %d (%s); see `bandit-router state repair`",
                len(self.unreadable) - known,
                position,
                why,
            )
        return entries

    def _entry(self, row: Row[Any]) -> Entry | Lost:
        if row.kind != LOST:
            try:
                return row_entry(row, learn=self._learns(row))
            except InvalidInput as problem:
                self.unreadable[row.position] = str(problem)
        return Lost(position=row.position)

    def mark_lost(self, positions: Sequence[int]) -> None:
        """Let entries only hold their places, and drop the snapshots that may have learned from them."""
        with self.writing() as (connection, _):
            for start in range(0, len(positions), _PAGE):
                these = log.c.position.in_(positions[start : start + _PAGE])
                connection.execute(update(log).where(these).values(kind=LOST, learned=False))
            connection.execute(delete(snapshots).where(snapshots.c.position >= min(positions)))

    def continues(self, position: int, last: tuple[str, float | None] | None) -> bool:
        """Whether the log goes from its origin to `position`, and has there what was folded (None: not known)."""
        there = select(log.c.event_id, log.c.reward).where(log.c.position == position)
        with self.engine.connect() as connection:
            end, origin = connection.execute(select(head.c.position, head.c.origin)).one()
            if not origin <= position <= end:
                return False
            found = None if last is None else connection.execute(there).one_or_none()
            return found == last or (found is None and position == origin)  # what is up to the origin may be gone

    def _learns(self, row: Row[Any]) -> bool:
        return self.only is None or (row.replica == self.only and row.position > self.only_after)

    def origin(self) -> tuple[int, int]:
        """The position after which the log begins, and how many arms there were at it."""
        with self.engine.connect() as connection:
            begin = connection.execute(select(head.c.origin)).scalar_one()
            known = select(func.count()).select_from(arms).where(arms.c.position <= begin)
            return int(begin), int(connection.execute(known).scalar_one())

    def position(self) -> int:
        """The last position of the log."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(head.c.position)).scalar_one())

    def settled(self, ids: Sequence[str]) -> list[str]:
        """Which of these events are settled."""
        found: list[str] = []
        with self.engine.connect() as connection:
            for start in range(0, len(ids), _PAGE):
                these = log.c.event_id.in_(ids[start : start + _PAGE])
                found += connection.execute(select(log.c.event_id).where(these)).scalars()
        return found

    def recent(self, closing_after_s: float, limit: int) -> list[Decision]:
        """The newest decisions whose windows are open, oldest first."""
        query = select(decisions.c.record).where(decisions.c.closes_s >= closing_after_s)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(decisions.c.closes_s.desc()).limit(limit)).scalars().all()
        return [decision for record in reversed(rows) if (decision := readable(record)) is not None]

    def decision(self, event_id: str) -> Decision | None:
        """The decision of an event, None where there is none or it cannot be read."""
        query = select(decisions.c.record).where(decisions.c.event_id == event_id)
        with self.engine.connect() as connection:
            record = connection.execute(query).scalar_one_or_none()
        return None if record is None else readable(record)

    def quarantine(self, event_id: str, reason: str, at_s: float, body: bytes) -> None:
        """Keep a record that did not count."""
        with self.engine.begin() as connection:
            insert_rows(
                connection, quarantine, ("event_id", "reason", "at_s", "reward"), [(event_id, reason, at_s, body)]
            )

    def decided(self) -> Iterator[tuple[Decision, Settled | None]]:
        """Every readable decision in order of time, with the entry that settled it."""
        joined = decisions.outerjoin(log, log.c.event_id == decisions.c.event_id)
        query = select(log, *_DECISION).select_from(joined).order_by(decisions.c.at_s, decisions.c.event_id)
        with self.engine.connect().execution_options(yield_per=_PAGE) as connection:
            for row in connection.execute(query):
                entry = None if row.kind is None else self._entry(row)
                if isinstance(entry, Settled):
                    yield entry.decision, entry
                elif (decision := readable(row.record)) is not None:
                    yield decision, None

    # -- arms ------------------------------------------------------------------------------------------------

    def arms(self) -> list[tuple[Arm, str]]:
        """The catalogue in order, with each arm's status."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(arms.c.spec, arms.c.status).order_by(arms.c.index)).all()
        return [(_arm.decode(spec), status) for spec, status in rows]

    def add_arms(self, new: Sequence[Arm], *, like: int | None = None, strength: float = 1.0) -> None:
        """Append arms that the catalogue does not have; the first ones of all are part of the initial state."""
        with self.writing() as (connection, end):
            present = connection.execute(select(arms.c.id).order_by(arms.c.index)).scalars().all()
            initial = not present
            for arm in new:
                if arm.id in present:
                    continue
                index = len(present)
                if not initial:
                    end.entries.append(ArmAdded(position=end.next, index=index, arm=arm, like=like, strength=strength))
                row = {"index": index, "id": arm.id, "status": "active", "spec": msgspec.msgpack.encode(arm)}
                connection.execute(insert(arms).values(**row, position=0 if initial else end.next - 1))
                present = [*present, arm.id]

    def set_status(self, arm_id: str, status: str) -> str:
        """Keep an arm's status and return it; an arm that is retired already stays so."""
        mine = arms.c.id == arm_id
        with self.engine.begin() as connection:
            connection.execute(update(arms).where(mine, arms.c.status != "retired").values(status=status))
            return str(connection.execute(select(arms.c.status).where(mine)).scalar_one())

    # -- states ----------------------------------------------------------------------------------------------

    def snapshots(self, policy: str) -> Iterator[tuple[int, bytes]]:
        """Position and bytes of a policy's snapshots, newest first."""
        query = select(snapshots.c.id).where(snapshots.c.policy == policy)
        with self.engine.connect() as connection:
            ids = connection.execute(query.order_by(snapshots.c.position.desc())).scalars().all()
            for key in ids:
                found = select(snapshots.c.position, snapshots.c.body).where(snapshots.c.id == key)
                row = connection.execute(found).one_or_none()
                if row is not None:
                    yield row.position, row.body

    def put_first_snapshot(self, policy: str, body: bytes) -> None:
        """Keep the state before the first log entry, unless there is one."""
        with self.engine.begin() as connection:
            insert_rows(connection, snapshots, ("policy", "position", "body"), [(policy, 0, body)])

    def first_snapshot(self, policy: str) -> bytes:
        """The policy's state before the first log entry."""
        first = (snapshots.c.policy == policy) & (snapshots.c.position == 0)
        with self.engine.connect() as connection:
            return bytes(connection.execute(select(snapshots.c.body).where(first)).scalar_one())

    def put_snapshot(self, policy: str, position: int, body: bytes, *, keep: int) -> None:
        """Keep a snapshot, the policy's first one, and the newest `keep`."""
        mine = select(snapshots.c.position).where(snapshots.c.policy == policy)
        with self.engine.begin() as connection:
            insert_rows(connection, snapshots, ("policy", "position", "body"), [(policy, position, body)])
            newest = connection.execute(mine.order_by(snapshots.c.position.desc())).scalars().all()
            stale = newest[keep:-1]
            if stale:
                gone = snapshots.c.position.in_(stale) & (snapshots.c.policy == policy)
                connection.execute(delete(snapshots).where(gone))

    def import_state(self, state: State) -> int:
        """Append the entry that replaces what was learned; returns its position."""
        with self.writing() as (_, end):
            end.entries.append(Restored(position=end.next, state=state))
            return end.next - 1
