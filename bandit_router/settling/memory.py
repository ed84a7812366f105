"""The event store of a router without a database: the same rules, in memory only, gone with the process."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

import msgspec

from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision, Refusal, Settlement
from bandit_router.records.outcomes import Outcome
from bandit_router.settling.learner import ArmAdded, Learner, give_way
from bandit_router.settling.rules import (
    Reward,
    RewardRule,
    Settled,
    StoreRule,
    answer,
    check_ids,
    divert,
    refusal,
    settle,
)


class _Event(msgspec.Struct, eq=False, gc=False):
    """A decision, the rewards it has by id, and whether it has been settled."""

    decision: Decision
    rewards: dict[str, Outcome] = msgspec.field(default_factory=dict)
    settled: bool = False


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Decisions in memory only, gone with the process: what a router has that is given no other store.

    Attributes:
        max_events: decisions remembered; beyond that the oldest is forgotten, and counted if unsettled.
        early_s: how long a reward waits for its decision, seconds. Nobody else decides here, so by default a reward
            for an event that is not known is a mistake, and refused at once.
    """

    max_events: int = 100_000
    early_s: float = 0.0

    def __post_init__(self) -> None:
        if self.max_events < 1:
            raise InvalidInput(f"max_events must be above 0, got {self.max_events}")
        if not self.early_s >= 0:
            raise InvalidInput(f"early_s must be at least 0, got {self.early_s}")

    def attach(
        self,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        budgets: Budgets | None = None,
    ) -> MemoryStore:
        """An empty event store."""
        applied = StoreRule.of(rule, early_s=self.early_s)
        return MemoryStore(learner=learner, rule=applied, max_events=self.max_events, counters=counters)


class MemoryStore:
    """Keeps the last `max_events` decisions; an older one is forgotten, and counted if it was unsettled.

    Windows close as later decisions and rewards bring the time; there is no thread.

    Args:
        learner: what settled decisions are folded into. rule: when and how they settle. max_events: see above.
        counters: shared with the router.
    """

    def __init__(self, *, learner: Learner, rule: StoreRule, max_events: int, counters: Counter[str]) -> None:
        self.learner, self.rule, self.max_events, self.counters = learner, rule, max_events, counters
        self._events: OrderedDict[str, _Event] = OrderedDict()
        self._open: deque[_Event] = deque()
        self._early: OrderedDict[str, list[Reward]] = OrderedDict()

    # -- decisions -------------------------------------------------------------------------------------------

    def accepting(self) -> bool:
        """Whether decisions can be kept: always."""
        return True

    def find(self, event_id: str) -> Decision | None:
        """The decision of an event, if it is remembered."""
        event = self._events.get(event_id)
        return None if event is None else event.decision

    def remember(self, decision: Decision) -> None:
        """Keep a new decision, and count the rewards that came before it."""
        self.close_windows(decision.timestamp_s)
        event = self._events[decision.event_id] = _Event(decision)
        self._open.append(event)
        if len(self._events) > self.max_events:
            _, oldest = self._events.popitem(last=False)
            self.counters["forgotten"] += not oldest.settled
            oldest.settled = True
        if self._early:
            for reward in self._early.pop(decision.event_id, ()):
                self._count(reward)

    def record(self, decision: Decision) -> None:
        """Make a decision durable: nothing to do here."""

    async def arecord(self, decision: Decision) -> None:
        """Make a decision durable: nothing to do here."""

    # -- rewards ---------------------------------------------------------------------------------------------

    def report(self, reward: Reward) -> Settlement:
        """Count one reward; one that comes before its decision waits for it."""
        with self.learner.lock:
            begun = time.monotonic()
            settlement = self._report(reward)
        give_way(begun)
        return settlement

    def _report(self, reward: Reward) -> Settlement:
        try:
            check_ids(reward)
        except InvalidInput:
            return self._refuse(reward, None, "invalid")
        self.close_windows(reward.at_s)
        if reward.event_id in self._events or self.rule.early_s == 0 or reward.outcome.problem():
            return self._count(reward)
        self._early.setdefault(reward.event_id, []).append(reward)
        return answer(reward, None)

    async def areport(self, reward: Reward) -> Settlement:
        """The same; it never waits."""
        return self.report(reward)

    def _count(self, reward: Reward) -> Settlement:
        event = self._events.get(reward.event_id)
        if event is None:
            return self._refuse(reward, None, "unknown")
        decision = event.decision
        reason = refusal(self.rule, reward, decision, seen=event.rewards, settled=event.settled)
        if reason is not None:
            return self._refuse(reward, decision, reason)
        position = self.learner.position + 1
        if reward.served_arm not in (None, decision.arm):
            self._settle(event, divert(self.learner.utility, decision, reward.outcome, position=position))
            return self._refuse(reward, decision, "diverted")
        event.rewards[reward.reward_id] = reward.outcome
        entry = self._entry(event, closed=False)
        if entry is not None:
            self._settle(event, entry)
        return answer(reward, decision, entry)

    def _entry(self, event: _Event, *, closed: bool) -> Settled | None:
        outcomes, position = list(event.rewards.values()), self.learner.position + 1
        return settle(self.rule, self.learner.utility, event.decision, outcomes, position=position, closed=closed)

    def _settle(self, event: _Event, entry: Settled) -> None:
        event.settled = True
        self.learner.apply(entry)
        self.counters["settled"] += 1
        self.counters[f"settled_{entry.status}"] += 1

    def _refuse(self, reward: Reward, decision: Decision | None, reason: Refusal) -> Settlement:
        self.counters[f"refused_{reason}"] += 1
        return answer(reward, decision, refused=reason)

    def close_windows(self, now_s: float) -> None:
        """Settle every decision whose window is over, oldest first, and give up early rewards nobody decided on."""
        opened_s = now_s - self.rule.window_s
        while self._open and (self._open[0].settled or self._open[0].decision.timestamp_s < opened_s):
            event = self._open.popleft()
            if not event.settled and (entry := self._entry(event, closed=True)) is not None:
                self._settle(event, entry)
        while self._early:
            waiting = next(iter(self._early.values()))
            if len(self._early) <= self.max_events and now_s - waiting[0].at_s <= self.rule.early_s:
                break
            self._early.popitem(last=False)
            self.counters["refused_unknown"] += len(waiting)

    # -- arms ------------------------------------------------------------------------------------------------

    def add_arm(self, arm: Arm, *, like: int | None, strength: float) -> None:
        """Append an arm to catalogue and policy."""
        with self.learner.lock:
            entry = ArmAdded(
                position=self.learner.position + 1,
                index=len(self.learner.catalogue),
                arm=arm,
                like=like,
                strength=strength,
            )
            self.learner.apply(entry)

    def set_status(self, arm_id: str, status: str) -> None:
        """Remember an arm's status: nothing to do here."""

    def close(self) -> None:
        """Nothing to close."""
