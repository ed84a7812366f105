"""What is limited: a rate, a total per window, a quality floor, a tail.

Every limit asks that some amount of a request stays, on average, at or below a target:

    Rate    the channel itself                             at most `per_request`
    Window  the channel itself                             at most what is left, per request still to come
    Floor   minus the quality                              at most minus `quality`
    Tail    1 if the channel is above `at_most`, else 0    at most 1 - `level`

`bandit_router.budgets` keeps them.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import check_id
from bandit_router.records.outcomes import CHANNELS, COSTS, Outcome

EACH = "*"


class _Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all limits have.

    Attributes:
        name: unique; reports and saved state carry it.
        tenant: None for all traffic together, a tenant's id for that tenant's requests alone, or "*" for a limit of
            this size for each tenant.
    """

    name: str
    tenant: str | None = None

    def _check(self, channel: str | None = None, **positive: float) -> None:
        for field, text in (("name", self.name), ("tenant", self.tenant)):
            if text is not None and text != "":
                check_id(f"a limit's {field}", text)
        if not self.name or "/" in self.name:
            raise InvalidInput(f"a limit needs a name without a slash, got {self.name!r}")
        if channel is not None and channel not in COSTS:
            raise InvalidInput(f"limit {self.name!r}: no cost channel {channel!r}; there are {', '.join(COSTS)}")
        for field, value in positive.items():
            if not 0 < value < math.inf:
                raise InvalidInput(f"limit {self.name!r}: {field} must be finite and greater than 0, got {value}")

    def account(self, tenant: str | None) -> str | None:
        """The account that a request of this tenant is booked on; None when the limit is not about it."""
        if self.tenant == EACH:
            return None if tenant is None else f"{self.name}/{tenant}"
        return self.name if self.tenant in (None, tenant) else None


class Rate(_Limit, frozen=True, tag_field="kind", tag="rate"):
    """Mean of a cost channel per request, over all requests.

    Attributes:
        channel: a cost channel. per_request: in the channel's unit, greater than 0.
    """

    channel: str
    per_request: float

    def __post_init__(self) -> None:
        self._check(self.channel, per_request=self.per_request)

    @property
    def target(self) -> float:
        """What `amount` may be on average."""
        return self.per_request

    @property
    def scale(self) -> float:
        """A typical deviation of `amount` from its target, before any is known."""
        return self.per_request

    def amount(self, outcome: Outcome) -> float | None:
        """What the outcome takes of the limit; None when it was not metered."""
        return _metered(outcome, self.channel)


class Window(_Limit, frozen=True, tag_field="kind", tag="window"):
    """Total of a cost channel in each window of time, paced over the window.

    Attributes:
        channel: a cost channel. total: the most it may sum to in one window, in the channel's unit.
        window_s: seconds. Windows start at multiples of it, so a day starts at midnight UTC on a Unix clock. A
            request belongs to the window it was decided in.
        hard: refuse the arms that cannot be paid for; otherwise the limit is only paced.
        pace: spread the total over the window by a shadow price. Default None: a hard window is a cap, which changes
            nothing until it is nearly spent; one that is not hard is paced.
        margin: largest amount by which one bill is thought to exceed its reservation. Raised to the largest seen.
    """

    channel: str
    total: float
    window_s: float
    hard: bool = True
    margin: float = 0.0
    pace: bool | None = None

    def __post_init__(self) -> None:
        self._check(self.channel, total=self.total, window_s=self.window_s)
        if not 0 <= self.margin < math.inf:
            raise InvalidInput(f"limit {self.name!r}: margin must be finite and at least 0, got {self.margin}")
        if not self.hard and self.pace is False:
            raise InvalidInput(f"limit {self.name!r} is neither hard nor paced, so it limits nothing; make it one")

    @property
    def paced(self) -> bool:
        """Whether the total is spread over the window."""
        return not self.hard if self.pace is None else self.pace

    def amount(self, outcome: Outcome) -> float | None:
        """What the outcome takes of the limit; None when it was not metered."""
        return _metered(outcome, self.channel)


class Floor(_Limit, frozen=True, tag_field="kind", tag="floor"):
    """Mean quality of at least `quality`, in (0, 1]."""

    quality: float

    channel: ClassVar[str] = "quality"

    def __post_init__(self) -> None:
        self._check()
        if not 0 < self.quality <= 1:
            raise InvalidInput(f"limit {self.name!r}: quality must be in (0, 1], got {self.quality}")

    @property
    def target(self) -> float:
        """What `amount` may be on average."""
        return -self.quality

    @property
    def scale(self) -> float:
        """A typical deviation of `amount` from its target, before any is known."""
        return 0.25

    def amount(self, outcome: Outcome) -> float | None:
        """What the outcome takes of the limit; None when it was not metered."""
        quality = _metered(outcome, "quality")
        return None if quality is None else -quality


class Tail(_Limit, frozen=True, tag_field="kind", tag="tail"):
    """At least a share `level` of the requests at or below `at_most`: p95 latency is level 0.95 on latency_s.

    Attributes:
        at_most: in the channel's unit. channel: a cost channel. level: between 0 and 1.
    """

    at_most: float
    channel: str = "latency_s"
    level: float = 0.95

    def __post_init__(self) -> None:
        self._check(self.channel, at_most=self.at_most)
        if not 0 < self.level < 1:
            raise InvalidInput(f"limit {self.name!r}: level must be between 0 and 1, got {self.level}")

    @property
    def target(self) -> float:
        """What `amount` may be on average."""
        return 1.0 - self.level

    @property
    def scale(self) -> float:
        """A typical deviation of `amount` from its target, before any is known."""
        return 2.0 * self.level * (1.0 - self.level)

    def amount(self, outcome: Outcome) -> float | None:
        """What the outcome takes of the limit; None when it was not metered."""
        value = _metered(outcome, self.channel)
        return None if value is None else float(value > self.at_most)


Limit = Rate | Window | Floor | Tail


def countable(outcome: Outcome) -> Outcome:
    """The channels that a limit can count: numbers that are finite and not negative."""
    return Outcome(**{channel: _metered(outcome, channel) for channel in CHANNELS})


def _metered(outcome: Outcome, channel: str) -> float | None:
    value: Any = getattr(outcome, channel)
    return float(value) if isinstance(value, Real) and 0 <= float(value) < math.inf else None
