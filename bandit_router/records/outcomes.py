"""Outcomes of served requests, and the utility that prices them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, get_type_hints

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput

LARGEST = 1e12  # of any cost, in any unit: more is a mistake


class Channel(NamedTuple):
    """What one channel of an outcome measures.

    Attributes:
        meaning: in a few words. unit: of its amounts, "" for a plain number. low, high: its range.
    """

    meaning: str
    unit: str = ""
    low: float = 0.0
    high: float = LARGEST

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest amount."""
        return self.low, self.high

    @property
    def allowed(self) -> str:
        """The range in words, for messages."""
        return f"in [{self.low:g}, {self.high:g}]" if self.high < math.inf else f"finite and at least {self.low:g}"


Amount = float | None
MAX_SQUARED = 1e150  # the square of a greater number is not finite, or nearly so
_INT64 = 1 << 63


def is_number(value: object) -> bool:
    """Whether this is one finite number that every part of the engine can keep: a float, or an int of 64 bits."""
    if isinstance(value, int | np.integer):
        return bool(-_INT64 <= value < _INT64)
    return isinstance(value, float | np.floating) and math.isfinite(float(value))


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """The channels, each declared by its one line here; whatever has channels takes their names from these lines.

    None means "not metered", which is not zero. Quality comes first and earns; the others are costs, never negative.
    """

    quality: Annotated[Amount, Channel("score", high=1.0)] = None
    cost_usd: Annotated[Amount, Channel("money billed", "US dollars")] = None
    energy_j: Annotated[Amount, Channel("energy", "joules")] = None
    latency_s: Annotated[Amount, Channel("time from request to end of answer", "seconds")] = None
    tokens: Annotated[Amount, Channel("input and output tokens", "tokens")] = None
    gpu_s: Annotated[Amount, Channel("time of every GPU held for it, summed", "GPU-seconds")] = None
    ttft_s: Annotated[Amount, Channel("time from request to the first token of a stream", "seconds")] = None
    failed: Annotated[
        Amount, Channel("1 where the attempt failed by the arm's fault, else 0", "failures", 0.0, 1.0)
    ] = None


def _declared() -> dict[str, Channel]:
    lines = get_type_hints(Amounts, include_extras=True)
    return {name: next(c for c in lines[name].__metadata__ if isinstance(c, Channel)) for name in lines}


DECLARED: dict[str, Channel] = _declared()
CHANNELS: tuple[str, ...] = tuple(DECLARED)
COSTS = CHANNELS[1:]
_RANGES = tuple((channel.low, channel.high) for channel in DECLARED.values())


class Outcome(Amounts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one served request turned out to be, by channel; see `Amounts`. None means "not metered", which is not zero.

    Example:
        >>> Outcome(quality=0.9, cost_usd=0.002).metered()
        ('quality', 'cost_usd')
    """

    def vector(self, channels: Sequence[str] = CHANNELS) -> F64:
        """The channels as an array, NaN where not metered."""
        return np.array([math.nan if value is None else value for value in self.amounts(channels)], np.float64)

    def amounts(self, channels: Sequence[str] = CHANNELS) -> tuple[float | None, ...]:
        """The channels as they are, None where not metered."""
        if channels == CHANNELS:
            return msgspec.structs.astuple(self)
        return tuple(getattr(self, name) for name in channels)

    def metered(self) -> tuple[str, ...]:
        """Names of the channels that have a value."""
        return tuple([name for name in CHANNELS if getattr(self, name) is not None])

    def plain(self) -> Outcome:
        """The same with every number as a float; what is no number is NaN, which is refused as invalid.

        Example:
            >>> Outcome(quality=True, tokens=120, cost_usd="dear").plain()  # doctest: +ELLIPSIS
            Outcome(quality=1.0, cost_usd=nan, ...tokens=120.0...)
        """
        for amount in msgspec.structs.astuple(self):
            if type(amount) not in _PLAIN:
                return Outcome(**{channel: _float(getattr(self, channel)) for channel in self.metered()})
        return self

    def succeeded(self) -> Outcome:
        """The same; an answer whose quality is known has not failed, unless that was said."""
        if self.quality is None or self.failed is not None:
            return self
        return msgspec.structs.replace(self, failed=0.0)

    def problem(self) -> str | None:
        """Why this outcome cannot be accepted, or None: no finite number, or one out of its channel's range."""
        for value, (low, high) in zip(msgspec.structs.astuple(self), _RANGES, strict=True):
            if value is None or (type(value) is float and low <= value <= high):
                continue
            if not is_number(value):
                return "invalid"
            if not low <= value <= high:
                return "out_of_range"
        return None


_PLAIN = (float, type(None))


def _float(value: object) -> float:
    if not isinstance(value, int | float | np.floating | np.integer):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


class Utility(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quality minus the priced channels, each measured in its reference scale.

        utility = quality - sum_c prices[c] * outcome[c] / scales[c]

    Attributes:
        prices: utility lost per reference amount of a channel; 0 for a channel that is not named.
        scales: reference amount of a channel, in its own unit (for instance the dearest model's mean cost); default 1.
            A decision waits for the channels that have one, priced or not, until its window closes.

    Example:
        >>> utility = Utility(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.01})
        >>> round(utility.value(Outcome(quality=0.9, cost_usd=0.005)), 6)
        0.8
    """

    prices: dict[str, float] = msgspec.field(default_factory=dict)
    scales: dict[str, float] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in ("prices", "scales"):
            for name, value in getattr(self, field).items():
                if name not in CHANNELS or name == "quality":
                    raise InvalidInput(f"{field}: unknown channel {name!r}; there are {', '.join(COSTS)}")
                if not is_number(value) or value < 0 or (field == "scales" and value == 0):
                    raise InvalidInput(
                        f"{field}[{name!r}] must be finite and at least 0 (scales above 0), got {value!r:.60}"
                    )
        for name in self.prices:
            if not abs(self._weight(name)) <= MAX_SQUARED:
                raise InvalidInput(f"the price of {name} over its scale is too large: {self._weight(name):g}")

    def weights(self, channels: Sequence[str] = CHANNELS) -> F64:
        """Signed weight of each channel: utility = outcome vector . weights. Raises for a priced, absent channel."""
        absent = [name for name, price in self.prices.items() if price and name not in channels]
        if absent:
            raise InvalidInput(f"{absent[0]} is priced but not metered here; metered are {', '.join(channels)}")
        return np.array([1.0 if name == "quality" else self._weight(name) for name in channels])

    def _weight(self, name: str) -> float:
        return -self.prices.get(name, 0.0) / self.scales.get(name, 1.0)

    def priced(self, name: str) -> bool:
        """Whether the channel counts: quality always does."""
        return name == "quality" or self.prices.get(name, 0.0) != 0.0

    def value(self, outcome: Outcome) -> float | None:
        """The utility of one outcome; None when a channel that counts was not metered."""
        total = outcome.quality
        if total is None or not self.prices:
            return total
        for name in COSTS:
            if self.prices.get(name):
                amount = getattr(outcome, name)
                if amount is None:
                    return None
                total += self._weight(name) * amount
        return total

    def with_prices(self, prices: Mapping[str, float]) -> Utility:
        """The same utility with some prices changed."""
        return Utility(prices={**self.prices, **prices}, scales=self.scales)
