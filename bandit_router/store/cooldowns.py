"""Which arms are left alone after failures, through the database: kept over restarts, shared by its processes."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from sqlalchemy import select, update

from bandit_router.settling.learner import Learner
from bandit_router.settling.protocol import Cooldown, Cooling
from bandit_router.store.engine import insert_rows
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import cooldowns
from bandit_router.store.wire import encode_struct

_COLUMNS = ("arm", "version", "body")
_cooldown = msgspec.msgpack.Decoder(Cooldown)


class Cooldowns:
    """The store's side of a router's cooldowns; for the writer.

    Args:
        learner: whose lock guards them. cooling: the router's, None for none.
    """

    def __init__(self, learner: Learner, cooling: Cooling | None) -> None:
        self._learner, self._cooling = learner, cooling

    def exchange(self, ledger: Ledger) -> None:
        """Write what is newer here, take over what is newer there; of two of one version the first written stays."""
        if self._cooling is None:
            return
        with self._learner.lock:
            mine = self._cooling.cooldowns()
        stored = self._read(ledger)
        newer = {arm: known for arm, known in mine.items() if known.version > stored.get(arm, Cooldown()).version}
        if newer:
            self._write(ledger, newer)
            stored = self._read(ledger)
        with self._learner.lock:
            self._cooling.follow(stored)

    def _read(self, ledger: Ledger) -> dict[str, Cooldown]:
        found = {}
        with ledger.engine.connect() as connection:
            for row in connection.execute(select(cooldowns.c.arm, cooldowns.c.body)):
                with suppress(msgspec.MsgspecError):  # a damaged row counts for nothing
                    found[row.arm] = _cooldown.decode(row.body)
        return found

    def _write(self, ledger: Ledger, newer: dict[str, Cooldown]) -> None:
        rows = [(arm, known.version, encode_struct(known)) for arm, known in sorted(newer.items())]
        with ledger.engine.begin() as connection:
            insert_rows(connection, cooldowns, _COLUMNS, rows)
            for arm, version, body in rows:
                older = (cooldowns.c.arm == arm) & (cooldowns.c.version < version)
                connection.execute(update(cooldowns).where(older).values(version=version, body=body))
