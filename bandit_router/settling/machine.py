"""The one machine that settles: what becomes of a reward, in which order it is refused, what is kept and counted.

It works over a shelf, which only keeps things: `memory.MemoryStore`, or `store.group.Group`, one transaction of a
database. So a router in memory and one with a store give the same answers and count the same. What differs is when a
shelf lets windows close.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from bandit_router.records.decisions import Decision, Refusal, Settlement
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.settling.door import Influence
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import (
    Reward,
    Settled,
    StoreRule,
    answer,
    combine,
    conflicting,
    fail,
    refusal,
    settle,
)


class Shelf(Protocol):
    """What the machine reads and writes; a shelf that writes later knows what it holds back."""

    @property
    def utility(self) -> Utility:
        """The prices in force."""

    @property
    def next_position(self) -> int:
        """Position of the next entry of the settled log."""

    def decision(self, event_id: str) -> Decision | None:
        """The decision of an event, if there is one."""

    def rewards(self, event_id: str) -> Mapping[str, Outcome]:
        """The counted rewards of a decided event by reward id, in order of arrival."""

    def settled(self, event_id: str) -> bool:
        """Whether a decided event is settled."""

    def keep(self, reward: Reward) -> None:
        """Keep a counted reward."""

    def wait(self, reward: Reward) -> None:
        """Keep a reward until its decision comes, or may not come any more; then it is reported again."""

    def append(self, entry: Settled) -> None:
        """Append an entry to the settled log; its event is settled from now on."""

    def refuse(self, reward: Reward, reason: Refusal) -> None:
        """Keep a refused reward with its reason, where there is a place for it."""


class Machine:
    """Counts rewards and settles decisions.

    Args:
        shelf: where decisions, rewards and the log are. rule: when and how decisions settle.
        learner: whose door says which outcomes are suspect. influence: counts the rewards of each source.
        counts: takes what was refused and settled, and why.
    """

    def __init__(
        self, shelf: Shelf, *, rule: StoreRule, learner: Learner, influence: Influence, counts: Counter[str]
    ) -> None:
        self.shelf, self.rule, self.counts = shelf, rule, counts
        self.learner, self.influence = learner, influence

    def report(self, reward: Reward, now_s: float) -> Settlement:
        """Count one reward, whose ids are valid, or refuse it; one before its decision waits while that may come."""
        shelf, event_id = self.shelf, reward.event_id
        decision = shelf.decision(event_id)
        if decision is None:
            return self._before_decision(reward, now_s)
        seen, settled = shelf.rewards(event_id), shelf.settled(event_id)
        reason = refusal(self.rule, reward, decision, seen=seen, settled=settled)
        if reason is not None:
            entry = self._fail(decision, reward, Outcome(), "diverted") if reason == "diverted" else None
            return self.refuse(reward, decision, reason, entry)
        if self.influence.spent(reward.source, reward.at_s):
            return self.refuse(reward, decision, "too_many")
        shelf.keep(reward)
        if reward.failure is None:
            entry = self._settle(decision, closed=False)
        else:
            told = combine(self.rule, list(shelf.rewards(event_id).values()))
            entry = self._fail(decision, reward, told, "failed")
        if entry is not None and entry.status == "suspect":
            return self.refuse(reward, decision, "suspect", entry)
        return answer(reward, decision, entry)

    def _before_decision(self, reward: Reward, now_s: float) -> Settlement:
        reason = refusal(self.rule, reward, None, seen=(), settled=False)
        early_s = self.rule.early_s
        if reason == "unknown" and early_s > 0 and now_s - reward.at_s <= early_s:
            self.shelf.wait(reward)
            return answer(reward, None)
        return self.refuse(reward, None, reason or "unknown")

    def refuse(
        self, reward: Reward, decision: Decision | None, reason: Refusal, entry: Settled | None = None
    ) -> Settlement:
        """Count a reward as refused and keep it; of a storm of them only the number is kept.

        `entry` is what it settled all the same: the failure of an arm that another one stood in for.
        """
        self.counts[f"refused_{reason}"] += 1
        if reason not in ("duplicate", "too_many"):
            self.shelf.refuse(reward, reason)
        return answer(reward, decision, entry, refused=reason)

    def close(self, decision: Decision) -> None:
        """Settle an open decision whose window is over at what it has."""
        self._settle(decision, closed=True)

    def conflict(self, decision: Decision) -> None:
        """Settle a decision that another process made differently; what it earned cannot be told apart."""
        self.counts["conflicting_decisions"] += 1
        self._append(conflicting(decision, position=self.shelf.next_position))

    def _settle(self, decision: Decision, *, closed: bool) -> Settled | None:
        shelf = self.shelf
        outcomes, position = list(shelf.rewards(decision.event_id).values()), shelf.next_position
        entry = settle(self.rule, shelf.utility, decision, outcomes, position=position, closed=closed)
        if entry is None:
            return None
        entry = self._doubted(entry)
        self._append(entry)
        return entry

    def _doubted(self, entry: Settled) -> Settled:
        """The entry, unlearned where a channel is far beyond all that was learned."""
        learner = self.learner
        amounts = entry.outcome.amounts(learner.channels)
        if not (entry.learned and learner.door.suspects(entry.decision.arm_index, amounts)):
            return entry
        return msgspec.structs.replace(entry, status="suspect", learned=False)

    def _fail(
        self, decision: Decision, reward: Reward, outcome: Outcome, status: Literal["failed", "diverted"]
    ) -> Settled:
        """Settle a decision whose arm failed; one that another arm served for has failed where nothing else is said."""
        kind, position = "diverted" if reward.failure is None else reward.failure.kind, self.shelf.next_position
        entry = fail(self.rule, self.shelf.utility, decision, kind, outcome, status, position=position)
        entry = self._doubted(entry)
        self._append(entry)
        return entry

    def _append(self, entry: Settled) -> None:
        self.shelf.append(entry)
        self.counts["settled"] += 1
        self.counts[f"settled_{entry.status}"] += 1
