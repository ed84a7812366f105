"""One group of queued records in one transaction: decisions, rewards, windows that close, entries of the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select

from bandit_router.records.decisions import Decision, Refusal, Settlement
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.settling.rules import Reward, Settled, StoreRule, answer, divert, refusal, settle
from bandit_router.store.engine import insert_rows
from bandit_router.store.entries import row_sum
from bandit_router.store.ledger import Head
from bandit_router.store.schema import decisions, early, log, quarantine, rewards
from bandit_router.store.spool import Item
from bandit_router.store.wire import (
    amounts,
    decode_reward,
    encode_decision,
    encode_reward,
    encode_values,
    readable,
)

_IDS = 500
_EARLY = 1000
_GRACE_S = 1.0  # a reward reported just before a window closed is on its way through some queue
_outcome = msgspec.msgpack.Decoder(Outcome)


class Place(NamedTuple):
    """A decision in the order in which windows close."""

    closes_s: float
    event_id: str


class Group:
    """What one transaction does. Make one, call its steps in order, and read the results after the commit.

    Args:
        connection, head: the transaction. rule, utility: how decisions settle.
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
        utility: Utility,
        now_s: float,
        logged: Callable[[str], Decision | None],
    ) -> None:
        self.connection, self.head, self.rule, self.utility = connection, head, rule, utility
        self.now_s, self.logged = now_s, logged
        self.until_s = now_s - min(_GRACE_S, rule.window_s / 4)
        self.answers: list[tuple[Item, Settlement]] = []
        self.counts: Counter[str] = Counter()
        self.rewritten: list[Decision] = []
        self._pending: set[str] = set()

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
        settled = self._settled(decision.event_id for decision in clashing)
        for decision in clashing:
            if decision.event_id not in settled:
                self.counts["conflicting_decisions"] += 1
                self._append(
                    Settled(
                        position=self.head.next,
                        decision=decision,
                        outcome=Outcome(),
                        reward=None,
                        status="conflict",
                        learned=False,
                    )
                )

    # -- rewards ---------------------------------------------------------------------------------------------

    def add_rewards(self, items: Iterable[Item]) -> None:
        """Count rewards in order of arrival, those included whose decision has come since they did."""
        queue: list[tuple[Reward, Item | None]] = [(reward, None) for reward in self._matched_early()]
        queue += [(item.record, item) for item in items if isinstance(item.record, Reward)]
        if not queue:
            return
        ids = {reward.event_id for reward, _ in queue}
        known = self._known(ids)
        history = self._history(ids)
        settled = self._settled(ids)
        counted: list[tuple[Any, ...]] = []
        for reward, item in queue:
            self._count(reward, item, known.get(reward.event_id), history, settled, counted)
        insert_rows(self.connection, rewards, ("event_id", "reward_id", "at_s", "outcome"), counted)

    def _known(self, ids: set[str]) -> dict[str, Decision]:
        """Decisions of these events. One that is only remembered is written first, so that no reward is without it."""
        known = {event_id: found for event_id in ids if (found := self.logged(event_id)) is not None}
        columns = (decisions.c.event_id, decisions.c.arm, decisions.c.propensity)
        there = {row.event_id: (row.arm, row.propensity) for row in self._select(columns, known)}
        for event_id, decision in known.items():
            if there.get(event_id) != (decision.arm, decision.propensity):
                self.rewritten.append(decision)
        self._insert([(decision, encode_decision(decision)) for decision in self.rewritten])
        return known | self._decisions(ids - known.keys())

    def _count(
        self,
        reward: Reward,
        item: Item | None,
        decision: Decision | None,
        history: dict[str, dict[str, Outcome]],
        settled: set[str],
        counted: list[tuple[Any, ...]],
    ) -> None:
        event_id = reward.event_id
        seen = history.setdefault(event_id, {})
        if decision is None and self._may_come(reward) and reward.outcome.problem() is None:
            row = (event_id, reward.at_s, encode_reward(reward))
            insert_rows(self.connection, early, ("event_id", "at_s", "reward"), [row])
            return self._answer(item, answer(reward, None))
        reason = refusal(self.rule, reward, decision, seen=seen, settled=event_id in settled)
        if reason is not None or decision is None:
            return self._refuse(reward, item, decision, reason or "unknown")
        entry: Settled | None
        if reward.served_arm not in (None, decision.arm):
            entry = divert(self.utility, decision, reward.outcome, position=self.head.next)
            self._refuse(reward, item, decision, "diverted")
        else:
            seen[reward.reward_id] = reward.outcome
            counted.append((event_id, reward.reward_id, reward.at_s, encode_values(amounts(reward.outcome))))
            entry = self._settle(decision, seen, closed=False)
            self._answer(item, answer(reward, decision, entry))
        if entry is not None:
            settled.add(event_id)
            self._append(entry)
        return None

    def _may_come(self, reward: Reward) -> bool:
        return self.rule.early_s > 0 and self.now_s - reward.at_s <= self.rule.early_s

    def _refuse(self, reward: Reward, item: Item | None, decision: Decision | None, reason: Refusal) -> None:
        self.counts[f"refused_{reason}"] += 1
        if reason != "duplicate":  # a storm of duplicates is counted, not kept
            row = (reward.event_id, reason, reward.at_s, encode_reward(reward))
            insert_rows(self.connection, quarantine, ("event_id", "reason", "at_s", "reward"), [row])
        self._answer(item, answer(reward, decision, refused=reason))

    def _answer(self, item: Item | None, settlement: Settlement) -> None:
        if item is not None:
            self.answers.append((item, settlement))

    def _matched_early(self) -> list[Reward]:
        """Waiting rewards whose decision is there now or will not come any more, in order of arrival."""
        rows = self.connection.execute(select(early).order_by(early.c.id).limit(_EARLY)).all()
        if not rows:
            return []
        decided = self._decisions({row.event_id for row in rows})
        ready = [row for row in rows if row.event_id in decided or self.now_s - row.at_s > self.rule.early_s]
        if ready:
            self.connection.execute(delete(early).where(early.c.id.in_([row.id for row in ready])))
        found = []
        for row in ready:
            with suppress(msgspec.MsgspecError):  # a damaged row counts for nothing
                found.append(decode_reward(row.reward))
        return found

    # -- windows ---------------------------------------------------------------------------------------------

    def close_windows(self, after: Place | None, limit: int) -> Place | None:
        """Settle up to `limit` decisions whose windows are over, in order of closing.

        Args:
            after: what the page before has returned; it counts where the head still stands there.

        Returns:
            the place to go on from, None when no such decision is left.
        """
        rows = self._due(after.event_id if after is not None and after.closes_s == self.head.closed_s else None, limit)
        history = self._history(row.event_id for row in rows)
        for row in rows:
            decision = readable(row.record)
            if decision is None:  # passed over, or no window after it would close
                self.counts["unreadable_decisions"] += 1
            elif (entry := self._settle(decision, history.get(row.event_id, {}), closed=True)) is not None:
                self._append(entry)
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
            .where(table.event_id.not_in(self._pending))
            .order_by(table.closes_s, table.event_id)
            .limit(limit)
        )
        if after_id is not None:
            due = due.where((table.closes_s > from_s) | (table.event_id > after_id))
        return self.connection.execute(due).all()

    # -- inside ----------------------------------------------------------------------------------------------

    def _settle(self, decision: Decision, seen: dict[str, Outcome], *, closed: bool) -> Settled | None:
        outcomes, position = list(seen.values()), self.head.next
        return settle(self.rule, self.utility, decision, outcomes, position=position, closed=closed)

    def _append(self, entry: Settled) -> None:
        self.head.entries.append(entry)
        self._pending.add(entry.decision.event_id)
        self.counts["settled"] += 1
        self.counts[f"settled_{entry.status}"] += 1

    def _decisions(self, ids: Iterable[str]) -> dict[str, Decision]:
        columns = (decisions.c.event_id, decisions.c.record)
        found = {row.event_id: readable(row.record) for row in self._select(columns, ids)}
        return {event_id: decision for event_id, decision in found.items() if decision is not None}

    def _settled(self, ids: Iterable[str]) -> set[str]:
        wanted = set(ids)
        return {row.event_id for row in self._select((log.c.event_id,), wanted)} | (wanted & self._pending)

    def _history(self, ids: Iterable[str]) -> dict[str, dict[str, Outcome]]:
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
