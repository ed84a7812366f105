"""Health of arms: one that fails is left alone for a while, tried with one request, and let back in by a ramp.

    closed     may be drawn
    open       may not, until its time is over
    half-open  may be drawn once, as a probe; meanwhile not
    ramp       after a good probe: may be drawn by a growing share of the events

All this changes who is eligible, before the policy is asked: the propensity is exact given the eligible arms, and both
are in the record of the decision. Which events a ramp lets in depends on key and event id alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from bandit_router.arrays import Bool
from bandit_router.declared import COUNT, POSITIVE, POSITIVE_SHARE
from bandit_router.errors import InvalidInput, NoArmAvailable
from bandit_router.records.failures import FAILURES, Failure, FailureKind
from bandit_router.settling.protocol import Cooldown

State = Literal["closed", "open", "half-open", "ramp"]
_FIRST_SHARE = 0.1  # of the events, that a ramp begins with
_BUSY_S = 1.0  # when to come again, where what is waited for is another request's end
_MOST_CALLS = 100_000


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an arm is left alone, and for how long.

    Attributes:
        counts: kinds of failures that count against an arm's health; none for arms that are never left alone.
        failures: an arm opens after so many in a row, at once on a rate limit or with a Retry-After.
        share, calls: it also opens when this share, in (0, 1], of its last `calls` calls has failed.
        open_s: seconds that it stays open the first time; twice as long after each probe that fails. A Retry-After goes
            before it.
        longest_s: the most of both.
        ramp_s: seconds over which the share of the events that may draw it grows to all, after a good probe.
        in_flight: by arm id, how many calls may be under way in this process; default no limit.
        lost_s: seconds after which a call of which nothing was reported is no longer under way.

    Example:
        >>> Health(in_flight={"large": 8}).failures
        5
    """

    counts: tuple[FailureKind, ...] = ("error", "timeout", "rate_limit", "broken_stream", "diverted")
    failures: int = 5
    share: float = 0.5
    calls: int = 20
    open_s: float = 10.0
    longest_s: float = 600.0
    ramp_s: float = 30.0
    in_flight: dict[str, int] = msgspec.field(default_factory=dict)
    lost_s: float = 300.0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.counts if kind not in FAILURES]
        if unknown:
            raise InvalidInput(f"counts: unknown failure {unknown[0]!r}; there are {', '.join(FAILURES)}")
        for name in ("failures", "calls"):
            COUNT.require(name, getattr(self, name))
        for name in ("open_s", "longest_s", "ramp_s", "lost_s"):
            POSITIVE.require(name, getattr(self, name))
        POSITIVE_SHARE.require("share", self.share)
        for arm, limit in self.in_flight.items():
            COUNT.require(f"in_flight[{arm!r}]", limit)


class _Arm:
    """What is known of one arm's health."""

    def __init__(self, calls: int) -> None:
        self.cooldown = Cooldown()
        self.streak = 0
        self.recent: deque[bool] = deque(maxlen=calls)
        self.under_way = 0
        self.probe: str | None = None


class ArmHealth:
    """The health of a router's arms. Called under the learner's lock; time is the caller's.

    Args:
        health: the rules. uniform: the number in [0, 1) of a text, for ramps; the same in every replica.

    Attributes:
        opened: how often an arm was opened here.
    """

    def __init__(self, health: Health, *, uniform: Callable[[str], float]) -> None:
        self.health, self.uniform, self.opened = health, uniform, 0
        self._arms: dict[str, _Arm] = {arm: _Arm(health.calls) for arm in health.in_flight}
        self._calls: OrderedDict[str, tuple[str, float]] = OrderedDict()

    # -- decisions -------------------------------------------------------------------------------------------

    def shut(self, ids: Sequence[str], event_id: str, eligible: Bool | None, now_s: float) -> Bool | None:
        """The arms that health keeps out of this event's draw; None where it keeps out no one.

        A ramp gives way where nobody else is left.

        Raises:
            NoArmAvailable: an eligible arm is left by nobody; nothing has changed.
        """
        self._forget(now_s)
        if not self._arms:
            return None
        hard, soft = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.bool_)
        for index, arm_id in enumerate(ids):
            if (arm := self._arms.get(arm_id)) is not None:
                hard[index] = self._kept_out(arm_id, arm, now_s)
                soft[index] = self.state(arm_id, now_s) == "ramp" and not self._let_in(arm_id, arm, event_id, now_s)
        if not (hard.any() or soft.any()):
            return None
        allowed = np.ones(len(ids), np.bool_) if eligible is None else eligible
        if (allowed & ~hard & ~soft).any():
            return hard | soft
        if (allowed & ~hard).any():
            return hard if hard.any() else None
        raise self._nobody([arm_id for arm_id, inside in zip(ids, allowed, strict=True) if inside], now_s)

    def begin(self, event_id: str, arm_id: str, now_s: float) -> None:
        """A call of an arm is under way."""
        self._calls[event_id] = arm_id, now_s
        if len(self._calls) > _MOST_CALLS:
            self._end(*self._calls.popitem(last=False))
        if (arm := self._arms.get(arm_id)) is not None:
            arm.under_way += 1
            if self.state(arm_id, now_s) == "half-open":
                arm.probe = event_id

    def state(self, arm_id: str, now_s: float) -> State:
        """What an arm is in now."""
        arm = self._arms.get(arm_id)
        if arm is None or arm.cooldown.until_s is None:
            return "closed"
        known = arm.cooldown
        if known.healed_s is None:
            return "open" if self._left_s(arm, now_s) > 0 else "half-open"
        return "ramp" if 0 <= now_s - known.healed_s < self.health.ramp_s else "closed"

    # -- outcomes --------------------------------------------------------------------------------------------

    def told(self, event_id: str, failure: Failure | None, now_s: float, *, arm_id: str | None = None) -> None:
        """What became of a call; each is counted once.

        Args:
            event_id: the decision. failure: how its arm failed, None where it answered.
            arm_id: the arm, for a call of another process.
        """
        call = self._calls.pop(event_id, None)
        if call is not None:
            arm_id = call[0]
            self._end(event_id, call)
        if arm_id is None:
            return
        if failure is None:
            self._good(arm_id, now_s)
        elif failure.kind in self.health.counts:
            self._bad(arm_id, failure, now_s)

    def _good(self, arm_id: str, now_s: float) -> None:
        arm = self._arms.get(arm_id)
        if arm is None:
            return
        arm.streak = 0
        arm.recent.append(False)
        known, state = arm.cooldown, self.state(arm_id, now_s)
        if state == "half-open":
            arm.cooldown = msgspec.structs.replace(known, healed_s=now_s, version=known.version + 1)
        elif state == "closed" and known.until_s is not None:  # the ramp is over: as if nothing had been
            arm.cooldown = Cooldown(version=known.version + 1)

    def _bad(self, arm_id: str, failure: Failure, now_s: float) -> None:
        arm = self._arms.setdefault(arm_id, _Arm(self.health.calls))
        arm.streak += 1
        arm.recent.append(True)
        rules, state = self.health, self.state(arm_id, now_s)
        wait_s = failure.retry_after_s
        if state == "open":  # it was under way before
            if wait_s is not None and wait_s > self._left_s(arm, now_s):
                self._open(arm, wait_s, now_s, again=False)
            return
        full = len(arm.recent) == rules.calls and sum(arm.recent) >= rules.share * rules.calls
        at_once = failure.kind == "rate_limit" or wait_s is not None or state == "half-open"
        if at_once or full or arm.streak >= rules.failures:
            self._open(arm, wait_s, now_s, again=True)

    def _open(self, arm: _Arm, wait_s: float | None, now_s: float, *, again: bool) -> None:
        rules, known = self.health, arm.cooldown
        times = known.times + again
        if wait_s is None:
            wait_s = rules.open_s * 2.0 ** min(times - 1, 60)
        until_s = now_s + min(wait_s, rules.longest_s)
        arm.cooldown = Cooldown(until_s=until_s, times=times, version=known.version + 1)
        arm.streak, arm.probe = 0, None
        arm.recent.clear()
        self.opened += again

    # -- what replicas share, see `settling.protocol.Cooling` -----------------------------------------------

    def cooldowns(self) -> dict[str, Cooldown]:
        """The cooldowns that were ever changed, by arm id."""
        return {arm_id: arm.cooldown for arm_id, arm in self._arms.items() if arm.cooldown.version}

    def follow(self, stored: dict[str, Cooldown]) -> None:
        """Take over the cooldowns that are newer than what is known here."""
        for arm_id, cooldown in stored.items():
            arm = self._arms.setdefault(arm_id, _Arm(self.health.calls))
            if cooldown.version >= arm.cooldown.version:
                if cooldown != arm.cooldown:
                    arm.streak = 0
                    arm.recent.clear()
                arm.cooldown = cooldown

    # -- inside ----------------------------------------------------------------------------------------------

    def _kept_out(self, arm_id: str, arm: _Arm, now_s: float) -> bool:
        state = self.state(arm_id, now_s)
        probed = state == "half-open" and arm.probe is not None
        return state == "open" or probed or arm.under_way >= self.health.in_flight.get(arm_id, _MOST_CALLS)

    def _let_in(self, arm_id: str, arm: _Arm, event_id: str, now_s: float) -> bool:
        share = max(_FIRST_SHARE, (now_s - (arm.cooldown.healed_s or 0.0)) / self.health.ramp_s)
        return self.uniform(f"ramp:{arm_id}:{event_id}") < share

    def _left_s(self, arm: _Arm, now_s: float) -> float:
        """Seconds that an arm stays open; more than the longest come from a wrong clock, and are over."""
        left_s = (arm.cooldown.until_s or 0.0) - now_s
        return left_s if 0 < left_s <= self.health.longest_s else 0.0

    def _forget(self, now_s: float) -> None:
        """Give up calls of which nothing was heard."""
        while self._calls:
            event_id, (_, begun_s) = next(iter(self._calls.items()))
            if now_s - begun_s <= self.health.lost_s:
                return
            self._end(event_id, self._calls.pop(event_id))

    def _end(self, event_id: str, call: tuple[str, float]) -> None:
        arm = self._arms.get(call[0])
        if arm is not None:
            arm.under_way = max(0, arm.under_way - 1)
            if arm.probe == event_id:
                arm.probe = None

    def _nobody(self, arms: Sequence[str], now_s: float) -> NoArmAvailable:
        states = {arm_id: self.state(arm_id, now_s) for arm_id in arms}
        known = {arm_id: self._arms[arm_id] for arm_id in arms if arm_id in self._arms}
        waits = [self._left_s(arm, now_s) or _BUSY_S for arm in known.values()]
        words = {"closed": "busy", "ramp": "busy"}
        shown = ", ".join(f"{arm_id} {words.get(state, state)}" for arm_id, state in states.items())
        return NoArmAvailable(
            f"no eligible arm takes a request now: {shown}; try again later", retry_after_s=min(waits, default=_BUSY_S)
        )
