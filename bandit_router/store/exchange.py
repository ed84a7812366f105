"""Deltas of replicas, through the database."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from sqlalchemy import func, select

from bandit_router.errors import InvalidInput
from bandit_router.policies.linear_base import LinearPolicy
from bandit_router.settling.learner import Learner
from bandit_router.store import snapshot
from bandit_router.store.engine import insert_rows
from bandit_router.store.ledger import Ledger
from bandit_router.store.replicas import Delta, SharedStatistics
from bandit_router.store.schema import deltas

_COLUMNS = ("policy", "replica", "sequence", "epoch", "position", "body")
_FIELDS = ("arms", "gram", "moment", "counts")


class Exchange:
    """Publishes what this replica has learned and takes in what the others have.

    Args:
        ledger: the database. learner: this replica's, in the policy's first state. shared: over the same statistics.
        policy: the `snapshot.policy_key` under which replicas find each other.
        fetch_s: how often to look for what the others have published, seconds.
    """

    def __init__(
        self, ledger: Ledger, learner: Learner, shared: SharedStatistics, *, policy: str, fetch_s: float
    ) -> None:
        self.ledger, self.learner, self.shared = ledger, learner, shared
        self.policy, self.fetch_s = policy, fetch_s
        self._fetched_s = -math.inf

    def run(self, now_s: float) -> bool:
        """Publish if it is worth it, fetch if it is time; whether anything was published."""
        published = self.shared.due(now_s) and self.publish(now_s)
        if now_s - self._fetched_s > self.fetch_s:
            self.fetch()
            self._fetched_s = now_s
        return published

    def publish(self, now_s: float) -> bool:
        """Publish what is new; whether there was anything."""
        with self.learner.lock:
            delta = self.shared.publish(self.learner.position)
        if delta is None:
            return False
        self._send(delta)
        self.shared.published(now_s)
        return True

    def fetch(self) -> int:
        """Merge what is new in the database; returns how many deltas that were."""
        new = self._receive()
        with self.learner.lock:
            return self.shared.merge(new)

    def _send(self, delta: Delta) -> None:
        state = {name: np.asarray(getattr(delta, name)) for name in _FIELDS}
        body = snapshot.encode(delta.position, state, policy=self.policy)
        row = (self.policy, delta.replica, delta.sequence, delta.epoch, delta.position, body)
        with self.ledger.engine.begin() as connection:
            if insert_rows(connection, deltas, _COLUMNS, [row]):
                return
            mine = (deltas.c.policy == self.policy) & (deltas.c.replica == delta.replica)
            there = select(deltas.c.body).where(mine & (deltas.c.sequence == delta.sequence))
            if connection.execute(there).scalar_one() != body:
                raise InvalidInput(f"two replicas are called {delta.replica!r}; give each its own name")

    def _receive(self) -> list[Delta]:
        seen = self.shared.seen
        query = select(deltas).where(deltas.c.policy == self.policy)
        with self.ledger.engine.connect() as connection:
            newest = select(deltas.c.replica, func.max(deltas.c.sequence)).where(deltas.c.policy == self.policy)
            found: list[Any] = []
            for replica, last in connection.execute(newest.group_by(deltas.c.replica)).all():
                if last > seen.get(replica, 0):
                    fresh = (deltas.c.replica == replica) & (deltas.c.sequence > seen.get(replica, 0))
                    found += connection.execute(query.where(fresh).order_by(deltas.c.sequence)).all()
        return [
            Delta(
                replica=row.replica,
                sequence=row.sequence,
                epoch=row.epoch,
                position=row.position,
                **snapshot.decode(row.body).state,
            )
            for row in sorted(found, key=lambda row: (row.epoch, row.replica, row.sequence))
        ]


def join(ledger: Ledger, learner: Learner, *, policy: str, gamma: float, max_age_s: float, fetch_s: float) -> Exchange:
    """Make `learner`, in the policy's first state, one of the replicas; `catch_up` and `fetch` bring it up to date.

    From here on the ledger gives out as learned only what this replica has settled and not published yet.

    Raises:
        InvalidInput: the policy has no statistics that are sums.
    """
    if learner.policy.merges != "sums":
        raise InvalidInput(
            f"only policies whose statistics are sums can be shared by deltas, got {type(learner.policy).__name__}"
        )
    if learner.monitor is not None:
        raise InvalidInput(
            "what a DriftMonitor takes back is no sum and cannot be shared by deltas; use one or the other"
        )
    statistics = cast(LinearPolicy, learner.policy).statistics
    shared = SharedStatistics(statistics, replica=ledger.replica, gamma=gamma, max_age_s=max_age_s)
    mine = (deltas.c.policy == policy) & (deltas.c.replica == ledger.replica)
    with ledger.engine.connect() as connection:
        published = connection.execute(select(func.max(deltas.c.position)).where(mine)).scalar_one()
    ledger.only, ledger.only_after = ledger.replica, published or 0
    learner.watch = lambda decision, y: shared.note(decision.arm_index, decision.context, y)
    return Exchange(ledger, learner, shared, policy=policy, fetch_s=fetch_s)
