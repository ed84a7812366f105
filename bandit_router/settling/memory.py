"""The event store of a router without a database: the shelf in memory, gone with the process."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision, Refusal, Settlement
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.settling.door import Influence
from bandit_router.settling.learner import ArmAdded, Learner, give_way
from bandit_router.settling.machine import Machine
from bandit_router.settling.protocol import Control, Cooling
from bandit_router.settling.rules import Reward, RewardRule, Settled, StoreRule, bill, check_ids


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
        cooling: Cooling | None = None,
    ) -> MemoryStore:
        """An empty event store."""
        applied = StoreRule.of(rule, early_s=self.early_s)
        return MemoryStore(
            learner=learner, rule=applied, max_events=self.max_events, counters=counters, budgets=budgets
        )


class MemoryStore:
    """Keeps the last `max_events` decisions; an older one is forgotten, and counted if it was unsettled.

    Windows close as later decisions and rewards bring the time; there is no thread.

    Args:
        learner: what settled decisions are folded into. rule: when and how they settle. max_events: see above.
        counters: shared with the router. budgets: the router's, None for none.
    """

    def __init__(
        self, *, learner: Learner, rule: StoreRule, max_events: int, counters: Counter[str], budgets: Budgets | None
    ) -> None:
        self.learner, self.rule, self.max_events = learner, rule, max_events
        self.counters, self.budgets = counters, budgets
        influence = Influence(rule.per_source)
        self.machine = Machine(self, rule=rule, learner=learner, influence=influence, counts=counters)
        self._events: OrderedDict[str, _Event] = OrderedDict()
        self._open: deque[_Event] = deque()
        self._early: dict[str, list[Reward]] = {}
        self._waiting: deque[Reward] = deque()  # those of `_early` in order of arrival, and some that wait no more

    @property
    def healthy(self) -> bool:
        """Always: nothing can be away."""
        return True

    # -- decisions -------------------------------------------------------------------------------------------

    def accepting(self) -> bool:
        """Whether decisions can be kept: always."""
        return True

    def find(self, event_id: str) -> Decision | None:
        """The decision of an event, if it is remembered."""
        event = self._events.get(event_id)
        return None if event is None else event.decision

    look_up = find

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
                self.machine.report(reward, decision.timestamp_s)

    def record(self, decision: Decision) -> None:
        """Make a decision durable: nothing to do here."""

    async def arecord(self, decision: Decision) -> None:
        """Make a decision durable: nothing to do here."""

    # -- rewards ---------------------------------------------------------------------------------------------

    def report(self, reward: Reward) -> Settlement:
        """Bill one reward and count it; one that comes before its decision waits for it."""
        with self.learner.lock:
            begun = time.monotonic()
            settlement = self._report(reward)
        give_way(begun)
        return settlement

    def _report(self, reward: Reward) -> Settlement:
        try:
            check_ids(reward)
        except InvalidInput:
            return self.machine.refuse(reward, None, "invalid")
        if self.budgets is not None and (billed := bill(self.rule, reward)) is not None:
            self.budgets.apply(billed)
        self.close_windows(reward.at_s)
        return self.machine.report(reward, reward.at_s)

    async def areport(self, reward: Reward) -> Settlement:
        """The same; it never waits."""
        return self.report(reward)

    def close_windows(self, now_s: float) -> None:
        """Settle every decision whose window is over, oldest first, and give up early rewards nobody decided on."""
        opened_s = now_s - self.rule.window_s
        while self._open and (self._open[0].settled or self._open[0].decision.timestamp_s < opened_s):
            event = self._open.popleft()
            if not event.settled:
                self.machine.close(event.decision)
        while self._waiting:
            reward = self._waiting[0]
            if len(self._waiting) <= self.max_events and now_s - reward.at_s <= self.rule.early_s:
                break
            self._give_up(self._waiting.popleft())

    def _give_up(self, reward: Reward) -> None:
        early = self._early.get(reward.event_id)
        if early is not None and early[0] is reward:  # else its decision has come
            del early[0]
            if not early:
                del self._early[reward.event_id]
            self.machine.refuse(reward, None, "unknown")

    # -- the shelf, see `machine.Shelf` ----------------------------------------------------------------------

    @property
    def utility(self) -> Utility:
        """The prices in force."""
        return self.learner.utility

    @property
    def next_position(self) -> int:
        """Position of the next entry of the settled log."""
        return self.learner.position + 1

    decision = find

    def rewards(self, event_id: str) -> dict[str, Outcome]:
        """The counted rewards of an event by id."""
        return self._events[event_id].rewards

    def settled(self, event_id: str) -> bool:
        """Whether an event is settled."""
        return self._events[event_id].settled

    def keep(self, reward: Reward) -> None:
        """Keep a counted reward."""
        self._events[reward.event_id].rewards[reward.reward_id] = reward.outcome

    def wait(self, reward: Reward) -> None:
        """Keep an early reward."""
        self._early.setdefault(reward.event_id, []).append(reward)
        self._waiting.append(reward)

    def append(self, entry: Settled) -> None:
        """Mark an event as settled and learn from it."""
        self._events[entry.decision.event_id].settled = True
        self.learner.apply(entry)

    def refuse(self, reward: Reward, reason: Refusal) -> None:
        """Refused rewards are counted, and kept nowhere."""

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

    def set_status(self, arm_id: str, status: str, *, by: str | None = None) -> None:
        """Remember an arm's status: nothing to do here."""

    def steer(self, controls: Mapping[str, Control]) -> None:
        """Keep settings: nothing to do here."""

    def changed(self, name: str, *, by: str | None) -> None:
        """Keep a changed setting: nothing to do here."""

    def note(self, name: str, what: Any, *, by: str | None) -> None:
        """Keep what was changed: nothing to do here."""

    def flush(self) -> None:
        """Wait for what is under way: nothing ever is."""

    def close(self) -> None:
        """Nothing to close."""
