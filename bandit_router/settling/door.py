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

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.records.outcomes import MAX_SQUARED

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
        largest, counts: largest amount learned and number of positive ones, shape (n_arms, channels).
        doubted, least: suspects in a row and the least of them, shape (n_arms, channels).
        features: largest absolute value learned, shape (dim,).
        peak: number beyond which a state is checked after it has learned.

    Example:
        >>> door = Door(n_arms=1, dim=1, channels=2)
        >>> for _ in range(5):
        ...     door.learned(0, np.ones(1), np.array([0.8, 0.2]))
        >>> door.suspects(0, np.array([0.8, 3.9])), door.suspects(0, np.array([0.8, 1e4]))
        (False, True)
        >>> door.clip(np.array([1e18])).tolist()
        [10.0]
    """

    largest: F64
    counts: F64
    doubted: F64
    least: F64
    features: F64
    peak: F64

    def __init__(self, *, n_arms: int, dim: int, channels: int) -> None:
        for name in NAMES[:4]:
            setattr(self, name, np.zeros((n_arms, channels)))
        self.features, self.peak = np.zeros(dim), np.array(PEAK)

    def limits(self, arm: int) -> F64:
        """Above which amount of each channel an outcome of the arm is suspect, shape (channels,)."""
        largest = self.largest[arm]
        known = (self.counts[arm] >= ENOUGH) & (largest > 0)
        limits = np.where(known, BEYOND * largest, BEYOND_OTHERS * self.largest.max(axis=0))
        confirmed = self.doubted[arm] >= CONFIRMATIONS - 1
        limits = np.where(confirmed, np.maximum(limits, BEYOND * self.least[arm]), limits)
        limits[limits == 0.0] = np.inf
        limits[0] = np.inf  # the quality has its range
        return np.asarray(limits)

    def suspects(self, arm: int, y: F64) -> bool:
        """Whether the door doubts an outcome, shape (channels,), NaN where not metered."""
        return bool((y > self.largest[arm]).any() and (y > self.limits(arm)).any())

    def clip(self, x: F64) -> F64:
        """A context within the limits; the same array where it is, and where it is to be refused."""
        size = np.abs(x)
        if x.shape != self.features.shape or (size <= self.features).all() or not (size <= MAX_SQUARED).all():
            return x
        usual = BEYOND_FEATURE * np.where(self.features > 0, self.features, max(1.0, float(self.features.max())))
        limits = np.minimum(usual if self.features.any() else FIRST_FEATURE, LARGEST_FEATURE)
        return x if (size <= limits).all() else np.clip(x, -limits, limits)

    def learned(self, arm: int, x: F64, y: F64) -> None:
        """An outcome is being learned: what is usual grows."""
        metered = y > 0
        free = (self.counts[arm] < ENOUGH) | (self.doubted[arm] >= CONFIRMATIONS - 1)
        most = np.where(free, np.inf, GROWTH * self.largest[arm])
        self.largest[arm] = np.where(metered, np.maximum(self.largest[arm], np.minimum(y, most)), self.largest[arm])
        self.counts[arm] += metered
        self.doubted[arm] = 0.0
        size = np.abs(x)
        if (size <= self.features).all():
            return
        growing = np.where(self.features > 0, GROWTH * self.features, np.inf)
        np.maximum(self.features, np.minimum(size, growing), out=self.features)

    def doubts(self, arm: int, y: F64) -> None:
        """A suspect outcome has been settled."""
        over = y > self.limits(arm)
        least = self.least[arm]
        agree = (self.doubted[arm] > 0) & (y <= BEYOND * least) & (least <= BEYOND * y)
        self.doubted[arm] = np.where(over, np.where(agree, self.doubted[arm] + 1.0, 1.0), self.doubted[arm])
        self.least[arm] = np.where(over, np.where(agree, np.minimum(least, y), y), least)

    def unheard_of(self, x: F64, y: F64) -> bool:
        """Whether numbers are so much larger than all before that the state has to be checked after learning them."""
        usual = self.peak.item()
        if (np.abs(x) <= usual).all() and not (y > usual).any():  # outcomes are not negative
            return False
        size = max(float(np.abs(x).max(initial=0.0)), float(np.nanmax(y)))
        self.peak = np.array(10.0 * size)
        return True

    def grow(self, n_arms: int) -> None:
        """Have so many arms; nothing is known of new ones."""
        for name in NAMES[:4]:
            values = getattr(self, name)
            new = np.zeros((max(0, n_arms - len(values)), values.shape[1]))
            setattr(self, name, np.concatenate([values, new]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of everything by name."""
        return {name: getattr(self, name).copy() for name in NAMES}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved arrays of as many arms or fewer; those of other sizes, or none, leave the door as it is."""
        n_arms = len(self.largest)
        fresh = Door(n_arms=n_arms, dim=len(self.features), channels=self.largest.shape[1])
        for name in NAMES:
            saved, own = arrays.get(name), getattr(fresh, name)
            if saved is None or saved.shape[1:] != own.shape[1:] or (name in NAMES[4:] and saved.shape != own.shape):
                return
        for name in NAMES:
            setattr(self, name, np.array(arrays[name], dtype=np.float64))
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
