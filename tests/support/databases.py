"""A clock that stands still, and a look into a store's database from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, text

from bandit_router.records.arms import Arm
from bandit_router.routing.router import Router
from bandit_router.settling.memory import MemoryStore

ARMS = [Arm(id="small"), Arm(id="large"), Arm(id="adapter")]
DIM = 3


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tick(router: Router) -> None:
    """Let a router's store look at the clock and at the log now."""
    if isinstance(router.events, MemoryStore):
        router.events.close_windows(router.clock())
    else:
        router.events._writer._next_tick = 0.0
        router.flush()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another process holds SQLite's write lock."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


def query(url: str, sql: str) -> list[Any]:
    """All rows of a query."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(sql)))
    finally:
        engine.dispose()


def count(url: str, table: str) -> int:
    """Rows of a table."""
    return int(query(url, f"SELECT count(*) FROM {table}")[0][0])
