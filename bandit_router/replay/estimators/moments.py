"""Sums that are all a fixed policy's estimate needs: they add up over parts of a log, and over machines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.replay.estimators.intervals import Interval, check_alpha
from bandit_router.replay.estimators.sequences import gamma_mixture


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a part of a log of importance weights w and rewards r, and the smallest and largest reward.

    Merging is addition, so any split of the log over files and machines gives the same sums (up to rounding).

    Example:
        >>> a = Moments.of([1.0, 2.0], [1.0, 0.0])
        >>> b = Moments.of([0.0], [1.0])
        >>> a.merge(b).ips()
        0.3333333333333333
    """

    n: int = 0
    w: float = 0.0
    ww: float = 0.0
    r: float = 0.0
    rr: float = 0.0
    wr: float = 0.0
    wrr: float = 0.0
    wwr: float = 0.0
    wwrr: float = 0.0
    largest: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, weight: Iterable[float], reward: Iterable[float]) -> Moments:
        """The sums of rows in memory."""
        import numpy as np

        w, r = np.asarray(list(weight), dtype=float), np.asarray(list(reward), dtype=float)
        wr = w * r
        return cls(
            n=len(w),
            w=float(w.sum()),
            ww=float(w @ w),
            r=float(r.sum()),
            rr=float(r @ r),
            wr=float(wr.sum()),
            wrr=float(wr @ r),
            wwr=float(w @ wr),
            wwrr=float(wr @ wr),
            largest=float(w.max(initial=0.0)),
            low=float(r.min(initial=math.inf)),
            high=float(r.max(initial=-math.inf)),
        )

    def merge(self, other: Moments) -> Moments:
        """The sums of both parts."""
        fields = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        fields |= {name: max(getattr(self, name), getattr(other, name)) for name in ("largest", "high")}
        return Moments(**{**fields, "low": min(self.low, other.low)})

    def unweighted(self) -> Moments:
        """The sums of the same rewards with every weight 1: what the logging policy earned."""
        n, r, rr = float(self.n), self.r, self.rr
        return msgspec.structs.replace(self, w=n, ww=n, wr=r, wrr=rr, wwr=r, wwrr=rr, largest=1.0)

    @property
    def ess(self) -> float:
        """Effective sample size."""
        return self.w * self.w / self.ww if self.ww > 0 else 0.0

    @property
    def logged(self) -> float:
        """Mean reward of the logging policy."""
        self._some()
        return self.r / self.n

    def ips(self) -> float:
        """Importance-weighted value."""
        self._some()
        return self.wr / self.n

    def snips(self) -> float:
        """Self-normalised value. Raises Unanswerable without overlap."""
        self._some()
        if not self.w > 0:
            raise Unanswerable("no overlap: the target policy never plays what was served")
        return self.wr / self.w

    def errors(self) -> dict[str, float]:
        """Standard errors: of ips, snips, the logged mean and the IPS difference to it."""
        n, v, u = self.n, self.ips(), self.snips()
        return {
            "ips": _error(self.wwrr / n - v * v, n),
            "snips": _error((self.wwrr - 2 * u * self.wwr + u * u * self.ww) / n, n) / (self.w / n),
            "logged": _error(self.rr / n - self.logged**2, n),
            "difference": _error((self.wwrr - 2 * self.wrr + self.rr) / n - (v - self.logged) ** 2, n),
        }

    def weight_z(self) -> float:
        """Standard errors that the weights' mean is from 1."""
        self._some()
        mean = self.w / self.n
        error = _error(self.ww / self.n - mean * mean, self.n)
        if error > 1e-12:
            return (mean - 1.0) / error
        return 0.0 if abs(mean - 1.0) < 1e-9 else math.inf

    def _some(self) -> None:
        if self.n < 2:
            raise Unanswerable(f"expected at least two rows with a reward, got {self.n}")


def _error(variance: float, n: int) -> float:
    return math.sqrt(max(0.0, variance) / (n - 1))


def merged(parts: Iterable[Moments]) -> Moments:
    """The sums of all parts."""
    total = Moments()
    for part in parts:
        total = total.merge(part)
    return total


def sequence(blocks: Sequence[Moments], bounds: Interval, alpha: float = 0.05) -> Interval:
    """Anytime-valid interval of the IPS value from the moments of consecutive blocks of the log, in their order.

    The predictable guess that the gamma mixture needs is the mean of the blocks before, so no block has to be read
    twice. Holds at the end of every block.

    Raises:
        InvalidInput: bounds are no range.
    """
    low, high = _range(bounds)
    below, above = (
        _lower([_scores(b, origin, span) for b in blocks], alpha / 2)
        for origin, span in ((low, high - low), (high, low - high))
    )
    return _ordered(low + (high - low) * below, high - (high - low) * above)


def difference(blocks: Sequence[Moments], bounds: Interval, alpha: float = 0.05) -> Interval:
    """Anytime-valid interval of the IPS value minus the logging policy's own; see `sequence`."""
    low, high = _range(bounds)
    gain, loss = (
        2 * _lower([_gains(b, origin, span) for b in blocks], alpha / 2) - 1
        for origin, span in ((low, high - low), (high, low - high))
    )
    return _ordered((high - low) * gain, -(high - low) * loss)


def _range(bounds: Interval) -> Interval:
    if not bounds[0] < bounds[1]:
        raise InvalidInput(f"bounds must be low < high, got {bounds}")
    return bounds


def _ordered(low: float, high: float) -> Interval:
    return min(low, high), max(low, high)


def _scores(block: Moments, origin: float, span: float) -> tuple[int, float, float]:
    """Number, sum and sum of squares of w (r - origin) / span, which is not negative."""
    y = (block.wr - origin * block.w) / span
    return block.n, y, (block.wwrr - 2 * origin * block.wwr + origin * origin * block.ww) / (span * span)


def _gains(block: Moments, origin: float, span: float) -> tuple[int, float, float]:
    """The same of ((w - 1) (r - origin) / span + 1) / 2, which is not negative either."""
    n, y, yy = _scores(block, origin, span)
    y -= (block.r - origin * n) / span
    cross = block.wrr - 2 * origin * block.wr + origin * origin * block.w
    plain = block.rr - 2 * origin * block.r + origin * origin * n
    yy += (plain - 2 * cross) / (span * span)
    return n, (y + n) / 2, (yy + 2 * y + n) / 4


def _lower(blocks: Sequence[tuple[int, float, float]], alpha: float) -> float:
    """Gamma-mixture lower bound for a mean in [0, 1] from number, sum and sum of squares of each block."""
    check_alpha(alpha)
    total = count = spread = 0.0
    for n, y, yy in blocks:
        guess = min((total + 0.5) / (count + 1.0), 1.0)
        spread += max(0.0, yy - 2 * guess * y + n * guess * guess)
        total, count = total + y, count + n
    return gamma_mixture(total, count, spread, alpha=alpha) if count else 0.0
