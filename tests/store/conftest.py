"""Databases for the tests: SQLite files, and one real PostgreSQL server for the whole run."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from bandit_router.routing.router import Router
from bandit_router.settling.rules import RewardRule
from bandit_router.store import Store
from support.databases import ARMS, DIM, Clock
from support.postgres import Postgres
from support.routers import make_router


def execute(url: str, sql: str) -> None:
    """Change a database behind its router's back."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(sql))
    engine.dispose()


HOUR = RewardRule(window_s=3600.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory() as folder:
        environment.setenv("XDG_RUNTIME_DIR", folder)
        with Postgres(Path(folder, "data")) as server:
            yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A fresh database on the server."""
    return postgres.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def open_router(tmp_path: Path) -> Iterator[Callable[..., Router]]:
    """Opens routers on a store; those still open are closed at the end."""
    opened: list[Router] = []
    numbers = itertools.count()

    def open_(url: str, *, store: dict[str, Any] | None = None, **settings: Any) -> Router:
        options = {"spool": tmp_path / "spool", "wait_s": 10.0, "replica": f"r{next(numbers)}", **(store or {})}
        defaults = {"arms": ARMS, "context": DIM, "key": b"k", "clock": Clock(), "policy": "LinUCB"}
        defaults |= {} if "objective" in settings else {"rewards": HOUR}
        opened.append(make_router(**{**defaults, **settings}, store=Store(url, **options)))
        return opened[-1]

    yield open_
    for router in opened:
        router.close()
