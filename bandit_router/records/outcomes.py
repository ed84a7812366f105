"""Outcomes of served requests, and the utility that prices them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput

CHANNELS = ("quality", "cost_usd", "energy_j", "latency_s", "tokens", "gpu_s")
QUALITY_RANGE = (0.0, 1.0)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one served request turned out to be. None means "not metered", which is not zero.

    Attributes:
        quality: score in [0, 1]. cost_usd: US dollars billed. energy_j: joules. latency_s: seconds.
        tokens: input plus output tokens. gpu_s: GPU-seconds, the seconds of every GPU that was held for it, summed.
    """

    quality: float | None = None
    cost_usd: float | None = None
    energy_j: float | None = None
    latency_s: float | None = None
    tokens: float | None = None
    gpu_s: float | None = None

    def vector(self, channels: Sequence[str] = CHANNELS) -> F64:
        """The channels as an array, NaN where not metered."""
        values = (getattr(self, name) for name in channels)
        return np.array([math.nan if value is None else value for value in values])

    def metered(self) -> tuple[str, ...]:
        """Names of the channels that have a value."""
        return tuple(name for name in CHANNELS if getattr(self, name) is not None)

    def problem(self) -> str | None:
        """Why this outcome cannot be accepted, or None: no finite number, a negative cost, a quality out of range."""
        low, high = QUALITY_RANGE
        for name in CHANNELS:
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float | np.floating | np.integer) or not math.isfinite(value):
                return "invalid"
            if value < 0 or (name == "quality" and not low <= value <= high):
                return "out_of_range"
        return None


class Utility(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quality minus the priced channels, each measured in its reference scale.

        utility = quality - sum_c prices[c] * outcome[c] / scales[c]

    Attributes:
        prices: utility lost per reference amount of a channel; 0 for a channel that is not named.
        scales: reference amount of a channel, in its own unit (for instance the dearest model's mean cost); default 1.

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
                    raise InvalidInput(f"{field}: unknown channel {name!r}; there are {', '.join(CHANNELS[1:])}")
                if not math.isfinite(value) or (field == "scales" and value <= 0):
                    raise InvalidInput(f"{field}[{name!r}] must be finite (scales above 0), got {value}")

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
        total = 0.0
        for name in CHANNELS:
            if self.priced(name):
                amount = getattr(outcome, name)
                if amount is None:
                    return None
                total += amount if name == "quality" else self._weight(name) * amount
        return total

    def with_prices(self, prices: Mapping[str, float]) -> Utility:
        """The same utility with some prices changed."""
        return Utility(prices={**self.prices, **prices}, scales=self.scales)
