"""Budgets, quality floors and tail limits, kept by shadow prices that follow what was billed.

Each limit (see `budgets.limits`) has a dual variable, its shadow price. At a decision the price is charged on
what each arm was seen to take on average, as part of the penalty that the decision records. Nothing is relearned when a
price moves, and it moves twice for each request: at the decision by what the chosen arm is expected to take, and when
the outcome comes by the difference. So a request whose bill never comes counts at its expectation, a late bill
corrects it, and a bill counts without a reward.

A hard window also refuses: it holds a reservation for each request until it is billed, and an arm is eligible only
while everything committed and its own reservation fit under the total.

Example:
    >>> budgets = Budgets(limits=[Window(name="day", channel="cost_usd", total=1.0, window_s=86400.0)],
    ...                   expected={"small": Outcome(cost_usd=0.3), "large": Outcome(cost_usd=0.8)})
    >>> request = {"arms": ("small", "large"), "now_s": 0.0}
    >>> booking = budgets.reserve("r-1", "small", now_s=0.0)
    >>> budgets.terms(**request).eligible.tolist()
    [True, False]
    >>> budgets.settle("r-1", Outcome(cost_usd=0.1))
    >>> budgets.terms(**request).eligible is None  # all of them
    True
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.budgets.accounts import CATCH_UP, Account, Corrected, Entry, Hold, Limits, Seen, State
from bandit_router.budgets.estimates import Estimates
from bandit_router.budgets.limits import Limit, Rate, Tail, Window, countable
from bandit_router.budgets.locking import locked
from bandit_router.budgets.terms import Room, Terms, spent, within
from bandit_router.errors import InvalidInput
from bandit_router.records.booking import Bill, Booking, Part, Reprice
from bandit_router.records.outcomes import COSTS, Outcome


class Budgets:
    """Limits over one stream of decisions. The operator's calls are thread-safe; the router's come under its lock.

    Args:
        limits: any number of `Rate`, `Window`, `Floor` and `Tail`, with distinct names.
        expected: by arm id, what one request is thought to take, as an `Outcome`. A hard window needs it for at
            least one arm; an arm without it counts as the dearest known one.
        exhausted: when no eligible arm can be paid for, "refuse" raises `BudgetExhausted`, "cheapest" serves the
            cheapest one over budget and counts an overrun.
        timeout_s: after this long a bill is late: the request stays booked at its reservation for good.

    Spend in a hard window exceeds `total` by no more than one bill exceeds its reservation, whatever the number of
    requests under way, while no error is above `margin` or the largest seen before; with bills at or below their
    reservations it never does. A reservation is the caller's bound for this request, or else the most the arm has
    been billed or was expected to be.

    Source: dual mirror descent, Balseiro, Lu & Mirrokni 2023, "The best of many worlds: dual mirror descent for online
    allocation problems", Operations Research 71(1), with the shifted entropy as mirror map, steps measured in typical
    deviations and a term that works off the accumulated error. Their regret bounds assume that an action's cost is
    known when it is chosen and do not cover learned costs, late bills or that term.
    """

    def __init__(
        self,
        *,
        limits: Iterable[Limit],
        expected: Mapping[str, Outcome] | None = None,
        exhausted: Literal["refuse", "cheapest"] = "refuse",
        timeout_s: float = 3600.0,
    ) -> None:
        if exhausted not in ("refuse", "cheapest"):
            raise InvalidInput(f"exhausted must be refuse or cheapest, got {exhausted!r}")
        if not timeout_s > 0:
            raise InvalidInput(f"timeout_s must be greater than 0, got {timeout_s}")
        self.expected = dict(expected or {})
        self.exhausted, self.timeout_s = exhausted, timeout_s
        self.lock = threading.RLock()  # a router puts its own here, which it holds from the terms to the booking
        self._limits: dict[str, Limit] = {}
        self._state = State()
        self._repriced: list[Reprice] = []
        self._corrected: list[Corrected] = []
        for limit in limits:
            if limit.name in self._limits:
                raise InvalidInput(f"two limits are named {limit.name!r}; names must be distinct")
            self._admit(limit)

    def _admit(self, limit: Limit) -> None:
        seen = self._state.seen.get(limit.name, {})
        for arm, outcome in self.expected.items():
            amount = limit.amount(outcome)
            if amount is not None and arm not in seen:
                seen[arm] = Seen.of(amount)
        if isinstance(limit, Window) and limit.hard and not seen:
            raise InvalidInput(
                f"hard limit {limit.name!r} must know what a request may take before the first bill; "
                f"pass expected={{arm: Outcome({limit.channel}=...)}}"
            )
        self._limits[limit.name] = limit
        self._state.seen[limit.name] = seen

    def _admit_all(self, limits: Iterable[Limit]) -> None:
        for limit in limits:
            self._admit(limit)

    # -- the three calls of a router -------------------------------------------------------------------------

    def terms(
        self,
        *,
        arms: Sequence[str],
        now_s: float,
        eligible: Bool | None = None,
        penalty: F64 | None = None,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
    ) -> Terms:
        """What the limits make of a decision now.

        Args:
            arms: ids of all arms. now_s: the clock, in seconds.
            eligible: mask over the arms, None for all. penalty: known costs in utility, shape (arms,), None for none.
            tenant: whose request it is.
            bounds: by arm id, the most this request can take, for instance from its token limit.

        Raises:
            BudgetExhausted: see `exhausted`. InvalidInput: bounds of an arm there is not, or that are no amounts.
        """
        for arm, bound in (bounds or {}).items():
            if arm not in arms or bound.problem() is not None:
                raise InvalidInput(
                    f"bounds must give amounts of at least 0 by arm id ({', '.join(arms)}), got {arm!r}: {bound}"
                )
        self._state.expire(now_s - self.timeout_s)
        affordable = np.ones(len(arms), dtype=np.bool_) if eligible is None else eligible.copy()
        hard: list[Room] = []
        for limit, account in self._booked(tenant, now_s):
            price = self._of(limit).price(account)
            if price:
                charge = price * np.array([self._of(limit).expected(arm, account) for arm in arms])
                penalty = charge if penalty is None else penalty + charge
            if isinstance(limit, Window) and limit.hard:
                need = np.array([self._of(limit).bound(arm, bounds, account.window) for arm in arms])
                resets_s = (account.window + 1) * limit.window_s - now_s
                hard.append(Room(limit, need, account.left(limit.total, limit.margin), resets_s))
        affordable = within(affordable, hard, refuse=self.exhausted == "refuse")
        return Terms(None if affordable.all() else affordable, penalty)

    def reserve(
        self,
        event_id: str,
        arm: str,
        *,
        now_s: float,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
        chosen: bool = True,
    ) -> Booking:
        """Book the arm that serves: its bound is held under hard windows, what it is expected to take moves the prices.

        What the policy has not chosen (`chosen` False: shadow, off, holdout, degraded) is counted and held as well, but
        it moves no price and is no debt that the policy would have to work off.
        """
        parts = []
        for limit, account in self._booked(tenant, now_s):
            held = self._of(limit).bound(arm, bounds, account.window) if isinstance(limit, Window) else 0.0
            target = self._of(limit).target(account, now_s)
            expected = self._of(limit).expected(arm, account)
            parts.append(Part(limit.name, str(limit.account(tenant)), expected, target, held, account.window))
        booking = Booking(event_id, arm, now_s, tuple(parts), self.repriced(), chosen)
        self._book(booking)
        return booking

    def settle(self, event_id: str, outcome: Outcome, *, served_arm: str | None = None, until_s: float = 0.0) -> None:
        """Correct a request's booking by what it was billed. A channel settles once, with or without the others.

        Where another arm than the booked one served, the amount counts all the same, and is expected of that arm then,
        if it is one that the limits know. The bill of a request that is not booked yet waits for a booking made by
        `until_s`: another process may have decided it.
        Timed out and settled requests are ignored, and so is a channel that is null, negative or not finite: its
        booking stands.
        """
        self._settle(Bill(event_id, outcome, served_arm, until_s))

    def _settle(self, bill: Bill) -> None:
        hold = self._state.holds.get(bill.event_id)
        if hold is None:
            if bill.until_s and any(limit.amount(bill.outcome) is not None for limit in self._limits.values()):
                self._state.keep(msgspec.structs.replace(bill, outcome=countable(bill.outcome)))
            return
        waiting = []
        for part in hold.parts:
            limit = self._limits.get(part.limit)
            amount = None if limit is None else limit.amount(bill.outcome)
            if limit is None or amount is None:
                waiting.append(part)
            else:
                account = self._state.accounts[part.account]
                total = limit.total if isinstance(limit, Window) else math.inf
                account.bill(part, amount, total=total, believed=bill.believed)
                if hold.chosen:
                    self._move(limit, account, amount - part.expected)
                arm, seen = bill.served_arm or hold.arm, self._state.seen[limit.name]
                if bill.believed and (arm == hold.arm or arm in seen):
                    seen.setdefault(arm, Seen()).add(amount, window=account.window, total=total)
        hold.parts = waiting
        if not waiting:
            self._state.close(bill.event_id)

    def apply(self, entry: Entry) -> None:
        """Follow what was booked or billed elsewhere, or before a restart. What is known already changes nothing."""
        if isinstance(entry, Bill):
            return self._settle(entry)
        if isinstance(entry, Corrected):
            return self._correct(entry)
        if isinstance(entry, Limits):
            self.expected = {**self.expected, **entry.expected}
            return self._admit_all(entry.limits)
        for change in entry.reprices:
            self._reprice(change)
        return self._book(entry) if isinstance(entry, Booking) else None

    def _book(self, booking: Booking) -> None:
        state = self._state
        state.expire(booking.at_s - self.timeout_s)
        if state.knows(booking.event_id):  # another process has decided it as well: one request, one booking
            return
        parts = [part for part in booking.parts if part.limit in self._limits]
        for part in parts:
            limit, account = self._limits[part.limit], state.accounts.setdefault(part.account, Account())
            account.reach(part.window)
            if booking.chosen:
                self._move(limit, account, part.expected - part.target, account.debt / CATCH_UP)
            account.book(part, booking.at_s)
            account.overruns += isinstance(limit, Window) and account.committed > limit.total
        state.holds[booking.event_id] = Hold(booking.arm, booking.at_s, parts, booking.chosen)
        if not parts:
            state.close(booking.event_id)
        for bill in state.early.pop(booking.event_id, ()):
            if booking.at_s <= bill.until_s:
                self._settle(bill)

    def _move(self, limit: Limit, account: Account, error: float, overdue: float = 0.0) -> None:
        """Move the price; a window keeps no debt, its target is worked out anew from what is left."""
        if isinstance(limit, Window) and not limit.paced:
            return
        account.move(error + overdue, self._of(limit).scale(account))
        if not isinstance(limit, Window):
            account.owe(error, limit.scale)

    # -- operations ------------------------------------------------------------------------------------------

    @locked
    def replace(self, limit: Limit) -> None:
        """Change the limit of the same name, or add one; the next decision is held to it, the price goes on."""
        old = self._limits.get(limit.name)
        if old is not None and _measure(old) != _measure(limit):
            raise InvalidInput(f"limit {limit.name!r} measures something else than before; give the new one a new name")
        self._admit(limit)

    @locked
    def replace_all(self, limits: Iterable[Limit]) -> None:
        """`replace` for several: each is changed or added, none is taken away."""
        for limit in limits:
            if self._limits.get(limit.name) != limit:
                self.replace(limit)

    @locked
    def reprice(self, arm: str, channel: str, factor: float) -> None:
        """An arm's amounts on a cost channel are known to be `factor` times what they were, from now on.

        An arm that nothing was expected or billed of, or that there is not, has no amount to change.
        """
        if not 0 < factor < math.inf:
            raise InvalidInput(f"factor must be finite and greater than 0, got {factor}")
        if channel not in COSTS:
            raise InvalidInput(f"channel must be a cost, one of {', '.join(COSTS)}, got {channel!r}")
        change = Reprice(arm, channel, factor)
        self._reprice(change)
        self._repriced.append(change)

    @locked
    def repriced(self) -> tuple[Reprice, ...]:
        """Hand out the price changes that no entry has carried yet, each once."""
        return tuple(self._repriced.pop(0) for _ in range(len(self._repriced)))

    @locked
    def correct(self, limit: str, *, arm: str, amount: float = 0.0, tenant: str | None = None) -> None:
        """A bill of `arm` was wrong: take `amount` of it back from the present window, and forget its size.

        Args:
            limit: name of the limit. amount: by how much the bill was too high, in the channel's unit; 0 where its
                window is over. tenant: whose request it was, for a limit by tenant.

        Raises:
            InvalidInput: no such limit or account, or no amount of at least 0.
        """
        if not 0 <= amount < math.inf:
            raise InvalidInput(f"amount must be finite and at least 0, got {amount}")
        if limit not in self._limits:
            raise InvalidInput(f"there is no limit {limit!r}; there are {', '.join(self._limits)}")
        account = self._limits[limit].account(tenant)
        if account not in self._state.accounts:
            raise InvalidInput(f"limit {limit!r} has booked nothing for tenant {tenant!r}")
        entry = Corrected(limit, account, arm, amount)
        self._correct(entry)
        self._corrected.append(entry)

    @locked
    def corrected(self) -> list[Corrected]:
        """Hand out the corrections that nobody was told of yet, each once."""
        return [self._corrected.pop(0) for _ in range(len(self._corrected))]

    def _correct(self, entry: Corrected) -> None:
        account, seen = self._state.accounts.get(entry.account), self._state.seen.get(entry.limit, {}).get(entry.arm)
        if account is not None:
            account.correct(entry.amount)
        if seen is not None:
            seen.correct(entry.amount)

    def _reprice(self, change: Reprice) -> None:
        for limit in self._limits.values():
            seen = self._state.seen[limit.name].get(change.arm)
            if isinstance(limit, Rate | Window) and limit.channel == change.channel and seen is not None:
                seen.scale(change.factor)

    @locked
    def report(self) -> list[dict[str, Any]]:
        """Every account: requests, mean amount (expected where no bill came yet), shadow price, and for a window what
        is committed in it, how much of that is reserved for requests under way, what remains, and when it resets, on
        the router's clock.
        """
        return [
            {
                "limit": name,
                "account": key,
                "requests": account.requests,
                "mean": account.total / account.requests if account.requests else None,
                "shadow_price": self._of(limit).price(account),
                **spent(limit, account),
                "overruns": account.overruns,
            }
            for name, limit in self._limits.items()
            for key, account in self._state.accounts.items()
            if key == name or key.startswith(f"{name}/")
        ]

    @locked
    def in_force(self) -> Limits:
        """The limits in force, and what is expected."""
        return Limits(tuple(self._limits.values()), self.expected)

    def twin(self) -> Budgets:
        """Budgets with the same limits and settings that have booked nothing."""
        now, timeout_s = self.in_force(), self.timeout_s
        return Budgets(limits=now.limits, expected=now.expected, exhausted=self.exhausted, timeout_s=timeout_s)

    @locked
    def state(self) -> dict[str, Any]:
        """Everything that changes, as plain numbers, strings, lists and dictionaries (JSON)."""
        plain: dict[str, Any] = msgspec.to_builtins(self._state)
        return plain

    @locked
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. Raises InvalidInput, and changes nothing, when it is malformed."""
        if "accounts" not in state:
            raise InvalidInput(f"not a state of Budgets: it has {', '.join(state) or 'nothing'} and no accounts")
        try:
            restored = msgspec.convert(state, State)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"not a state of Budgets: {error}") from None
        for hold in restored.holds.values():
            for part in hold.parts:
                if part.account not in restored.accounts:
                    raise InvalidInput(f"not a state of Budgets: a request is booked on no account {part.account!r}")
        self._state = restored
        self._admit_all(tuple(self._limits.values()))

    # -- inside ----------------------------------------------------------------------------------------------

    def _booked(self, tenant: str | None, now_s: float) -> Iterator[tuple[Limit, Account]]:
        """The limits on this tenant's requests with their accounts, each in its current window."""
        for limit in self._limits.values():
            key = limit.account(tenant)
            if key is None:
                continue
            account = self._state.accounts.setdefault(key, Account())
            if isinstance(limit, Window):
                account.reach(int(now_s // limit.window_s))
            yield limit, account

    def _of(self, limit: Limit) -> Estimates:
        return Estimates(limit, self._state.seen[limit.name])


def _measure(limit: Limit) -> tuple[Any, ...]:
    return type(limit), limit.channel, limit.tenant, limit.at_most if isinstance(limit, Tail) else None
