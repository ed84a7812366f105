"""The one thread that talks to the database: group commit, retry, windows, snapshots, and the fold that follows."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from typing import Any

from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput, StoreUnavailable
from bandit_router.records.decisions import Decision
from bandit_router.settling.learner import Entry, Learner
from bandit_router.settling.protocol import Cooling
from bandit_router.settling.rules import StoreRule
from bandit_router.store import loading
from bandit_router.store.changes import Changes
from bandit_router.store.committer import Committer
from bandit_router.store.cooldowns import Cooldowns
from bandit_router.store.exchange import Exchange, join
from bandit_router.store.faults import describe
from bandit_router.store.features import check_features
from bandit_router.store.ledger import Ledger
from bandit_router.store.retention import Prune
from bandit_router.store.settings import StoreSettings
from bandit_router.store.snapshot import encode, policy_key
from bandit_router.store.spending import Spending
from bandit_router.store.spool import Item, Spool
from bandit_router.store.statuses import Statuses
from bandit_router.store.wire import encode_decision

_log = logging.getLogger(__name__)
_LINGER_S = 0.01
_TICK_S = 1.0
_RETRY_S = (0.05, 1.0)
_HOLD_S = 3.0  # longer than the pauses of _RETRY_S
_KEEP_SNAPSHOTS = 3
_PRUNE_S, _PRUNE_PAGES = 60.0, 5


class Writer:
    """Takes groups from the spool, has them committed, folds the log into the learner, closes windows.

    A group that fails because the database does is kept and tried again, with growing pauses, for ever; meanwhile the
    spool fills up and the back-pressure setting decides.

    Args:
        settings: the store's. spool: where records come from. learner: what the log is folded into.
        rule, counters, clock: the router's. logged: a decision known to be queued or written, or None.
        forget: told of a decision that no database takes.
        reload: takes the recent decisions when the database has been opened. remembered: those with open windows.
        budgets, cooling: the router's, None for none.
    """

    def __init__(
        self,
        settings: StoreSettings,
        spool: Spool,
        learner: Learner,
        *,
        rule: StoreRule,
        counters: Counter[str],
        clock: Callable[[], float],
        logged: Callable[[str], Decision | None],
        forget: Callable[[str], None],
        reload: Callable[[Ledger], None],
        remembered: Callable[[], Sequence[Decision]],
        budgets: Budgets | None,
        cooling: Cooling | None,
    ) -> None:
        self.ledger = Ledger(settings.url, settings.durability, settings.replica)
        self.settings, self.spool, self.learner = settings, spool, learner
        self.rule, self.counters, self.clock = rule, counters, clock
        self.reload, self.remembered = reload, remembered
        self.statuses = Statuses(learner)
        self.cooldowns = Cooldowns(learner, cooling)
        self.changes = Changes(lock=learner.lock, process=settings.replica, clock=clock)
        self.healthy = True
        self._opened: Future[None] = Future()
        self._snapshot_at = 0
        self._exchange: Exchange | None = None
        self.spending = None if budgets is None else self._spending(budgets)
        self._tick_s = min(_TICK_S, rule.window_s / 4)
        self._next_tick = self._hold_until = self._next_prune = 0.0
        self._pruning: Prune | None = None
        self._queued_s, self._closing, self._gone_back = -math.inf, False, False
        self.committer = Committer(
            self.ledger,
            learner,
            rule=rule,
            counters=counters,
            clock=clock,
            spending=self.spending,
            logged=logged,
            forget=forget,
            fold=lambda before, entries: self._fold(before, entries),
        )
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
            rule=self.rule,
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
        fresh = self.spool.wait(0.0 if self._closing else linger_s)
        asked = len(self._requests)  # before taking, so that a request comes after all that was queued before it
        tick = time.monotonic() >= self._next_tick
        if (tick or len(self.spool)) and self.ledger.replaced():
            _log.error("the database's file has been replaced by another one, which is opened now")
            self.counters["files_replaced"] += 1
            self._gone_back = True
            self.ledger.open()
        if tick or self._gone_back or not self.healthy:  # a database that has gone back was away for a moment
            self._check_history()
        if fresh:
            self._queued_s = self.clock()
        self.committer.write(self.spool.take())
        self.spool.done()
        if tick or self._closing:
            self._close_windows()
        self._serve_requests(asked)
        if tick:
            self._next_tick = time.monotonic() + self._tick_s
            loading.catch_up(self.ledger, self.learner)
            self.counters["unreadable_entries"] = len(self.ledger.unreadable)
            self.counters["skipped_outcomes"] = self.learner.skipped
            self.statuses.save(self.ledger)
            self.statuses.follow(self.ledger.arms())
            self.cooldowns.exchange(self.ledger)
            self.changes.follow(self.ledger)
            if self.spending is not None:
                self.spending.follow()
            self._let_go()
        if self._exchange is not None:
            self.counters["published_deltas"] += self._exchange.run(time.monotonic())
        elif self.learner.position - self._snapshot_at >= self.settings.snapshot_every:
            self._snapshot()

    def _let_go(self) -> None:
        """Drop what is older than `retention_s`: a few pages at each tick, and every minute from the beginning."""
        kept_s = self.settings.retention_s
        if kept_s is None:
            return
        if self._pruning is None:
            if time.monotonic() < self._next_prune:
                return
            self._next_prune = time.monotonic() + _PRUNE_S
            self._pruning = Prune(self.ledger, self.clock() - kept_s, key=self.settings.snapshot_key)
            self._pruning.begin()
            if self._pruning.held_by is not None:
                _log.warning("the log is kept for %s, which has no newer snapshot", self._pruning.held_by)
        for _ in range(_PRUNE_PAGES):
            if not self._pruning.page():
                self._pruning = None
                return

    def _close_windows(self) -> None:
        """Close one page of windows; the next follows in the next round, after what was queued meanwhile.

        Only windows that were over when everything now committed had been queued: a reward that came in time and waits
        in the queue is never late. After an outage the other processes first get the time to write their queues.
        """
        if time.monotonic() >= self._hold_until:
            self._closing = not self.committer.close_windows(self._queued_s)

    def _open(self) -> None:
        try:
            self._load()
            if self.settings.spool is not None:
                loading.adopt(self.settings.spool, self.spool.owner, self.committer.write, self.counters)
            if self.spending is not None:
                self.spending.load()
            self.cooldowns.exchange(self.ledger)
            self.reload(self.ledger)
        except InvalidInput as problem:
            self._opened.set_exception(problem)
            raise
        self._snapshot_at = self.learner.position
        self._opened.set_result(None)

    def _load(self) -> None:
        key, share = self.settings.snapshot_key, self.settings.share
        self.ledger.open()
        fresh, by = self.settings.fresh, self.settings.replica
        check_features(self.ledger, self.learner, at_s=self.clock(), by=by, fresh=fresh)
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

    def _check_history(self) -> None:
        """Where the database has gone back (a restored backup, a failover that lost commits), start from what it has.

        The decisions that are remembered here and whose windows are open are written again first.
        """
        if not self._gone_back and self.ledger.continues(self.learner.position, self.learner.last):
            return
        _log.error("the store is older than what was read from it; its log is read anew from the beginning")
        self._gone_back, self.healthy = True, False
        remembered = [Item(decision, encode_decision(decision), None) for decision in self.remembered()]
        self.committer.write(remembered)
        self.statuses.keep()
        self.changes.forget()
        if self.spending is not None:
            self.spending.load()
        self._load()
        self.reload(self.ledger)
        self._snapshot_at = self.learner.position
        self._gone_back = False
        self.counters["log_restarts"] += 1

    def _failed(self, error: Exception) -> None:
        self.counters["store_errors"] += 1
        if self.healthy:
            _log.error("the store failed, its records are kept and tried again: %s", describe(error))
        self.healthy = False
        self._hold_until = time.monotonic() + _HOLD_S
        self.ledger.close()  # the next attempt is a new connection: an old one may hold what was damaged, or be dead

    def _finish(self) -> None:
        if not self._opened.done():
            return
        self.statuses.save(self.ledger)
        self.cooldowns.exchange(self.ledger)
        self.changes.follow(self.ledger)
        if self._exchange is not None:
            self._exchange.publish(time.monotonic())
        elif self.learner.position > self._snapshot_at:
            self._snapshot()
        if self.spending is not None:
            self.spending.follow()
            self.spending.save()

    # -- after a commit --------------------------------------------------------------------------------------

    def _fold(self, before: int, entries: Sequence[Entry]) -> None:
        """Fold what was committed, and first what other processes committed before it, in short turns."""
        self._gone_back |= before < self.learner.position
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
