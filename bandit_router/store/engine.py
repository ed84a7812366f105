"""Connections with the durability that was asked for, and the few statements that Core would make slow."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from bandit_router.errors import InvalidInput
from bandit_router.store.settings import Durability

# SQLite in WAL mode: OFF leaves writing to the kernel, NORMAL syncs at checkpoints, FULL syncs every commit.
# PostgreSQL: a commit that is not flushed dies with the server, so only `relaxed` may skip the flush.
_SQLITE_SYNCHRONOUS = {"relaxed": "OFF", "process": "NORMAL", "power": "FULL"}
_POSTGRES_SYNCHRONOUS = {"relaxed": "off", "process": "on", "power": "on"}
_BUSY_S = 5
PATIENCE_S = 10.0  # of the writer, with one statement
_MARGIN_S = 2.0
# A peer that is gone without a word is noticed by the kernel: seconds idle, between probes, probes, ms unacknowledged.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
_ROWS = 256


def open_engine(url: str, durability: Durability, patience_s: float = PATIENCE_S) -> Engine:
    """An engine for a SQLite or PostgreSQL URL; nothing is connected yet.

    PostgreSQL ends a statement after `patience_s`, and where not even that answer comes (a network that swallows what
    is sent), the connection is given up a little later.

    Raises:
        InvalidInput: another database, no URL, or a durability level that does not exist.
        ImportError: a PostgreSQL URL without the extra `postgres`.
    """
    if durability not in _SQLITE_SYNCHRONOUS:
        raise InvalidInput(f"unknown durability {durability!r}; there are {', '.join(_SQLITE_SYNCHRONOUS)}")
    parsed = store_url(url)
    if parsed.get_backend_name() == "sqlite":
        arguments: dict[str, Any] = {"timeout": _BUSY_S, "check_same_thread": False}
        engine = create_engine(parsed, connect_args=arguments, hide_parameters=True)  # contexts stay out of messages
        settings = ("journal_mode=WAL", f"synchronous={_SQLITE_SYNCHRONOUS[durability]}")
        _on_connect_sqlite(engine, settings)
        return engine
    options = (
        f"-c synchronous_commit={_POSTGRES_SYNCHRONOUS[durability]} "
        f"-c statement_timeout={round(1000 * patience_s)} -c lock_timeout={_BUSY_S}s"
    )
    parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        arguments = {"connect_timeout": _BUSY_S, "options": options, **_KEEPALIVE}
        engine = create_engine(parsed, connect_args=arguments, hide_parameters=True)
    except ImportError as error:
        raise ImportError("PostgreSQL needs the extra 'postgres': pip install 'bandit-router[postgres]'") from error
    _give_up_after(engine, patience_s + _MARGIN_S)
    return engine


def _give_up_after(engine: Engine, limit_s: float) -> None:
    """Connect by a class that waits for one answer of the server no longer than `limit_s`."""
    from psycopg import Connection as Driver
    from psycopg import OperationalError

    class Bounded(Driver[Any]):
        def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
            try:
                return super().wait(_limited(gen), *arguments, **named)
            except TimeoutError as late:
                with suppress(Exception):
                    self.close()
                raise OperationalError(str(late)) from None

    def _limited(waiting: Any) -> Generator[Any, Any, Any]:
        """The driver's generator, which is sent what is ready on the socket, and 0 now and then when nothing is."""
        until_s = time.monotonic() + limit_s
        try:
            state = next(waiting)
            while True:
                ready = yield state
                if not ready and time.monotonic() > until_s:
                    raise TimeoutError(f"the server has not answered within {limit_s:g} s; the connection is given up")
                state = waiting.send(ready)
        except StopIteration as end:
            return end.value

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        return Bounded.connect(*arguments, **named)


def place_of(url: str) -> str:
    """Where a database is, as 16 hexadecimal digits: a file's path, or host, port and name; not who asks."""
    parsed = store_url(url)
    if parsed.get_backend_name() == "sqlite":
        where = str(Path(parsed.database or "").resolve())
    else:
        host, port = (parsed.query.get(name) for name in ("host", "port"))
        where = f"{parsed.host or host}:{parsed.port or port or 5432}/{parsed.database or parsed.username}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def make_private(path: str | None) -> None:
    """Make a SQLite file that its owner alone can read; the files beside it take its mode."""
    if path and path != ":memory:" and not path.startswith("file:"):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def store_url(url: str) -> URL:
    """A SQLite or PostgreSQL URL in its parts.

    Raises:
        InvalidInput: it is no URL, or one of another database. A password is not repeated.
    """
    shown = url.rpartition("@")[2]
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        way_out = "" if "://" in url else f"; for a file write sqlite:///{shown}"
        raise InvalidInput(f"expected a sqlite:/// or postgresql:// URL, got {shown!r}{way_out}") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(f"the store runs on sqlite:/// and postgresql:// URLs, got {parsed.get_backend_name()}")
    return parsed


def _on_connect_sqlite(engine: Engine, settings: Sequence[str]) -> None:
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late; SQLAlchemy sends ours
        for setting in settings:
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Insert rows, leaving out those that violate a unique key; returns how many went in.

    Many rows go into one statement: SQLite gives up the interpreter lock once per statement, and a writer thread that
    gave it up once per row would wait for it that often.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    names = ", ".join(f'"{name}"' for name in columns)
    group = f"({', '.join([mark] * len(columns))})"
    inserted = 0
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        values = ", ".join([group] * len(part))
        sql = f"INSERT INTO {table.name} ({names}) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608 - names are ours
        inserted += connection.exec_driver_sql(sql, tuple(chain.from_iterable(part))).rowcount
    return inserted
