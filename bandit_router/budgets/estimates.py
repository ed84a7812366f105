"""What one request is thought to take of a limit, and what it may take, from what was seen and booked so far."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bandit_router.budgets.accounts import Account, Seen
from bandit_router.budgets.limits import Limit, Window
from bandit_router.records.outcomes import Outcome


class Estimates:
    """The estimates of one limit.

    Args:
        limit: the limit. seen: what each arm was seen to take of it.
    """

    def __init__(self, limit: Limit, seen: Mapping[str, Seen]) -> None:
        self.limit, self.seen = limit, seen

    def expected(self, arm: str, account: Account) -> float:
        """What a request of this arm takes on average."""
        seen = self.seen.get(arm)
        if seen is not None:
            return seen.mean
        return account.typical if isinstance(self.limit, Window) else self.limit.target

    def bound(self, arm: str, bounds: Mapping[str, Outcome] | None, window: int) -> float:
        """What a request of this arm holds under a window: what the caller says, or else the most that was seen."""
        given = None if bounds is None or arm not in bounds else self.limit.amount(bounds[arm])
        if given is not None:
            return given
        known = self.seen.get(arm)
        if known is not None:
            return known.bound(window)
        return max((other.bound(window) for other in self.seen.values()), default=0.0)

    def price(self, account: Account) -> float:
        """The shadow price, in utility for one unit of the amount."""
        if isinstance(self.limit, Window) and not self.limit.paced:
            return 0.0
        return account.price / self.scale(account)

    def scale(self, account: Account) -> float:
        """A typical amount."""
        if not isinstance(self.limit, Window):
            return self.limit.scale
        return account.typical or max((arm.mean for arm in self.seen.values()), default=0.0) or self.limit.total

    def target(self, account: Account, now_s: float) -> float:
        """What this request may take on average: for a window, what is left over the requests still to come."""
        limit = self.limit
        if not isinstance(limit, Window):
            return limit.target
        gap_s = account.gap(now_s)
        to_come = ((account.window + 1) * limit.window_s - now_s) / gap_s if gap_s else math.inf
        left = max(limit.total - account.committed, 0.0)
        return left / max(to_come, 1.0) if math.isfinite(to_come) else account.typical
