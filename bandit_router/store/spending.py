"""What budgets spend, through the database: every booking and bill is a row, and the budgets are the fold of the rows.

The rows are written with the decisions and rewards they belong to, in the same transaction. A restarted process takes
the newest captured state and folds the rows after it, so it goes on with all that was booked, billed or not. Processes
that share a store fold each other's rows about once a second.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, delete, select

from bandit_router.budgets.accounts import Corrected, Entry, Limits, Repriced
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.records.booking import Bill, Booking
from bandit_router.records.decisions import Decision
from bandit_router.settling.rules import Reward, StoreRule, bill
from bandit_router.store import snapshot
from bandit_router.store.engine import insert_rows
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import budget_states, spending
from bandit_router.store.wire import encode_struct

_log = logging.getLogger(__name__)
_COLUMNS = ("event_id", "channels", "process", "body")
_NAME, _LIMITS = "budgets", "limits"
_PAGE = 1000
_KEEP = 3
_entry = msgspec.msgpack.Decoder(Entry)
_limits_decoder = msgspec.msgpack.Decoder(Limits)


class Spending:
    """The store's side of one router's budgets; all methods but `adopt` are the writer thread's.

    Args:
        ledger: the database. budgets: the router's. lock: what guards them. key: of the snapshots.
        every: rows between two captured states. counters: the router's. rule: how long a bill waits for its booking.
    """

    def __init__(
        self,
        ledger: Ledger,
        budgets: Budgets,
        *,
        lock: threading.RLock,
        key: bytes | None,
        every: int,
        counters: Counter[str],
        rule: StoreRule,
    ) -> None:
        self.ledger, self.budgets, self.lock, self.rule = ledger, budgets, lock, rule
        self.key, self.every, self.counters = key, every, counters
        self.process = secrets.token_hex(8)
        self._position = self._saved = 0
        self._announced: list[Limits] = []
        self._untold: list[Repriced | Corrected] = []
        self._written = 0
        self._folded = budgets.twin()

    def write(self, connection: Connection, records: Iterable[Decision | Reward]) -> None:
        """Insert what these records booked or billed; what is there already stays."""
        rows = [row for record in records if (row := self._row(record)) is not None]
        insert_rows(connection, spending, _COLUMNS, rows)

    def _row(self, record: Decision | Reward) -> tuple[Any, ...] | None:
        if isinstance(record, Reward):
            billed = bill(self.rule, record)
            if billed is None:
                return None
            return record.event_id, "+".join(billed.outcome.metered()), self.process, encode_struct(billed)
        if record.booking is None:
            return None
        return record.event_id, "", self.process, encode_struct(record.booking)

    # -- after a restart -------------------------------------------------------------------------------------

    def load(self) -> None:
        """Fold everything in the database, the limits of other processes included."""
        self._folded, self._position = self.budgets.twin(), 0
        self._restore_newest()
        self._saved = self._position
        self._tell()
        self._fold()

    def adopt(self, decided: Iterable[Decision]) -> None:
        """Make the router's budgets what was loaded, and book what it has decided since; call it under the lock."""
        self.budgets.restore(self._folded.state())
        for decision in decided:
            if decision.booking is not None:
                self.budgets.apply(decision.booking)
        for change in self._changes():
            self._untold.append(change)
            self.budgets.apply(change)

    def _changes(self) -> list[Repriced | Corrected]:
        """What was changed here and no row has yet."""
        reprices = self.budgets.repriced()
        return [*([Repriced(reprices)] if reprices else []), *self.budgets.corrected()]

    def _restore_newest(self) -> None:
        query = select(budget_states).order_by(budget_states.c.position.desc())
        with self.ledger.engine.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            try:
                found = snapshot.decode(row.body, key=self.key)
                self._folded.apply(_limits_decoder.decode(found.state[_LIMITS].tobytes()))
                self._folded.restore(msgspec.msgpack.decode(found.state[_NAME].tobytes()))
            except (InvalidInput, KeyError, msgspec.DecodeError) as problem:
                self.counters["snapshots_rejected"] += 1
                _log.error("the state of the budgets at %d was rejected: %s", row.position, problem)
                continue
            self._position = row.position
            return

    # -- while serving ---------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Fold the new rows; the router's budgets take in those of other processes. Capture the state now and then."""
        if not self._announced or self._announced[-1] != self.budgets.in_force():
            self._tell()
        self._tell_changes()
        others = self._fold()
        for start in range(0, len(others), 64):
            with self.lock:  # in short turns: decisions wait for it
                for entry in others[start : start + 64]:
                    self.budgets.apply(entry)
        if self._position - self._saved >= self.every:
            self.save()

    def _tell(self) -> None:
        """Write this router's limits, so that every process can fold what is booked on them."""
        limits = self.budgets.in_force()
        self._insert(f"{self.process} {len(self._announced)}", limits)
        self._announced.append(limits)

    def _tell_changes(self) -> None:
        """Write corrections and the price changes that no booking has carried; a row that failed is tried again."""
        with self.lock:
            self._untold += self._changes()
        while self._written < len(self._untold):
            self._insert(f"{self.process} change {self._written}", self._untold[self._written])
            self._written += 1

    def _insert(self, name: str, entry: Limits | Repriced | Corrected) -> None:
        row = ("", name, self.process, encode_struct(entry))
        with self.ledger.engine.begin() as connection:
            insert_rows(connection, spending, _COLUMNS, [row])

    def _fold(self) -> list[Entry]:
        """Fold what is past the position; returns what the router's budgets may not know: bills, others' entries."""
        others: list[Entry] = []
        while True:
            query = select(spending).where(spending.c.id > self._position).order_by(spending.c.id).limit(_PAGE)
            with self.ledger.engine.connect() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                self._position = row.id
                try:
                    entry = _entry.decode(row.body)
                except msgspec.DecodeError as problem:  # one bad row must not stop the others
                    self.counters["failed_records"] += 1
                    _log.error("row %d of spending cannot be read: %s", row.id, problem)
                    continue
                self._folded.apply(entry)
                foreign = row.process != self.process and isinstance(entry, Booking | Repriced | Corrected)
                if foreign or isinstance(entry, Bill):
                    others.append(entry)  # a bill that is known changes nothing
            if len(rows) < _PAGE:
                return others

    def save(self) -> None:
        """Capture the folded state, and drop what is older than the captured states that are kept."""
        if self._position == self._saved:
            return
        parts = {_NAME: msgspec.msgpack.encode(self._folded.state()), _LIMITS: encode_struct(self._folded.in_force())}
        state = {name: np.frombuffer(data, dtype=np.uint8) for name, data in parts.items()}
        body = snapshot.encode(self._position, state, policy=_NAME, key=self.key)
        newest = select(budget_states.c.position).order_by(budget_states.c.position.desc())
        with self.ledger.engine.begin() as connection:
            insert_rows(connection, budget_states, ("position", "body"), [(self._position, body)])
            kept = connection.execute(newest.limit(_KEEP)).scalars().all()
            if len(kept) == _KEEP:
                connection.execute(delete(budget_states).where(budget_states.c.position < kept[-1]))
                connection.execute(delete(spending).where(spending.c.id <= kept[-1]))
        self._saved = self._position
