"""Connections with the durability that was asked for, and the few statements that Core would make slow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
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
_ROWS = 256


def open_engine(url: str, durability: Durability) -> Engine:
    """An engine for a SQLite or PostgreSQL URL; nothing is connected yet.

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
        f"-c statement_timeout={6 * _BUSY_S}s -c lock_timeout={_BUSY_S}s"
    )
    parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        arguments = {"connect_timeout": _BUSY_S, "options": options}
        return create_engine(parsed, connect_args=arguments, hide_parameters=True)
    except ImportError as error:
        raise ImportError("PostgreSQL needs the extra 'postgres': pip install 'bandit-router[postgres]'") from error


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
