"""The store a router is given, and the side of it that requests meet: nothing here waits without a bound."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from bandit_router.arms import Arm, Status
from bandit_router.budgets import Budgets
from bandit_router.events import Decision, Settlement
from bandit_router.learner import Learner
from bandit_router.policies.base import InvalidInput
from bandit_router.rewards import Reward, RewardRule, answer, check_ids
from bandit_router.store.spool import Item, Spool
from bandit_router.store.wire import encode_decision, encode_reward

if TYPE_CHECKING:
    from bandit_router.store.ledger import Ledger
    from bandit_router.store.writer import Writer

Durability = Literal["relaxed", "process", "power"]
BackPressure = Literal["block", "shed", "degrade"]
_POLL_S = 0.0005


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


class Store:
    """A durable event store on SQLite or PostgreSQL, for `Router(store=...)`.

    Args:
        url: `sqlite:////var/lib/router/events.db`, or `postgresql://user@host/name` (needs the `postgres` extra).
        durability: what has survived once a call has returned. `relaxed`: nothing is promised. `process`: decisions and
            rewards survive `kill -9` of this process. `power`: they survive a power cut; every decision waits for it.
        back_pressure: when the queue to the database is full, a decision may `block` for up to `bound_s`, `shed` its
            record (it is served, never learned from), or `degrade` to the baseline arm. All three are counted.
        bound_s: the longest that `decide` waits for the store, seconds.
        wait_s: the longest that `observe` waits for its settlement, seconds; beyond that it answers "pending".
        spool: folder of the queue's files, on a local disk; default beside the SQLite file. PostgreSQL needs one,
            unless the durability is `relaxed`, which keeps the queue in memory.
        queue_bytes: size of the queue. One decision takes about 100 bytes + 8 per feature and arm.
        snapshot_every: log entries between two snapshots of the state.
        snapshot_key: secret that signs the snapshots (HMAC-SHA256); default unsigned, checksummed.
        replica: name of this process in the log; default host and process id.
        share: for many replicas of a linear policy, how they share by deltas; `replica` must then be a name that stays
            the same after a restart. Default: every process reads the whole log, and all stand at the same bytes.

    Example:
        >>> import tempfile
        >>> from bandit_router.router import Arm, Outcome, Router
        >>> folder = tempfile.TemporaryDirectory()
        >>> with Router(arms=[Arm(id="a")], dim=1, store=Store(f"sqlite:///{folder.name}/events.db")) as router:
        ...     arm = router.decide([1.0], event_id="r-1").arm
        ...     reward = router.observe("r-1", Outcome(quality=0.9)).reward
        >>> with Router(arms=[Arm(id="a")], dim=1, store=Store(f"sqlite:///{folder.name}/events.db")) as router:
        ...     router.policy.steps
        1
        >>> folder.cleanup()
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
        snapshot_every: int = 10_000,
        snapshot_key: bytes | None = None,
        replica: str | None = None,
        share: Sharing | None = None,
    ) -> None:
        if share is not None and replica is None:
            raise InvalidInput("replicas that share by deltas need a name that outlives the process: give replica=")
        self.share = share
        for name, value, allowed in (
            ("durability", durability, get_args(Durability)),
            ("back_pressure", back_pressure, get_args(BackPressure)),
        ):
            if value not in allowed:
                raise InvalidInput(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        self.url, self.durability, self.back_pressure = url, durability, back_pressure
        self.bound_s, self.wait_s = bound_s, wait_s
        self.spool = None if durability == "relaxed" else _spool_folder(url, spool)
        self.queue_bytes, self.snapshot_every, self.snapshot_key = queue_bytes, snapshot_every, snapshot_key
        self.replica = f"{socket.gethostname()}:{os.getpid()}" if replica is None else replica

    def attach(
        self,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        max_events: int,
        budgets: Budgets | None = None,
    ) -> AttachedStore:
        """Open the database, bring the learner to the state of its log and the budgets to what was spent.

        While the database cannot be reached the router serves with what it has, and this goes on in the background.

        Raises:
            InvalidInput: the database belongs to other arms, or to a newer version of this package.
        """
        return AttachedStore(
            self,
            learner,
            rule=rule,
            counters=counters,
            clock=clock,
            max_events=max_events,
            budgets=budgets,
        )


class AttachedStore:
    """The event store of one router (see `event_store.EventStore`). Use `Store`, which explains the settings."""

    def __init__(
        self,
        settings: Store,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        max_events: int,
        budgets: Budgets | None,
    ) -> None:
        from bandit_router.store.writer import Writer

        self.settings, self.learner, self.counters = settings, learner, counters
        self.max_events = max_events
        self._recent: OrderedDict[str, Decision] = OrderedDict()
        self._logged: dict[str, Decision] = {}
        self._spool = Spool(folder=settings.spool, capacity_bytes=settings.queue_bytes)
        self._writer: Writer = Writer(
            settings,
            self._spool,
            learner,
            rule=rule,
            counters=counters,
            clock=clock,
            logged=self._logged.get,
            reload=self._reload,
            budgets=budgets,
        )
        try:
            self._writer.start()
        except InvalidInput:
            self.close()
            raise

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

    def remember(self, decision: Decision) -> None:
        """Make a new decision findable."""
        self._recent[decision.event_id] = decision
        if len(self._recent) > self.max_events:
            event_id, _ = self._recent.popitem(last=False)
            self._logged.pop(event_id, None)

    def record(self, decision: Decision) -> None:
        """Put a decision on its way to the database."""
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
        item = self._item(decision)
        deadline = time.monotonic() + self.settings.bound_s
        while not self._spool.offer(item):
            if not self._may_wait(deadline):
                return
            await asyncio.sleep(_POLL_S)
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
        waiter: Future[Any] = Future()
        try:
            check_ids(reward)
            payload = encode_reward(reward)
        except (InvalidInput, TypeError, OverflowError):
            self._add("refused_invalid")
            waiter.set_result(answer(reward, None, refused="invalid"))
            return waiter
        return waiter if self._spool.offer(Item(reward, payload, waiter)) else None

    def _unavailable(self, reward: Reward) -> Settlement:
        self._add("refused_unavailable")
        return answer(reward, self.find(reward.event_id), refused="unavailable")

    # -- arms and the end ------------------------------------------------------------------------------------

    def add_arm(self, arm: Arm, *, like: int | None, strength: float) -> None:
        """Append an arm to the log; it is there for every process that reads the log. Raises StoreUnavailable."""
        self._writer.ask(lambda ledger: ledger.add_arms([arm], like=like, strength=strength))

    def set_status(self, arm_id: str, status: str) -> None:
        """Keep an arm's status.

        Raises:
            StoreUnavailable: with the change in force in this process, and saved later.
            InvalidInput: the arm has been retired meanwhile, perhaps by another process; now it is retired here too.
        """
        self._writer.statuses.change(arm_id, status)
        self._writer.ask(self._writer.statuses.save)
        if status != "retired" and self.learner.catalogue.status(arm_id) is Status.RETIRED:
            raise InvalidInput(f"arm {arm_id!r} has been retired meanwhile; add it again under another id")

    def flush(self) -> None:
        """Wait until everything recorded so far is in the database. Raises StoreUnavailable after `wait_s`."""
        self._writer.ask(lambda ledger: None)

    def close(self) -> None:
        """Write what is queued, take a last snapshot, stop the writer."""
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


def _spool_folder(url: str, spool: Path | str | None) -> Path:
    if spool is not None:
        return Path(spool)
    scheme, _, path = url.partition(":///")
    if scheme.split("+")[0] == "sqlite" and path.split("?")[0] not in ("", ":memory:"):
        return Path(path.split("?")[0] + ".spool")
    raise InvalidInput("this store has no folder of its own: give spool=<a local folder>, or durability='relaxed'")
