"""What operators change while routers serve: kept with who and when, and in force in every process of a store.

A group of settings (prices, rollout, limits) is a control. Each change of it is a row of `operations`, with the value
before and after and what the configuration of the process that made it said. Processes read each other's rows about
once a second; rows are written under the head's lock, so all take them in one order and end at the same value.

At a start the last row decides: if it was made under the same configuration, its value goes on, whatever the
constructor says. If the configuration itself has changed since, the constructor's value is in force everywhere, and
that is a row as well.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select

from bandit_router.errors import InvalidInput
from bandit_router.settling.protocol import Control
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import operations

_log = logging.getLogger(__name__)
CONFIGURATION = "configuration"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One change: what was changed, by whom, when (seconds of that router's clock), and its value before and after."""

    id: int
    at_s: float
    by: str
    name: str
    before: Any
    after: Any


class Changes:
    """One process's side of the operations; `note` and `sign` are for other threads, the rest for the writer.

    Args:
        lock: guards what is changed. process: who changes where nobody is named. clock: seconds.
    """

    def __init__(self, *, lock: threading.RLock, process: str, clock: Callable[[], float]) -> None:
        self.lock, self.process, self.clock = lock, process, clock
        self.controls: dict[str, Control] = {}
        self._configured: dict[str, Any] = {}
        self._known: dict[str, Any] = {}
        self._position, self._begun = 0, False
        self._signed: dict[str, str] = {}
        self._notes: list[tuple[str, Any, str]] = []

    def controls_are(self, controls: Mapping[str, Control]) -> None:
        """Follow these from now on; their values now are what the configuration says."""
        with self.lock:
            self.controls = dict(controls)
            self._configured = {name: control.read() for name, control in controls.items()}
            self._known = dict(self._configured)
            self.forget()

    def sign(self, name: str, by: str | None) -> None:
        """Say who has made the change of a control that is saved next."""
        with self.lock:
            self._signed[name] = by or self.process

    def note(self, name: str, what: Any, by: str | None) -> None:
        """Keep a change that is in force by other means, for the record."""
        with self.lock:
            self._notes.append((name, what, by or self.process))

    def forget(self) -> None:
        """Begin anew: the database has gone back."""
        self._position, self._begun = 0, False

    def follow(self, ledger: Ledger) -> None:
        """Take in what others have changed, and write what was changed here."""
        with ledger.engine.connect() as connection:
            news = bool(self._rows(connection))
        with self.lock:
            unsaved = any(control.read() != self._known[name] for name, control in self.controls.items())
        if not self.controls or (self._begun and not (news or unsaved or self._notes)):
            return
        with ledger.writing() as (connection, _):
            rows = self._rows(connection)
            with self.lock:
                known, notes = dict(self._known), list(self._notes)
                if not self._begun:
                    self._begin(connection, {row.name: row for row in rows}, known)
                else:
                    for row in rows:
                        self._take(row, known)
                self._write(connection, known, notes)
            last = connection.execute(select(func.max(operations.c.id))).scalar_one() or 0
        with self.lock:
            self._known, self._position, self._begun = known, last, True
            self._signed.clear()
            del self._notes[: len(notes)]

    def _rows(self, connection: Connection) -> list[Row[Any]]:
        query = select(operations).where(operations.c.id > self._position).order_by(operations.c.id)
        return list(connection.execute(query).all())

    def _begin(self, connection: Connection, last: Mapping[str, Row[Any]], known: dict[str, Any]) -> None:
        for name, control in self.controls.items():
            row, mine = last.get(name), self._configured[name]
            if row is not None and _decoded(row.configuration, control) == mine:
                known[name] = mine
                self._take(row, known)
            else:
                before = None if row is None else row.after
                self._insert(connection, name, before, _text(mine), CONFIGURATION)
                known[name] = mine

    def _take(self, row: Row[Any], known: dict[str, Any]) -> None:
        """Put another process's value in force, but where a later change was made here and is not saved yet."""
        control = self.controls.get(row.name)
        if control is None:
            return
        value = _decoded(row.after, control)
        if control.read() != known[row.name] or value is None:
            known[row.name] = value
            return
        try:
            control.write(value)
        except InvalidInput as problem:
            _log.error("%s changed by %s cannot be taken over: %s", row.name, row.by, problem)
        known[row.name] = control.read()

    def _write(self, connection: Connection, known: dict[str, Any], notes: list[tuple[str, Any, str]]) -> None:
        for name, control in self.controls.items():
            value = control.read()
            if value != known[name]:
                by = self._signed.get(name, self.process)
                self._insert(connection, name, _text(known[name]), _text(value), by)
                known[name] = value
        for name, what, by in notes:
            self._insert(connection, name, None, _text(what), by)

    def _insert(self, connection: Connection, name: str, before: str | None, after: str, by: str) -> None:
        mine = self._configured.get(name)
        row = {"at_s": self.clock(), "by": by, "name": name, "before": before, "after": after}
        connection.execute(insert(operations).values(**row, configuration=None if mine is None else _text(mine)))


def history(engine: Engine) -> list[Operation]:
    """Every change, in order."""
    with engine.connect() as connection:
        rows = connection.execute(select(operations).order_by(operations.c.id)).all()
    read = msgspec.json.decode
    return [
        Operation(
            id=row.id,
            at_s=row.at_s,
            by=row.by,
            name=row.name,
            before=None if row.before is None else read(row.before),
            after=read(row.after),
        )
        for row in rows
    ]


def _text(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _decoded(text: str | None, control: Control) -> Any:
    """A control's value, None where the text is of a form it no longer has."""
    try:
        return None if text is None else msgspec.json.decode(text, type=control.kind)
    except (msgspec.ValidationError, ValueError):
        return None
