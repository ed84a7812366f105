"""The door of what is learned: outcomes and contexts far beyond all that was learned before.

A bill in the wrong unit or a feature that nobody scaled counts once like any other, and one of them can outweigh
everything a policy knows. So the door keeps the largest amount learned of every arm and channel, and of every feature:

    suspect    a cost above `BEYOND` times the largest learned of its arm, once the arm has `ENOUGH` of them; before
               that above `BEYOND_OTHERS` times the largest of any arm. The outcome settles its decision, unlearned.
    confirmed  the `CONFIRMATIONS`-th suspect in a row of an arm, if they are within a factor of `BEYOND`: a price
               has risen. It is learned, and so are those that follow.
    clipped    a feature above `BEYOND_FEATURE` times its largest learned; the decision is made, recorded and learned
               from at the limit.

What one outcome can do to the largest is a factor of `GROWTH`, so nothing is ruined by creeping either. All of it is a
fold of the settled log like the policy's own state. Before an arm's first bill and a feature's first value nothing
is known: then a cost may be as large as its channel is declared, and a feature `FIRST_FEATURE`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.policies.native import sound

BEYOND, BEYOND_OTHERS, ENOUGH = 20.0, 1000.0, 5
CONFIRMATIONS = 5
BEYOND_FEATURE, FIRST_FEATURE, LARGEST_FEATURE = 10.0, 1e6, 1e9
GROWTH = 2.0
PEAK = 1e3  # numbers up to here cannot ruin a state
HOUR_S = 3600.0
NAMES = ("largest", "counts", "doubted", "least", "features", "peak")


class Door:
    """What is usual, by arm and channel and by feature.

    Args:
        n_arms, dim, channels: sizes of the policy.

    Attributes:
        largest, counts: largest amount learned and number of positive ones, by arm and channel. Plain lists: an
            outcome has a handful of channels, and every report is compared.
        doubted, least: suspects in a row and the least of them, by arm and channel.
        features: largest absolute value learned, shape (dim,).
        peak: number beyond which a state is checked after it has learned.

    Example:
        >>> door = Door(n_arms=1, dim=1, channels=2)
        >>> for _ in range(5):
        ...     door.learned(0, np.ones(1), [0.8, 0.2])
        >>> door.suspects(0, [0.8, 3.9]), door.suspects(0, [0.8, 1e4])
        (False, True)
        >>> door.clip(np.array([1e18])).tolist()
        [10.0]
    """

    largest: list[list[float]]
    counts: list[list[float]]
    doubted: list[list[float]]
    least: list[list[float]]

    def __init__(self, *, n_arms: int, dim: int, channels: int) -> None:
        for name in NAMES[:4]:
            setattr(self, name, [[0.0] * channels for _ in range(n_arms)])
        self.channels = channels
        self.features, self.peak = np.zeros(dim), PEAK
        self._bound()

    def limit(self, arm: int, channel: int) -> float:
        """Above which amount of a cost an outcome of the arm is suspect."""
        largest = self.largest[arm][channel]
        if self.counts[arm][channel] >= ENOUGH and largest > 0:
            limit = BEYOND * largest
        else:
            limit = BEYOND_OTHERS * max(row[channel] for row in self.largest)
        if self.doubted[arm][channel] >= CONFIRMATIONS - 1:
            limit = max(limit, BEYOND * self.least[arm][channel])
        return limit or math.inf

    def suspects(self, arm: int, amounts: Sequence[float | None]) -> bool:
        """Whether the door doubts an outcome, by channel; the quality, which comes first, has its range."""
        largest = self.largest[arm]
        for channel in range(1, self.channels):
            amount = amounts[channel]
            if amount is not None and amount > largest[channel] and amount > self.limit(arm, channel):
                return True
        return False

    def clip(self, x: F64) -> F64:
        """A context within the limits; the same array where it is, and where it is to be refused."""
        if not sound(x, len(self.features)):  # too large to square, or no context at all
            return x
        if x.dot(x) <= self._calm or not np.count_nonzero(np.abs(x) > self._bounds):
            return x
        return np.clip(x, -self._bounds, self._bounds)

    def _bound(self) -> None:
        """Set beyond what a feature is clipped, and below what sum of squares none can be."""
        if self.features.any():
            known = np.where(self.features > 0, self.features, max(1.0, float(self.features.max())))
            self._bounds = np.minimum(BEYOND_FEATURE * known, LARGEST_FEATURE)
        else:
            self._bounds = np.full_like(self.features, FIRST_FEATURE)
        self._calm = float(self._bounds.min()) ** 2

    def learned(self, arm: int, x: F64, amounts: Sequence[float]) -> None:
        """An outcome is being learned: what is usual grows. NaN where a channel was not metered."""
        largest, counts, doubted = self.largest[arm], self.counts[arm], self.doubted[arm]
        for channel, amount in enumerate(amounts):
            if amount > 0:
                if amount > largest[channel]:
                    free = counts[channel] < ENOUGH or doubted[channel] >= CONFIRMATIONS - 1
                    largest[channel] = amount if free else min(amount, GROWTH * largest[channel])
                counts[channel] += 1.0
            if doubted[channel]:
                doubted[channel] = 0.0
        size = np.abs(x)
        if np.count_nonzero(size > self.features):
            growing = np.where(self.features > 0, GROWTH * self.features, np.inf)
            np.maximum(self.features, np.minimum(size, growing), out=self.features)
            self._bound()

    def doubts(self, arm: int, amounts: Sequence[float]) -> None:
        """A suspect outcome has been settled."""
        doubted, least = self.doubted[arm], self.least[arm]
        for channel in range(1, self.channels):
            amount, before = amounts[channel], least[channel]
            if not amount > self.limit(arm, channel):
                continue
            if doubted[channel] > 0 and amount <= BEYOND * before and before <= BEYOND * amount:
                doubted[channel], least[channel] = doubted[channel] + 1.0, min(before, amount)
            else:
                doubted[channel], least[channel] = 1.0, amount

    def unheard_of(self, x: F64, amounts: Sequence[float]) -> bool:
        """Whether numbers are so much larger than all before that the state has to be checked after learning them."""
        peak = self.peak
        if x.dot(x) <= peak * peak and not any([amount > peak for amount in amounts]):
            return False
        size = max(float(np.abs(x).max(initial=0.0)), *(amount for amount in amounts if amount == amount), 0.0)
        if size <= self.peak:
            return False
        self.peak = 10.0 * size
        return True

    def grow(self, n_arms: int) -> None:
        """Have so many arms; nothing is known of new ones."""
        for name in NAMES[:4]:
            rows = getattr(self, name)
            rows += [[0.0] * self.channels for _ in range(n_arms - len(rows))]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of everything by name."""
        return {name: np.array(getattr(self, name), np.float64) for name in NAMES}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved arrays of as many arms or fewer; those of other sizes, or none, leave the door as it is."""
        n_arms = len(self.largest)
        for name, own in self.arrays().items():
            saved = arrays.get(name)
            if saved is None or saved.shape[1:] != own.shape[1:] or (name in NAMES[4:] and saved.shape != own.shape):
                return
        for name in NAMES[:4]:
            setattr(self, name, np.asarray(arrays[name], np.float64).tolist())
        self.features, self.peak = np.array(arrays["features"], np.float64), float(arrays["peak"])
        self._bound()
        self.grow(n_arms)


class Influence:
    """How many rewards each source has had counted within the clock's hour; in this process, and not saved.

    Args:
        per_hour: how many may count, None for any number.
    """

    def __init__(self, per_hour: int | None) -> None:
        self.per_hour, self.hour = per_hour, -1
        self.counted: Counter[str] = Counter()

    def spent(self, source: str | None, at_s: float) -> bool:
        """Whether a source has had its share of this hour; if not, one more is counted."""
        if self.per_hour is None or source is None:
            return False
        hour = int(at_s // HOUR_S)
        if hour > self.hour or hour < self.hour - 1:  # late by less: it waited; by more: the clock was set back
            self.hour = hour
            self.counted.clear()
        self.counted[source] += 1
        return self.counted[source] > self.per_hour

    def copy(self) -> Influence:
        """The same counts apart, for a transaction that may be taken back."""
        twin = Influence(self.per_hour)
        twin.hour, twin.counted = self.hour, self.counted.copy()
        return twin
