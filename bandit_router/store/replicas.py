"""Replicas that share one policy: each learns by itself, and sends the others the sums it has added.

A = ridge I + sum w x x' and b = sum w y x' are sums, so one replica's additions can be added anywhere, in any order;
what has to be certain is that each is added once, and that is the unique key (replica, sequence). A replica publishes
when its own evidence has changed what the policy is sure of,

    det(A + Delta A) > (1 + gamma) det(A)    for some arm,

or after a while in any case, and reads what the others have published as soon as it is there. The determinant's growth
costs nothing to follow: by the matrix determinant lemma every observation adds log(1 + x' A^-1 x).

Source: the trigger of Abbasi-Yadkori, Pal & Szepesvari 2011 (section 5.1) as used between agents by Wang et al. 2020
(arXiv 1904.06309), Li & Wang 2022 (arXiv 2110.01463, Async-LinUCB) and He et al. 2022 (arXiv 2207.03106). Their regret
bounds are for one shared model; here every arm has its own and any one of them triggers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.policies.linear import RidgeStatistics, invert, pack


class Delta(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one replica has added since its last publication.

    Attributes:
        replica, sequence: whose, and which in order from 1; together unique. epoch: the logical epoch it was made in.
        position: log position up to which the replica's own entries are in its deltas.
        arms: indices of the arms it touches, shape (touched,).
        gram, moment, counts: the sums of those arms, shapes (touched, dim, dim), (touched, channels, dim), (touched,).
    """

    replica: str
    sequence: int
    epoch: int
    position: int
    arms: NDArray[np.int64]
    gram: F64
    moment: F64
    counts: NDArray[np.int64]


class _Sums:
    """What one arm has learned since the last publication, and the growth of its log determinant."""

    def __init__(self, dim: int, channels: int) -> None:
        self.gram, self.moment = np.zeros((dim, dim)), np.zeros((channels, dim))
        self.count, self.growth = 0, 0.0

    def add(self, x: F64, y: F64, weight: float, width: float) -> None:
        self.gram += np.multiply.outer(weight * x, x)
        self.moment += np.multiply.outer(weight * y, x)
        self.count += 1
        self.growth += math.log1p(weight * width * width)  # matrix determinant lemma


class SharedStatistics:
    """Ridge statistics that several replicas add to.

    Args:
        statistics: this replica's, as they are when nothing is unpublished; they must not forget on their own.
        replica: its name, unique and the same after a restart.
        gamma: growth of an arm's determinant that is worth publishing, greater than 0.
        max_age_s: time after a publication at which anything new is published.
        keep: share of the evidence that a new epoch keeps, in (0, 1]; forgetting by `advance`, the same for all
            replicas.
    """

    def __init__(
        self,
        statistics: RidgeStatistics,
        *,
        replica: str,
        gamma: float = 0.1,
        max_age_s: float = 5.0,
        keep: float = 1.0,
    ) -> None:
        if statistics.forgetting < 1.0:
            raise InvalidInput("statistics that forget are not sums; use forgetting=1, and epochs with keep < 1")
        if not (gamma > 0 and math.isfinite(gamma)):
            raise InvalidInput(f"gamma must be finite and greater than 0, got {gamma}")
        if not 0 < keep <= 1:
            raise InvalidInput(f"keep must be in (0, 1], got {keep}")
        self.statistics, self.replica = statistics, replica
        self.max_age_s, self.keep, self.epoch = max_age_s, keep, 0
        self._worth = math.log1p(gamma)
        self._own: dict[int, _Sums] = {}
        self._seen: dict[str, int] = {}
        self._published_s = -math.inf
        self._unpublished: Delta | None = None

    @property
    def seen(self) -> dict[str, int]:
        """The last sequence number taken in, by replica."""
        return dict(self._seen)

    def learn(self, arm: int, x: F64, y: F64, weight: float = 1.0) -> None:
        """Fold one observation in, as `RidgeStatistics.learn`, and note it for the others."""
        self.note(arm, x, y, weight)
        self.statistics.learn(arm, x, y, weight)

    def note(self, arm: int, x: F64, y: F64, weight: float = 1.0) -> None:
        """Note an observation that the statistics are about to learn. NaN channels are imputed, as they are there."""
        if arm not in self._own:
            self._own[arm] = _Sums(self.statistics.dim, self.statistics.channels)
        mean, width = self.statistics.predict(x)
        self._own[arm].add(x, np.where(np.isnan(y), mean[arm], y), weight, float(width[arm]))

    def due(self, now_s: float) -> bool:
        """Whether there is something to publish, and it is worth it or old enough."""
        if self._unpublished is not None:
            return True
        if self._own and now_s - self._published_s > self.max_age_s:
            return True
        return any(own.growth > self._worth for own in self._own.values())

    def publish(self, position: int = 0) -> Delta | None:
        """What to send; None when nothing is new. The same again until `published` was called."""
        if self._unpublished is None and self._own:
            arms = sorted(self._own)
            self._unpublished = Delta(
                replica=self.replica,
                sequence=self._seen.get(self.replica, 0) + 1,
                epoch=self.epoch,
                position=position,
                arms=np.array(arms, dtype=np.int64),
                gram=np.stack([self._own[arm].gram for arm in arms]),
                moment=np.stack([self._own[arm].moment for arm in arms]),
                counts=np.array([self._own[arm].count for arm in arms], dtype=np.int64),
            )
            self._own = {}
        return self._unpublished

    def published(self, now_s: float = 0.0) -> None:
        """The last delta is where the others can see it."""
        self._published_s = now_s
        if self._unpublished is not None:
            self._seen[self.replica] = self._unpublished.sequence
            self._unpublished = None

    def merge(self, deltas: Iterable[Delta]) -> int:
        """Add what others have published, each delta once; returns how many were new."""
        new = 0
        for delta in deltas:
            if delta.sequence <= self._seen.get(delta.replica, 0):
                continue
            if delta.sequence != self._seen.get(delta.replica, 0) + 1:
                raise InvalidInput(f"delta {delta.sequence} of {delta.replica!r} came before its predecessor")
            if delta.arms.max(initial=-1) >= len(self.statistics.counts):
                raise InvalidInput(f"delta of {delta.replica!r} is about arm {delta.arms.max()}, which is not here yet")
            self.advance(delta.epoch)
            self.statistics.merge(self._spread(delta, self.keep ** (self.epoch - delta.epoch)))
            self._seen[delta.replica] = delta.sequence
            new += 1
        return new

    def advance(self, epoch: int) -> None:
        """Go on to a later epoch: evidence counts `keep` times as much after each. An earlier epoch changes nothing."""
        if epoch <= self.epoch:
            return
        if self._unpublished is not None or self._own:
            raise InvalidInput("publish what is new before going on to another epoch")
        factor = self.keep ** (epoch - self.epoch)
        self.epoch = epoch
        if factor == 1.0:
            return
        statistics, sums = self.statistics, self.statistics.sums()
        prior = statistics.ridge * np.eye(statistics.dim)
        inverse = np.stack([invert(prior + factor * (gram - prior)) for gram in sums["gram"]])
        theta = factor * sums["moment"] @ inverse
        statistics.restore({"inverse": pack(inverse), "theta": theta, "counts": sums["counts"]})

    def _spread(self, delta: Delta, factor: float) -> dict[str, NDArray[Any]]:
        """A delta as arrays over all arms, the form that `RidgeStatistics.merge` takes."""
        n_arms = len(self.statistics.counts)
        sums: dict[str, NDArray[Any]] = {
            "gram": np.zeros((n_arms, *delta.gram.shape[1:])),
            "moment": np.zeros((n_arms, *delta.moment.shape[1:])),
            "counts": np.zeros(n_arms, dtype=np.int64),
        }
        sums["gram"][delta.arms] = factor * delta.gram
        sums["moment"][delta.arms] = factor * delta.moment
        sums["counts"][delta.arms] = delta.counts
        return sums
