"""What budgets remember: an account for each limit and tenant, what each arm was seen to take, requests under way.

Everything here is plain data that is saved as it is. What changes it is an entry: a `Booking` when a request is
decided, a `Bill` when an outcome comes, `Limits` when limits are new, `Repriced` when prices change and nobody decides.
Applying the same entries in the same order gives the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bandit_router.budgets.limits import Limit
from bandit_router.records.booking import Bill, Booking, Part, Reprice
from bandit_router.records.outcomes import Outcome

UNIT = 0.02
"""Utility at which a shadow price stops growing by equal steps and starts growing by equal factors."""
STEP = 0.05
"""Move of the dual, before its link, for an error of one typical deviation."""
CATCH_UP = 50.0
"""Requests over which an accumulated error is worked off."""
CREDIT = 25.0
"""Most that can be saved up for later, in typical deviations."""
LARGEST = 8.0
REMEMBERED = 10_000
"""Requests with nothing under way that are still known by id; when there are more, the older half is forgotten."""
EARLY = 8
"""Bills that one request may have before its booking."""
HOLDS = 20_000
"""Requests under way that wait for a bill; when there are more, the oldest stays booked as if its time were over."""
FORGIVEN = 0.5
"""What is left, one window later, of the largest bill and of the largest error that a hard window reckons with."""


class Limits(msgspec.Struct, frozen=True, array_like=True, tag="l1"):
    """Limits that are in force somewhere, and what requests are thought to take: what `Budgets` is made with."""

    limits: tuple[Limit, ...]
    expected: dict[str, Outcome]


class Repriced(msgspec.Struct, frozen=True, array_like=True, tag="p1"):
    """Price changes that no booking has carried."""

    reprices: tuple[Reprice, ...]


class Corrected(msgspec.Struct, frozen=True, array_like=True, tag="c1"):
    """A bill of an arm on a limit's account was `amount` too high."""

    limit: str
    account: str
    arm: str
    amount: float


Entry = Booking | Bill | Limits | Repriced | Corrected


class Account(msgspec.Struct):
    """What one limit remembers of one tenant: the dual before its link, and for a window what is committed."""

    dual: float = 0.0
    debt: float = 0.0
    spread: float = 0.0
    requests: int = 0
    billed: int = 0
    total: float = 0.0
    typical: float = 0.0
    window: int = -1
    committed: float = 0.0
    open: int = 0
    reserved: float = 0.0
    left_window: int = -1
    left_committed: float = 0.0
    error: float = 0.0
    last_s: float | None = None
    gap_s: float = 0.0
    overruns: int = 0

    @property
    def price(self) -> float:
        """The dual variable, in utility per typical deviation: linear in `dual` near 0, exponential beyond."""
        return UNIT * math.expm1(self.dual)

    def move(self, error: float, scale: float) -> None:
        """Dual ascent in mirror coordinates, in units of the typical deviation."""
        step = STEP * error / (self.spread or scale)
        self.dual = min(max(self.dual + max(-1.0, min(1.0, step)), 0.0), LARGEST)

    def owe(self, error: float, scale: float) -> None:
        """Keep the accumulated error, as savings only up to a bound."""
        self.debt = max(self.debt + error, -CREDIT * scale)

    def gap(self, now_s: float) -> float:
        """Time between two requests if one comes now."""
        if self.last_s is None:
            return self.gap_s
        return self.gap_s + (max(now_s - self.last_s, 0.0) - self.gap_s) / min(self.requests, 200)

    def reach(self, window: int) -> None:
        """Begin a newer window. A clock that goes back stays in the newer one, unless that is ahead by more than one.

        So a step of the clock is left again when the clock comes back; what was committed on both sides stays so.
        """
        if self.window - 1 <= window <= self.window:
            return
        if window < self.window:
            back = self.left_committed if window == self.left_window else 0.0
            self.window, self.committed = window, self.committed + back
        else:
            self.left_window, self.left_committed = self.window, self.committed
            self.error *= FORGIVEN ** (window - self.window)
            self.window, self.committed = window, 0.0
        self.open, self.reserved = 0, 0.0

    def left(self, total: float, margin: float) -> float:
        """What a new request may hold: every request under way may exceed its hold by the largest error known."""
        return total - self.committed - self.open * max(margin, self.error)

    def book(self, part: Part, at_s: float) -> None:
        """Enter one request's stake."""
        self.gap_s, self.last_s = self.gap(at_s), at_s
        self.requests += 1
        self.total += part.expected
        if part.window == self.window:
            self.committed += part.held
            self.reserved += part.held
            self.open += 1

    def release(self, part: Part) -> None:
        """Let a stake be under way no more."""
        if part.window == self.window and self.open:
            self.open -= 1
            self.reserved = self.reserved - part.held if self.open else 0.0

    def bill(self, part: Part, amount: float, *, total: float = math.inf, believed: bool = True) -> None:
        """Replace a stake by what it came to; an error above `total` says no more than one of that size."""
        self.billed += 1
        self.total += amount - part.expected
        self.typical += (amount - self.typical) / min(self.billed, 200)
        self.spread += (abs(amount - part.target) - self.spread) / min(self.billed + 4, 200)
        if believed:
            self.error = max(self.error, min(amount, total) - part.held)
        if part.window == self.window:
            self.committed += amount - part.held
        self.release(part)

    def correct(self, amount: float) -> None:
        """Take back what was billed wrongly, and its error."""
        self.committed = max(self.committed - amount, self.reserved)
        self.total, self.debt, self.error = self.total - amount, self.debt - amount, 0.0


class Seen(msgspec.Struct):
    """What one arm was seen to take of one limit; what was expected beforehand counts as one observation.

    Attributes:
        count, mean: of the amounts. log: mean of their logarithms, which one wrong bill hardly moves; None without any.
        most: the largest amount by the window `window`.
    """

    count: int = 0
    mean: float = 0.0
    most: float = 0.0
    window: int = 0
    log: float | None = None

    @classmethod
    def of(cls, amount: float) -> Seen:
        """What was expected beforehand."""
        return cls(1, amount, amount, 0, math.log(amount) if amount > 0 else None)

    def add(self, amount: float, *, window: int = 0, total: float = math.inf) -> None:
        """Average the first 200, then forget geometrically, so that a silent change is followed.

        An amount above `total` can be paid in no window: as the largest one it says no more than `total` itself.
        """
        self.count += 1
        weight = max(1.0 / self.count, 0.005)
        self.mean += (amount - self.mean) * weight
        amount = min(amount, total)
        if amount > 0:
            self.log = math.log(amount) if self.log is None else self.log + (math.log(amount) - self.log) * weight
        self.most, self.window = max(self.bound(window), amount), max(window, self.window)

    def bound(self, window: int) -> float:
        """What a request is thought to take at most in a window: the largest amount, of which the windows since forgive
        a half each, down to the geometric mean.
        """
        usual = self.most if self.log is None else min(math.exp(self.log), self.most)
        return max(usual, self.most * FORGIVEN ** max(window - self.window, 0))

    def correct(self, amount: float) -> None:
        """Take back what was billed wrongly, as if it had been the last amount."""
        self.mean = max(self.mean - amount * max(1.0 / max(self.count, 1), 0.005), 0.0)
        self.most = self.mean if self.log is None else math.exp(self.log)

    def scale(self, factor: float) -> None:
        """Follow a known change of the price."""
        self.mean *= factor
        self.most *= factor
        self.log = None if self.log is None else self.log + math.log(factor)


class Hold(msgspec.Struct):
    """A request that was decided and is not billed in full; `chosen` says whether by the policy."""

    arm: str
    at_s: float
    parts: list[Part]
    chosen: bool = True


class State(msgspec.Struct):
    """Everything that changes, as plain numbers.

    Attributes:
        accounts: by limit and tenant. seen: by limit and arm. holds: requests under way, in the order of booking.
        done: requests that were booked and wait for no bill, the newest ones.
        early: bills of requests that are not booked yet, of the newest such requests.
    """

    accounts: dict[str, Account] = msgspec.field(default_factory=dict)
    seen: dict[str, dict[str, Seen]] = msgspec.field(default_factory=dict)
    holds: dict[str, Hold] = msgspec.field(default_factory=dict)
    done: dict[str, None] = msgspec.field(default_factory=dict)
    early: dict[str, list[Bill]] = msgspec.field(default_factory=dict)

    def knows(self, event_id: str) -> bool:
        """Whether a request was booked, as far as it is remembered."""
        return event_id in self.holds or event_id in self.done

    def keep(self, bill: Bill) -> None:
        """Let a bill wait for its booking; after that there is nothing to wait for."""
        if self.knows(bill.event_id):
            return
        bills = self.early.setdefault(bill.event_id, [])
        if bill not in bills and len(bills) < EARLY:
            bills.append(bill)
        _forget(self.early)

    def close(self, event_id: str) -> None:
        """Stop waiting for a request's bill: it stays booked, and is no longer under way."""
        hold = self.holds.pop(event_id, None)
        for part in () if hold is None else hold.parts:
            self.accounts[part.account].release(part)
        self.done[event_id] = None
        _forget(self.done)

    def expire(self, before_s: float) -> None:
        """Close the requests decided before `before_s`, oldest first, and those that are too many."""
        while self.holds:
            event_id, hold = next(iter(self.holds.items()))
            if hold.at_s >= before_s and len(self.holds) <= HOLDS:
                return
            self.close(event_id)


def _forget(requests: dict[str, Any]) -> None:
    """Drop the older half of too many; one at a time, each would have to be searched for."""
    if len(requests) > REMEMBERED:
        for event_id in list(requests)[: REMEMBERED // 2]:
            del requests[event_id]
