"""The one thread that talks to the database: group commit, retry, windows, snapshots, and the fold that follows."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from bandit_router.budgets import Budgets
from bandit_router.events import Decision
from bandit_router.learner import Entry, Learner
from bandit_router.policies.base import InvalidInput
from bandit_router.rewards import Reward, RewardRule, answer
from bandit_router.store import loading
from bandit_router.store.exchange import Exchange, join
from bandit_router.store.group import Group
from bandit_router.store.ledger import Ledger
from bandit_router.store.snapshot import encode, policy_key
from bandit_router.store.spending import Spending
from bandit_router.store.spool import Item, Spool
from bandit_router.store.statuses import Statuses

if TYPE_CHECKING:
    from bandit_router.store.store import Store

_log = logging.getLogger(__name__)
_LINGER_S = 0.01
_TICK_S = 1.0
_RETRY_S = (0.05, 1.0)
_KEEP_SNAPSHOTS = 3
_OUTAGES = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError, OSError)


class StoreUnavailable(RuntimeError):
    """The database did not answer in time; the change was not made, or is not known to have been."""


class Writer:
    """Takes groups from the spool, commits each in one transaction, folds the log into the learner, answers waiters.

    A group that fails because the database does is kept and tried again, with growing pauses, for ever; meanwhile the
    spool fills up and the back-pressure setting decides. A group that fails because of one record is split.

    Args:
        settings: the store's. spool: where records come from. learner: what the log is folded into.
        rule, counters, clock: the router's. logged: a decision known to be queued or written, or None.
        reload: takes the recent decisions when the database has been opened.
        budgets: the router's, None for none.
    """

    def __init__(
        self,
        settings: Store,
        spool: Spool,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        logged: Callable[[str], Decision | None],
        reload: Callable[[Ledger], None],
        budgets: Budgets | None,
    ) -> None:
        self.ledger = Ledger(settings.url, settings.durability, settings.replica)
        self.settings, self.spool, self.learner = settings, spool, learner
        self.rule, self.counters, self.clock = rule, counters, clock
        self.logged, self.reload = logged, reload
        self.statuses = Statuses(learner)
        self.healthy = True
        self._opened: Future[None] = Future()
        self._snapshot_at = 0
        self._exchange: Exchange | None = None
        self.spending = None if budgets is None else self._spending(budgets)
        self._tick_s = min(_TICK_S, rule.window_s / 4)
        self._next_tick = 0.0
        self._requests: deque[tuple[Callable[[Ledger], object], Future[Any]]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bandit-router-writer", daemon=True)

    def _spending(self, budgets: Budgets) -> Spending:
        settings = self.settings
        return Spending(
            self.ledger,
            budgets,
            lock=self.learner.lock,
            key=settings.snapshot_key,
            every=settings.snapshot_every,
            counters=self.counters,
            early_s=self.rule.early_s,
        )

    # -- for other threads -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait for the database a while. Raises InvalidInput when it is not this router's."""
        self._thread.start()
        try:
            self._opened.result(max(self.settings.wait_s, self.settings.bound_s))
        except WaitTimeout:
            _log.error("the store cannot be reached yet; serving from the prior, records are queued")

    def ask(self, request: Callable[[Ledger], object]) -> None:
        """Run `request` on the ledger between two groups, then fold what it logged. Raises StoreUnavailable."""
        done: Future[Any] = Future()
        self._requests.append((request, done))
        self.spool.wake()
        try:
            done.result(self.settings.wait_s)
        except WaitTimeout:
            done.cancel()
            raise StoreUnavailable(f"no answer from the store within {self.settings.wait_s} s; try again") from None

    def stop(self) -> None:
        """Finish what is queued, as far as the database lets us within `wait_s`, and end the thread."""
        self._stop.set()
        self.spool.wake()
        self._thread.join(self.settings.wait_s + 2 * _TICK_S)
        self.ledger.close()

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        deadline = None
        while True:
            stopping = self._stop.is_set()
            if stopping:
                deadline = deadline or time.monotonic() + self.settings.wait_s
            try:
                self._round(_LINGER_S if not stopping else 0.0)
                self.healthy, pause = True, 0.0
                if stopping and not len(self.spool):
                    return self._finish()
            except Exception as error:
                self._failed(error)
                if self._opened.done() and self._opened.exception() is not None:
                    return None  # not this router's database
                pause = min(max(2 * pause, _RETRY_S[0]), _RETRY_S[1])
                if deadline is not None and time.monotonic() > deadline:
                    return
                self._stop.wait(pause) if deadline is None else time.sleep(_RETRY_S[0])

    def _round(self, linger_s: float) -> None:
        if not self._opened.done():
            self._open()
        asked = len(self._requests)  # before taking, so that a request comes after all that was queued before it
        items = self.spool.take(linger_s)
        tick = time.monotonic() >= self._next_tick
        if items or tick:
            try:
                self._commit(items, tick)
            except Exception as error:
                if isinstance(error, _OUTAGES) or not items:
                    raise
                self._commit_singly(items)
            self.spool.done()
        self._serve_requests(asked)
        if tick:
            self._next_tick = time.monotonic() + self._tick_s
            loading.catch_up(self.ledger, self.learner)
            self.statuses.save(self.ledger)
            self.statuses.follow(self.ledger.arms())
            if self.spending is not None:
                self.spending.follow()
        if self._exchange is not None:
            self.counters["published_deltas"] += self._exchange.run(time.monotonic())
        elif self.learner.position - self._snapshot_at >= self.settings.snapshot_every:
            self._snapshot()

    def _open(self) -> None:
        try:
            self._load()
            if self.settings.spool is not None:
                loading.adopt(self.settings.spool, lambda items: self._commit(items, False), self.counters)
            if self.spending is not None:
                self.spending.load()
            self.reload(self.ledger)
        except InvalidInput as problem:
            self._opened.set_exception(problem)
            raise
        self._snapshot_at = self.learner.position
        self._opened.set_result(None)

    def _load(self) -> None:
        key, share = self.settings.snapshot_key, self.settings.share
        loaded = loading.prepare(self.ledger, self.learner, key=key)
        if share is None:
            loading.restore_newest(self.ledger, loaded, key=key, counters=self.counters)
            loading.catch_up(self.ledger, loaded)
            self.statuses.adopt(loaded)
            return
        name = policy_key(loaded.policy, loaded.channels, loaded.monitor)
        exchange = join(
            self.ledger,
            loaded,
            policy=name,
            gamma=share.gamma,
            max_age_s=share.max_age_s,
            fetch_s=share.fetch_s,
        )
        loading.catch_up(self.ledger, loaded)
        exchange.fetch()
        self.statuses.adopt(loaded)
        exchange.learner = self.learner
        self._exchange = exchange

    def _failed(self, error: Exception) -> None:
        self.counters["store_errors"] += 1
        if self.healthy:
            _log.error("the store failed, its records are kept and tried again: %s", error)
        self.healthy = False

    def _finish(self) -> None:
        if not self._opened.done():
            return
        self.statuses.save(self.ledger)
        if self._exchange is not None:
            self._exchange.publish(time.monotonic())
        elif self.learner.position > self._snapshot_at:
            self._snapshot()
        if self.spending is not None:
            self.spending.follow()
            self.spending.save()

    # -- one group -------------------------------------------------------------------------------------------

    def _commit(self, items: Sequence[Item], tick: bool) -> None:
        now_s = self.clock()
        with self.ledger.writing() as (connection, head):
            group = Group(
                connection,
                head,
                rule=self.rule,
                utility=self.learner.utility,
                now_s=now_s,
                logged=self.logged,
            )
            group.add_decisions(items)
            group.add_rewards(items)
            while tick and not group.close_windows():
                pass
            if self.spending is not None:
                self.spending.write(connection, [item.record for item in items])
        with self.learner.lock:
            self.counters.update(group.counts)
        self._fold(head.position, head.entries)
        for item, settlement in group.answers:
            if item.waiter is not None:
                item.waiter.set_result(settlement)
        for item in items:
            if item.waiter is not None and not item.waiter.done():
                item.waiter.set_result(None)

    def _commit_singly(self, items: Sequence[Item]) -> None:
        """One record of the group cannot be written: find it, leave it out, and keep it in the application's log."""
        for item in items:
            if item.waiter is not None and item.waiter.done():
                continue
            try:
                self._commit([item], False)
            except _OUTAGES:
                raise
            except Exception:
                self.counters["failed_records"] += 1
                _log.exception("a record could not be written: %r", item.record)
                if item.waiter is not None:
                    record = item.record
                    item.waiter.set_result(
                        answer(record, None, refused="invalid") if isinstance(record, Reward) else None
                    )

    def _fold(self, before: int, entries: Sequence[Entry]) -> None:
        """Fold what was committed, and first what other processes committed before it, in short turns."""
        if before > self.learner.position:
            loading.catch_up(self.ledger, self.learner)
        self.learner.fold(entries)

    def _serve_requests(self, count: int) -> None:
        for _ in range(count):
            request, done = self._requests.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                request(self.ledger)
                loading.catch_up(self.ledger, self.learner)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _snapshot(self) -> None:
        position, state = self.learner.capture()
        name = policy_key(self.learner.policy, self.learner.channels, self.learner.monitor)
        body = encode(position, state, policy=name, key=self.settings.snapshot_key)
        self.ledger.put_snapshot(name, position, body, keep=_KEEP_SNAPSHOTS)
        self._snapshot_at = position
        self.counters["snapshots"] += 1
