"""One group of queued records in one transaction: the shelf on which the settling machine works with a database.

What a group may ask for is read once for all its events; what it keeps is written once at the end of each step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Float, bindparam, delete, exists, select

from bandit_router.records.decisions import Decision, Refusal, Settlement
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.door import Influence
from bandit_router.settling.learner import Learner
from bandit_router.settling.machine import Machine
from bandit_router.settling.rules import Reward, Settled, StoreRule
from bandit_router.store.engine import insert_rows
from bandit_router.store.entries import row_sum
from bandit_router.store.ledger import Head
from bandit_router.store.schema import decisions, early, log, quarantine, rewards
from bandit_router.store.spool import Item
from bandit_router.store.wire import amounts, decode_reward, encode_decision, encode_reward, encode_values, readable

_IDS = 500
_EARLY = 1000
_GRACE_S = 1.0  # a reward reported just before a window closed is on its way through some queue
_DECIDED = exists().where(decisions.c.event_id == early.c.event_id)
_OVER = bindparam("now_s", type_=Float) - early.c.at_s > bindparam("early_s", type_=Float)
_READY = select(early).where(_DECIDED | _OVER).order_by(early.c.id).limit(_EARLY)
_outcome = msgspec.msgpack.Decoder(Outcome)


class Place(NamedTuple):
    """A decision in the order in which windows close."""

    closes_s: float
    event_id: str


class Group:
    """What one transaction does. Make one, call its steps in order, and read the results after the commit.

    Its middle part is the shelf of `settling.machine.Shelf`.

    Args:
        connection, head: the transaction. rule, learner, influence: how decisions settle, see `Machine`.
        now_s: the router's clock; to close windows, when all that is in the database by now had been queued.
        logged: a decision known to be in the database by now, or None.

    Attributes:
        answers: what each waiting reporter is told. counts: what to add to the counters.
        rewritten: remembered decisions that the database had lost, or never had.
    """

    def __init__(
        self,
        connection: Connection,
        head: Head,
        *,
        rule: StoreRule,
        learner: Learner,
        influence: Influence,
        now_s: float,
        logged: Callable[[str], Decision | None],
    ) -> None:
        self.connection, self.head, self.rule = connection, head, rule
        self.learner, self.influence, self.utility = learner, influence, learner.utility
        self.now_s, self.logged = now_s, logged
        self.until_s = now_s - min(_GRACE_S, rule.window_s / 4)
        self.answers: list[tuple[Item, Settlement]] = []
        self.counts: Counter[str] = Counter()
        self.rewritten: list[Decision] = []
        self._known: dict[str, Decision] = {}
        self._history: dict[str, dict[str, Outcome]] = {}
        self._settled: set[str] = set()
        self._appended: set[str] = set()
        self._kept: list[tuple[Any, ...]] = []
        self._waiting: list[tuple[Any, ...]] = []
        self._refused: list[tuple[Any, ...]] = []

    # -- decisions -------------------------------------------------------------------------------------------

    def add_decisions(self, items: Sequence[Item]) -> None:
        """Insert decisions; one that another process has made differently is settled unlearned at once."""
        self._insert([(item.record, item.payload) for item in items if isinstance(item.record, Decision)])

    def _insert(self, new: Sequence[tuple[Decision, bytes]]) -> None:
        if not new:
            return
        rows = [self._row(decision, payload) for decision, payload in new]
        columns = ("event_id", "at_s", "closes_s", "arm", "propensity", "mode", "tenant", "unit", "record", "crc")
        earliest_s = min(row[2] for row in rows)  # strictly before it, so that closing does not pass over it
        self.head.closed_s = min(self.head.closed_s, math.nextafter(earliest_s, -math.inf))
        if insert_rows(self.connection, decisions, columns, rows) < len(rows):
            self._find_conflicts(decision for decision, _ in new)

    def _row(self, decision: Decision, payload: bytes) -> tuple[Any, ...]:
        at_s = decision.timestamp_s
        closes_s = at_s + self.rule.window_s
        queried = decision.arm, decision.propensity, decision.mode, decision.tenant, decision.unit
        return decision.event_id, at_s, closes_s, *queried, payload, row_sum(decision.event_id, payload)

    def _find_conflicts(self, made: Iterable[Decision]) -> None:
        mine = {decision.event_id: decision for decision in made}
        kept = self._decisions(mine)
        clashing = [
            kept[event_id]
            for event_id, decision in mine.items()
            if event_id in kept
            and (kept[event_id].arm, kept[event_id].propensity) != (decision.arm, decision.propensity)
        ]
        settled = self._settled_among(decision.event_id for decision in clashing)
        for decision in clashing:
            if decision.event_id not in settled:
                self._machine().conflict(decision)

    # -- rewards ---------------------------------------------------------------------------------------------

    def add_rewards(self, items: Iterable[Item]) -> None:
        """Count rewards in order of arrival, those included whose decision has come since they did."""
        queue: list[tuple[Reward, Item | None]] = [(reward, None) for reward in self._matched_early()]
        queue += [(item.record, item) for item in items if isinstance(item.record, Reward)]
        if not queue:
            return
        ids = {reward.event_id for reward, _ in queue}
        self._known = self._find(ids)
        self._history = self._rewards_of(ids)
        self._settled = self._settled_among(ids)
        machine = self._machine()
        for reward, item in queue:
            settlement = machine.report(reward, self.now_s)
            if item is not None:
                self.answers.append((item, settlement))
        insert_rows(self.connection, rewards, ("event_id", "reward_id", "at_s", "outcome", "source"), self._kept)
        insert_rows(self.connection, early, ("event_id", "at_s", "reward"), self._waiting)
        insert_rows(self.connection, quarantine, ("event_id", "reason", "at_s", "reward"), self._refused)

    def _find(self, ids: set[str]) -> dict[str, Decision]:
        """Decisions of these events. One that is only remembered is written first, so that no reward is without it."""
        known = {event_id: found for event_id in ids if (found := self.logged(event_id)) is not None}
        columns = (decisions.c.event_id, decisions.c.arm, decisions.c.propensity)
        there = {row.event_id: (row.arm, row.propensity) for row in self._select(columns, known)}
        for event_id, decision in known.items():
            if there.get(event_id) != (decision.arm, decision.propensity):
                self.rewritten.append(decision)
        self._insert([(decision, encode_decision(decision)) for decision in self.rewritten])
        return known | self._decisions(ids - known.keys())

    def _matched_early(self) -> list[Reward]:
        """Waiting rewards whose decision is there now or will not come any more, in order of arrival."""
        given = {"now_s": self.now_s, "early_s": self.rule.early_s}
        rows = self.connection.execute(_READY, given).all()
        if rows:
            self.connection.execute(delete(early).where(early.c.id.in_([row.id for row in rows])))
        found = []
        for row in rows:
            with suppress(msgspec.MsgspecError):  # a damaged row counts for nothing
                found.append(decode_reward(row.reward))
        return found

    # -- the shelf -------------------------------------------------------------------------------------------

    @property
    def next_position(self) -> int:
        """Position of the next entry of the settled log."""
        return self.head.next

    def decision(self, event_id: str) -> Decision | None:
        """The decision of an event of this group."""
        return self._known.get(event_id)

    def rewards(self, event_id: str) -> dict[str, Outcome]:
        """The counted rewards of an event of this group by id."""
        return self._history.setdefault(event_id, {})

    def settled(self, event_id: str) -> bool:
        """Whether an event of this group is settled."""
        return event_id in self._settled or event_id in self._appended

    def keep(self, reward: Reward) -> None:
        """Keep a counted reward."""
        self.rewards(reward.event_id)[reward.reward_id] = reward.outcome
        outcome = encode_values(amounts(reward.outcome))
        self._kept.append((reward.event_id, reward.reward_id, reward.at_s, outcome, reward.source))

    def wait(self, reward: Reward) -> None:
        """Keep an early reward."""
        self._waiting.append((reward.event_id, reward.at_s, encode_reward(reward)))

    def append(self, entry: Settled) -> None:
        """Append an entry to the log of this transaction; it is folded after the commit."""
        self.head.entries.append(entry)
        self._appended.add(entry.decision.event_id)

    def refuse(self, reward: Reward, reason: Refusal) -> None:
        """Keep a refused reward in quarantine."""
        self._refused.append((reward.event_id, reason, reward.at_s, encode_reward(reward)))

    # -- windows ---------------------------------------------------------------------------------------------

    def close_windows(self, after: Place | None, limit: int) -> Place | None:
        """Settle up to `limit` decisions whose windows are over, in order of closing.

        Args:
            after: what the page before has returned; it counts where the head still stands there.

        Returns:
            the place to go on from, None when no such decision is left.
        """
        rows = self._due(after.event_id if after is not None and after.closes_s == self.head.closed_s else None, limit)
        self._history = self._rewards_of(row.event_id for row in rows)
        machine = self._machine()
        for row in rows:
            decision = readable(row.record)
            if decision is None:  # passed over, or no window after it would close
                self.counts["unreadable_decisions"] += 1
            else:
                machine.close(decision)
        if len(rows) < limit:
            self.head.closed_s = max(self.head.closed_s, self.until_s)
            return None
        self.head.closed_s = rows[-1].closes_s
        return Place(rows[-1].closes_s, rows[-1].event_id)

    def _due(self, after_id: str | None, limit: int) -> Sequence[Any]:
        """Unsettled decisions whose windows close from the head's time on, past `after_id` at that very time."""
        table, from_s = decisions.c, self.head.closed_s
        due = (
            select(table.event_id, table.closes_s, table.record)
            .select_from(decisions.outerjoin(log, log.c.event_id == table.event_id))
            .where(table.closes_s >= from_s, table.closes_s < self.until_s, log.c.event_id.is_(None))
            .where(table.event_id.not_in(self._appended))
            .order_by(table.closes_s, table.event_id)
            .limit(limit)
        )
        if after_id is not None:
            due = due.where((table.closes_s > from_s) | (table.event_id > after_id))
        return self.connection.execute(due).all()

    # -- inside ----------------------------------------------------------------------------------------------

    def _machine(self) -> Machine:
        """Made anew for each step: one that the group kept would be a cycle, and garbage until the next collection."""
        return Machine(self, rule=self.rule, learner=self.learner, influence=self.influence, counts=self.counts)

    def _decisions(self, ids: Iterable[str]) -> dict[str, Decision]:
        columns = (decisions.c.event_id, decisions.c.record)
        found = {row.event_id: readable(row.record) for row in self._select(columns, ids)}
        return {event_id: decision for event_id, decision in found.items() if decision is not None}

    def _settled_among(self, ids: Iterable[str]) -> set[str]:
        wanted = set(ids)
        return {row.event_id for row in self._select((log.c.event_id,), wanted)} | (wanted & self._appended)

    def _rewards_of(self, ids: Iterable[str]) -> dict[str, dict[str, Outcome]]:
        columns = (rewards.c.event_id, rewards.c.id, rewards.c.reward_id, rewards.c.outcome)
        found: dict[str, dict[str, Outcome]] = {}
        for row in sorted(self._select(columns, ids), key=lambda row: row.id):
            with suppress(msgspec.MsgspecError):  # a damaged row counts for nothing
                found.setdefault(row.event_id, {})[row.reward_id] = _outcome.decode(row.outcome)
        return found

    def _select(self, columns: tuple[Any, ...], ids: Iterable[str]) -> list[Any]:
        """Rows of a table by event id."""
        wanted = sorted(ids)
        rows: list[Any] = []
        for start in range(0, len(wanted), _IDS):
            matching = columns[0].in_(wanted[start : start + _IDS])
            rows += self.connection.execute(select(*columns).where(matching)).all()
        return rows
