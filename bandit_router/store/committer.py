"""From records to committed groups: bounded transactions, and windows that close page by page between them.

A group that fails because the database does is kept and tried again. One that fails because of a record is halved until
the record is found; it is left out only when the database takes another one, made for the purpose and taken back.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from sqlalchemy import Connection

from bandit_router.records.decisions import Decision
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.door import Influence
from bandit_router.settling.learner import Entry, Learner
from bandit_router.settling.rules import Reward, StoreRule, answer
from bandit_router.store.faults import describe, is_outage
from bandit_router.store.group import Group, Place
from bandit_router.store.ledger import Head, Ledger
from bandit_router.store.spending import Spending
from bandit_router.store.spool import Item
from bandit_router.store.wire import encode_decision, encode_reward

_log = logging.getLogger(__name__)
PART = 1000  # records or windows of one transaction: other processes wait for it


class _TakenBack(Exception):
    """Ends a transaction that is only a trial."""


class Committer:
    """Writes groups of records in bounded transactions, folds what they settled, and answers those who wait.

    Args:
        ledger, learner, rule, counters, clock: the writer's. spending: the budgets' side of it, None without budgets.
        logged: a decision known to be queued or written, or None. forget: told of one that will never be.
        fold: takes the head's position before a transaction and the entries it has committed.
    """

    def __init__(
        self,
        ledger: Ledger,
        learner: Learner,
        *,
        rule: StoreRule,
        counters: Counter[str],
        clock: Callable[[], float],
        spending: Spending | None,
        logged: Callable[[str], Decision | None],
        forget: Callable[[str], None],
        fold: Callable[[int, Sequence[Entry]], None],
    ) -> None:
        self.ledger, self.learner, self.rule = ledger, learner, rule
        self.counters, self.clock, self.spending = counters, clock, spending
        self.logged, self.forget, self.fold = logged, forget, fold
        self.influence = Influence(rule.per_source)
        self._items: Sequence[Item] = ()
        self._written = 0
        self._closed: Place | None = None

    def write(self, items: Sequence[Item]) -> None:
        """Commit a group part by part; after an error the same list goes on where it stopped."""
        if items is not self._items:
            self._items, self._written = items, 0
        while self._written < len(items):
            self._write(items[self._written : self._written + PART])

    def _write(self, part: Sequence[Item]) -> None:
        """Commit a part, and where it fails on a record's account its halves."""
        try:
            self._commit(part)
        except Exception as error:
            if is_outage(error):
                raise
            if len(part) > 1:
                half = len(part) // 2
                self._write(part[:half])
                return self._write(part[half:])
            self._probe()
            self._leave_out(part[0], error)
            self._written += 1

    def _commit(self, part: Sequence[Item]) -> None:
        with self.ledger.writing() as (connection, head):
            group = self._group(connection, head, self.clock())
            group.add_decisions(part)
            group.add_rewards(part)
            if self.spending is not None:
                self.spending.write(connection, [*group.rewritten, *(item.record for item in part)])
        self._written += len(part)
        try:
            self._finish(group, head)
        finally:
            for item in part:
                if item.waiter is not None and not item.waiter.done():
                    item.waiter.set_result(None)

    def _probe(self) -> None:
        """Write a decision and a reward that are sound, and take them back; raises what stops any record."""
        now_s, event_id = self.clock(), f"probe-{uuid.uuid4().hex}"
        decision = Decision(
            event_id=event_id,
            arm=self.learner.catalogue[0].id,
            arm_index=0,
            propensity=1.0,
            probabilities=None,
            context=np.zeros(1),
            eligible=None,
            penalty=None,
            timestamp_s=now_s,
            policy="probe",
            state_version=0,
        )
        reward = Reward(event_id=event_id, reward_id="probe", at_s=now_s, outcome=Outcome(quality=1.0))
        items = [Item(decision, encode_decision(decision), None), Item(reward, encode_reward(reward), None)]
        with suppress(_TakenBack), self.ledger.writing() as (connection, head):
            group = self._group(connection, head, now_s)
            group.add_decisions(items)
            group.add_rewards(items)
            head.write(connection)
            raise _TakenBack

    def _leave_out(self, item: Item, error: Exception) -> None:
        """Keep a record that cannot be written in `quarantine`, if that takes it, and answer who waits for it."""
        record = item.record
        kind = "reward" if isinstance(record, Reward) else "decision"
        with self.learner.lock:
            self.counters["failed_records"] += 1
            self.counters["refused_invalid"] += kind == "reward"
        self.forget(record.event_id)
        _log.error("a %s of event %.80r cannot be written and is left out: %s", kind, record.event_id, describe(error))
        try:
            self.ledger.quarantine(record.event_id, f"failed {kind}", self.clock(), item.payload)
        except Exception as problem:
            if is_outage(problem):
                raise
        if item.waiter is not None:
            item.waiter.set_result(answer(record, None, refused="invalid") if isinstance(record, Reward) else None)

    def close_windows(self, now_s: float) -> bool:
        """Settle one page of the windows that were over at `now_s`; True when none are left."""
        with self.ledger.writing() as (connection, head):
            group = self._group(connection, head, now_s)
            group.add_rewards(())  # those whose decision another process has written
            closed = group.close_windows(self._closed, PART)
        self._closed = closed
        self._finish(group, head)
        return closed is None

    def _group(self, connection: Connection, head: Head, now_s: float) -> Group:
        return Group(
            connection,
            head,
            rule=self.rule,
            learner=self.learner,
            influence=self.influence.copy(),
            now_s=now_s,
            logged=self.logged,
        )

    def _finish(self, group: Group, head: Head) -> None:
        self.influence = group.influence
        with self.learner.lock:
            self.counters.update(group.counts)
        try:
            self.fold(head.position, head.entries)
        finally:  # what is committed is answered; what could not be folded now is read from the log later
            for item, settlement in group.answers:
                if item.waiter is not None and not item.waiter.done():
                    item.waiter.set_result(settlement)
