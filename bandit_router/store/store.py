"""The store a router is given, and the side of it that requests meet: nothing here waits without a bound."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput, StoreUnavailable
from bandit_router.records.arms import Arm, Status
from bandit_router.records.decisions import Decision, Settlement
from bandit_router.settling.forks import tell_child
from bandit_router.settling.learner import Learner
from bandit_router.settling.protocol import Control, Cooling
from bandit_router.settling.rules import Reward, RewardRule, StoreRule, answer, bill, check_ids
from bandit_router.store.settings import StoreSettings
from bandit_router.store.spool import Item, Spool
from bandit_router.store.wire import encode_decision, encode_reward

if TYPE_CHECKING:
    from bandit_router.store.ledger import Ledger
    from bandit_router.store.writer import Writer

_POLL_S = 0.0005


class Store(StoreSettings):
    """A durable event store on SQLite or PostgreSQL, for `Router(store=...)`; arguments: see `StoreSettings`.

    Example:
        >>> import tempfile
        >>> from bandit_router import Arm, Outcome, Router
        >>> folder = tempfile.TemporaryDirectory()
        >>> with Router(arms=[Arm(id="a")], context=1, store=Store(f"sqlite:///{folder.name}/events.db")) as router:
        ...     arm = router.decide([1.0], event_id="r-1").arm
        ...     reward = router.observe("r-1", Outcome(quality=0.9)).reward
        >>> with Router(arms=[Arm(id="a")], context=1, store=Store(f"sqlite:///{folder.name}/events.db")) as router:
        ...     router.policy.steps
        1
        >>> folder.cleanup()
    """

    def attach(
        self,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        budgets: Budgets | None = None,
        cooling: Cooling | None = None,
    ) -> AttachedStore:
        """Open the database, bring the learner to the state of its log and the budgets to what was spent.

        While the database cannot be reached the router serves with what it has, and this goes on in the background.

        Raises:
            InvalidInput: the database belongs to other arms, or to a newer version of this package.
        """
        return AttachedStore(
            self,
            learner,
            rule=StoreRule.of(rule, early_s=self.early_s),
            counters=counters,
            clock=clock,
            budgets=budgets,
            cooling=cooling,
        )


class AttachedStore:
    """The event store of one router (see `settling.protocol.EventStore`). Use `Store`, which explains the settings."""

    def __init__(
        self,
        settings: Store,
        learner: Learner,
        *,
        rule: StoreRule,
        counters: Counter[str],
        clock: Callable[[], float],
        budgets: Budgets | None,
        cooling: Cooling | None,
    ) -> None:
        from bandit_router.store.engine import place_of
        from bandit_router.store.writer import Writer

        self.settings, self.learner, self.counters = settings, learner, counters
        self.rule, self.budgets = rule, budgets
        self._closed = False
        self.max_events = settings.max_events
        self._recent: OrderedDict[str, Decision] = OrderedDict()
        self._logged: dict[str, Decision] = {}
        self._parents: list[Any] = []  # what a fork left to the parent: kept, never touched
        self._reopening: threading.Lock | None = None
        self._make_writer = partial(
            Writer,
            settings,
            learner=learner,
            rule=rule,
            counters=counters,
            clock=clock,
            logged=self._logged.get,
            forget=self._forget,
            reload=self._reload,
            remembered=lambda: self._open(rule.window_s),
            budgets=budgets,
            cooling=cooling,
        )
        self._owner = "" if settings.own_folder else place_of(settings.url)
        self._spool, self._writer = self._begin()
        tell_child(self)
        try:
            self._writer.start()
        except InvalidInput:
            self.close()
            raise

    def _begin(self) -> tuple[Spool, Writer]:
        settings = self.settings
        spool = Spool(folder=settings.spool, capacity_bytes=settings.queue_bytes, owner=self._owner)
        self.counters["queues_in_memory"] += spool.in_memory
        return spool, self._make_writer(spool=spool)

    # -- forks -----------------------------------------------------------------------------------------------

    def forked(self) -> None:
        """In a forked child: queue, thread and connections are the parent's; the first use here opens its own."""
        if self._closed:
            return
        self._spool.disown()
        self._parents.append((self._spool, self._writer))
        self._reopening = threading.Lock()

    def _here(self) -> None:
        """Open this process's own queue and connections, if it is a child that has none yet.

        Raises:
            InvalidInput: replicas that share by deltas, whose names must differ.
        """
        if self._reopening is None:
            return
        if self.settings.share is not None:
            raise InvalidInput(
                "this router was made before a fork, and replicas that share by deltas need names of their own: "
                "make the router after the fork, with another replica="
            )
        with self._reopening:
            if self._writer is self._parents[-1][1]:
                self._spool, self._writer = self._begin()
                self._writer.start()
        self._reopening = None

    def _forget(self, event_id: str) -> None:
        self._logged.pop(event_id, None)

    def _open(self, window_s: float) -> list[Decision]:
        """Decisions that were queued or written, and whose windows are open."""
        opened_s = self._writer.clock() - window_s
        with self.learner.lock:
            return [decision for decision in self._logged.values() if decision.timestamp_s > opened_s]

    def _reload(self, ledger: Ledger) -> None:
        """Remember the decisions whose windows are open, so that a retry after a restart gets the same answer."""
        earlier = ledger.recent(self._writer.clock(), self.max_events)
        with self.learner.lock:
            if self._writer.spending is not None:
                self._writer.spending.adopt(self._recent.values())
            for decision in earlier:
                if decision.event_id not in self._recent:
                    self.remember(decision)
                    self._logged[decision.event_id] = decision

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to reach the database succeeded."""
        return self._writer.healthy

    # -- decisions -------------------------------------------------------------------------------------------

    def accepting(self) -> bool:
        """Whether new decisions can be kept; only `degrade` ever says no."""
        return self.settings.back_pressure != "degrade" or not self._spool.crowded

    def find(self, event_id: str) -> Decision | None:
        """The decision of an event, if it is among the recent ones."""
        return self._recent.get(event_id)

    def look_up(self, event_id: str) -> Decision | None:
        """The decision of an event, from memory or from the database. Raises StoreUnavailable after `wait_s`."""
        found: list[Decision | None] = [self.find(event_id)]
        if found[0] is None:
            self._writer.ask(lambda ledger: found.append(ledger.decision(event_id)))
        return found[-1]

    def remember(self, decision: Decision) -> None:
        """Make a new decision findable."""
        self._recent[decision.event_id] = decision
        if len(self._recent) > self.max_events:
            event_id, _ = self._recent.popitem(last=False)
            self._logged.pop(event_id, None)

    def record(self, decision: Decision) -> None:
        """Put a decision on its way to the database."""
        self._here()
        item = self._item(decision)
        deadline = time.monotonic() + self.settings.bound_s
        while not self._spool.offer(item):
            if not self._may_wait(deadline):
                return
            time.sleep(_POLL_S)
        self._logged[decision.event_id] = decision
        if item.waiter is not None:
            self._wait(item.waiter, deadline - time.monotonic())

    async def arecord(self, decision: Decision) -> None:
        """The same, awaiting."""
        self._here()
        item = self._item(decision)
        deadline = time.monotonic() + self.settings.bound_s
        while not self._spool.offer(item):
            if not self._may_wait(deadline):
                return
            try:
                await asyncio.sleep(_POLL_S)
            except asyncio.CancelledError:  # while it waited for room
                self._add("shed_decisions")
                raise
        self._logged[decision.event_id] = decision
        if item.waiter is not None:
            await self._await(item.waiter, deadline - time.monotonic())

    def _item(self, decision: Decision) -> Item:
        waits = self.settings.durability == "power"
        return Item(decision, encode_decision(decision), Future() if waits else None)

    def _may_wait(self, deadline: float) -> bool:
        if self.settings.back_pressure == "block" and time.monotonic() < deadline:
            return True
        self._add("shed_decisions")
        return False

    # -- rewards ---------------------------------------------------------------------------------------------

    def report(self, reward: Reward) -> Settlement:
        """Queue a reward and wait for its settlement, within `wait_s`."""
        waiter = self._submit(reward)
        if waiter is None:
            return self._unavailable(reward)
        settlement: Settlement | None = self._wait(waiter, self.settings.wait_s)
        return answer(reward, self.find(reward.event_id)) if settlement is None else settlement

    async def areport(self, reward: Reward) -> Settlement:
        """The same, awaiting."""
        waiter = self._submit(reward)
        if waiter is None:
            return self._unavailable(reward)
        settlement: Settlement | None = await self._await(waiter, self.settings.wait_s)
        return answer(reward, self.find(reward.event_id)) if settlement is None else settlement

    def _submit(self, reward: Reward) -> Future[Any] | None:
        self._here()
        waiter: Future[Any] = Future()
        try:
            check_ids(reward)
        except InvalidInput:
            self._add("refused_invalid")
            waiter.set_result(answer(reward, None, refused="invalid"))
            return waiter
        if self.budgets is not None and (billed := bill(self.rule, reward)) is not None:
            with self.learner.lock:
                self.budgets.apply(billed)
        return waiter if self._spool.offer(Item(reward, encode_reward(reward), waiter)) else None

    def _unavailable(self, reward: Reward) -> Settlement:
        self._add("refused_unavailable")
        return answer(reward, self.find(reward.event_id), refused="unavailable")

    # -- arms and the end ------------------------------------------------------------------------------------

    def add_arm(self, arm: Arm, *, like: int | None, strength: float) -> None:
        """Append an arm to the log; it is there for every process that reads the log. Raises StoreUnavailable."""
        self._here()
        self._writer.ask(lambda ledger: ledger.add_arms([arm], like=like, strength=strength))

    def set_status(self, arm_id: str, status: str, *, by: str | None = None) -> None:
        """Keep an arm's status.

        Raises:
            StoreUnavailable: with the change in force in this process, and saved later.
            InvalidInput: the arm has been retired meanwhile, perhaps by another process; now it is retired here too.
        """
        self._here()
        self._writer.statuses.change(arm_id, status)
        self._writer.changes.note(f"arm {arm_id}", status, by)
        self._writer.ask(self._writer.statuses.save)
        if status != "retired" and self.learner.catalogue.status(arm_id) is Status.RETIRED:
            raise InvalidInput(f"arm {arm_id!r} has been retired meanwhile; add it again under another id")

    def steer(self, controls: Mapping[str, Control]) -> None:
        """Keep these settings, and put in force what the store has of them, now or when it can be reached."""
        self._writer.changes.controls_are(controls)
        with suppress(StoreUnavailable):
            self._writer.ask(self._writer.changes.follow)

    def changed(self, name: str, *, by: str | None) -> None:
        """Keep a setting that was changed here. Raises StoreUnavailable: in force in this process, and saved later."""
        self._writer.changes.sign(name, by)
        self._writer.ask(self._writer.changes.follow)

    def note(self, name: str, what: Any, *, by: str | None) -> None:
        """Keep for the record what was changed by other means."""
        self._writer.changes.note(name, what, by)

    def flush(self) -> None:
        """Wait until everything recorded so far is in the database. Raises StoreUnavailable after `wait_s`."""
        self._here()
        self._writer.ask(lambda ledger: None)

    def close(self) -> None:
        """Write what is queued, take a last snapshot, stop the writer; no longer than `wait_s` and a few seconds."""
        self._closed = True
        if self._reopening is None:  # else the queue is a parent's
            self._writer.stop()
            self._spool.close()

    # -- waiting ---------------------------------------------------------------------------------------------

    def _wait(self, waiter: Future[Any], timeout_s: float) -> Any:
        try:
            return waiter.result(max(0.0, timeout_s) if self.healthy or waiter.done() else 0.0)
        except WaitTimeout:
            self._add("unconfirmed")
            return None

    async def _await(self, waiter: Future[Any], timeout_s: float) -> Any:
        wrapped = asyncio.shield(asyncio.wrap_future(waiter))
        try:
            return await asyncio.wait_for(wrapped, max(0.0, timeout_s) if self.healthy or waiter.done() else 0.0)
        except TimeoutError:
            self._add("unconfirmed")
            return None

    def _add(self, counter: str) -> None:
        with self.learner.lock:
            self.counters[counter] += 1
