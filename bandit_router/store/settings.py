"""The settings of a store, and how replicas share what they learn."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal, get_args

import msgspec

from bandit_router.errors import InvalidInput

Durability = Literal["relaxed", "process", "power"]
BackPressure = Literal["block", "shed", "degrade"]


class Sharing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How replicas of a linear policy share what they learn: by deltas, instead of everybody reading the whole log.

    Attributes:
        gamma: growth of an arm's evidence (its determinant) that is published at once.
        max_age_s: seconds after a publication at which anything new is published.
        fetch_s: seconds between two looks for what the others have published.
    """

    gamma: float = 0.1
    max_age_s: float = 5.0
    fetch_s: float = 0.5


class StoreSettings:
    """The settings of a durable event store; `Store` takes the same arguments.

    Args:
        url: `sqlite:////var/lib/router/events.db`, or `postgresql://user@host/name` (needs the `postgres` extra).
        durability: what has survived once a call has returned. `relaxed`: nothing is promised. `process`: decisions and
            rewards survive `kill -9` of this process. `power`: they survive a power cut; every decision waits for it.
        back_pressure: when the queue to the database is full, a decision may `block` for up to `bound_s`, `shed` its
            record (it is served, never learned from), or `degrade` to the baseline arm. All three are counted.
        bound_s: the longest that `decide` waits for the store, seconds.
        wait_s: the longest that `observe` waits for its settlement, seconds; beyond that it answers "pending".
        spool: folder of the queue's files, on a local disk; default beside the SQLite file. PostgreSQL needs one,
            unless the durability is `relaxed`, which keeps the queue in memory. Several databases may share a folder:
            the files carry a hash of where their database is (path; or host, port and name).
        queue_bytes: size of the queue. One decision takes about 100 bytes + 8 per feature and arm.
        max_events: decisions remembered in memory; the same event id gets the same decision while it is.
        early_s: how long before its decision a reward may arrive, seconds: another process may have decided, and the
            clocks of several machines differ.
        snapshot_every: log entries between two snapshots of the state.
        retention_s: how long decisions, rewards and log entries are kept after their windows have closed, seconds;
            what has been learned stays. Default: for ever, or until `bandit-router state prune`.
        snapshot_key: secret that signs the snapshots (HMAC-SHA256); default unsigned, checksummed.
        replica: name of this process in the log; default host and process id.
        share: for many replicas of a linear policy, how they share by deltas; `replica` must then be a name that stays
            the same after a restart. Default: every process reads the whole log, and all stand at the same bytes.
        fresh: begin with nothing learned where the store's outcomes are of contexts with other features; without it
            that is refused. What was learned stays in the log.

    Raises:
        InvalidInput: a setting is not among those allowed, or the queue has no folder.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "process",
        back_pressure: BackPressure = "shed",
        bound_s: float = 0.05,
        wait_s: float = 1.0,
        spool: Path | str | None = None,
        queue_bytes: int = 32 << 20,
        max_events: int = 100_000,
        early_s: float = 120.0,
        snapshot_every: int = 10_000,
        retention_s: float | None = None,
        snapshot_key: bytes | None = None,
        replica: str | None = None,
        share: Sharing | None = None,
        fresh: bool = False,
    ) -> None:
        if share is not None and replica is None:
            raise InvalidInput("replicas that share by deltas need a name that outlives the process: give replica=")
        self.share, self.fresh = share, fresh
        for name, value, allowed in (
            ("durability", durability, get_args(Durability)),
            ("back_pressure", back_pressure, get_args(BackPressure)),
        ):
            if value not in allowed:
                raise InvalidInput(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        kept_s = 0 if retention_s is None else retention_s
        for name, number, least in (("max_events", max_events, 1), ("early_s", early_s, 0), ("retention_s", kept_s, 0)):
            if not number >= least:
                raise InvalidInput(f"{name} must be at least {least}, got {number}")
        self.max_events, self.early_s, self.retention_s = max_events, early_s, retention_s
        self.url, self.durability, self.back_pressure = url, durability, back_pressure
        self.bound_s, self.wait_s = bound_s, wait_s
        self.spool = None if durability == "relaxed" else _spool_folder(url, spool)
        self.own_folder = spool is None  # beside the SQLite file: nobody else's records are there
        self.queue_bytes, self.snapshot_every, self.snapshot_key = queue_bytes, snapshot_every, snapshot_key
        self.replica = f"{socket.gethostname()}:{os.getpid()}" if replica is None else replica


def _spool_folder(url: str, spool: Path | str | None) -> Path:
    if spool is not None:
        return Path(spool)
    scheme, _, path = url.partition(":///")
    if scheme.split("+")[0] == "sqlite" and path.split("?")[0] not in ("", ":memory:"):
        return Path(path.split("?")[0] + ".spool")
    raise InvalidInput("this store has no folder of its own: give spool=<a local folder>, or durability='relaxed'")
