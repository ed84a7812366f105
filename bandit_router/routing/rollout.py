"""How much of the traffic the policy may decide: modes, holdout, per-arm bounds, allow-list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Catalogue
from bandit_router.records.decisions import event_uniform
from bandit_router.routing.guard import ConservativeGuard


class Rollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the policy may decide. The baseline arm serves the rest.

    Attributes:
        mode: `online` the policy decides and learns; `apprentice` the baseline serves, the policy learns from it;
            `shadow` the baseline serves, what the policy would have done is logged, nothing is learned; `off` the
            baseline serves and the policy is not asked (the kill switch).
        holdout: share of the units, in [0, 1), that the baseline serves whatever the mode; never learned from. Which
            units is a hash of their id and the router's key, so it is the same for every request and replica.
        floors, caps: least and greatest probability of an arm, by arm id. What is drawn from, and logged, is the
            closest distribution within them (Euclidean projection).
        explore_share: share of the requests, in [0, 1), that other arms get, so that the log can value other policies:
            three quarters of it go to the arms that may still be the best by the policy's estimates, a quarter to all
            (all of it for a policy without estimates). What a share costs and buys: `bandit-router plan explore`.
        allowed: ids of the arms the policy may choose; default all. For a request where it may choose none, a declared
            baseline serves.
        baseline: id of the arm that serves when the policy may not or cannot decide; default the first eligible one.
            Every mode but `online`, a holdout and a guard need one.
        guard: lets the policy explore only what its record can pay for; see `ConservativeGuard`.

    Example:
        >>> Rollout(baseline="small", holdout=0.05, caps={"large": 0.5}).mode
        'online'
    """

    mode: Literal["online", "apprentice", "shadow", "off"] = "online"
    holdout: float = 0.0
    floors: dict[str, float] = msgspec.field(default_factory=dict)
    caps: dict[str, float] = msgspec.field(default_factory=dict)
    explore_share: float = 0.0
    allowed: tuple[str, ...] | None = None
    baseline: str | None = None
    guard: ConservativeGuard | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("online", "apprentice", "shadow", "off"):
            raise InvalidInput(f"mode must be online, apprentice, shadow or off, got {self.mode!r}")
        if isinstance(self.allowed, str):
            raise InvalidInput(f"allowed must be a list of arm ids, got {self.allowed!r}")
        for name in ("holdout", "explore_share"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share < 1:
                raise InvalidInput(f"{name} must be in [0, 1), got {share}")
        for field in ("floors", "caps"):
            for arm, value in getattr(self, field).items():
                if not isinstance(value, int | float) or not 0 <= value <= 1:
                    raise InvalidInput(f"{field}[{arm!r}] must be in [0, 1], got {value}")
        above = [arm for arm, floor in self.floors.items() if floor > self.caps.get(arm, 1.0)]
        if above or sum(self.floors.values()) > 1:
            raise InvalidInput(f"floors must be below the caps and sum to at most 1, got {self.floors}")

    def check(self, catalogue: Catalogue) -> None:
        """Raise InvalidInput when an arm named here is not in the catalogue, or a baseline is needed and missing."""
        if self.baseline is None and (self.mode != "online" or self.holdout or self.guard is not None):
            what = f"mode {self.mode!r} with holdout {self.holdout}" if self.guard is None else "a guard"
            raise InvalidInput(f"{what} needs a declared baseline arm")
        named = () if self.baseline is None else (self.baseline,)
        for arm in (*self.floors, *self.caps, *(self.allowed or ()), *named):
            catalogue.index(arm)

    def holds_out(self, unit: str, key: bytes) -> bool:
        """Whether the baseline serves this unit."""
        return self.holdout > 0 and event_uniform(key, f"holdout:{unit}") < self.holdout

    def mask(self, catalogue: Catalogue, eligible: Bool | None, *serving: str) -> Bool | None:
        """The eligible arms that are also allowed, or among those `serving` in any case; None for all."""
        if self.allowed is None:
            return eligible
        allowed = catalogue.mask((*self.allowed, *serving))
        return allowed if eligible is None or allowed is None else allowed & eligible

    def bound(self, p: F64, eligible: Bool | None, catalogue: Catalogue) -> F64:
        """The distribution within floors and caps that is closest to `p`; what is not eligible stays at 0."""
        if not self.floors and not self.caps:
            return p
        low, high = _vector(self.floors, catalogue, 0.0), _vector(self.caps, catalogue, 1.0)
        if eligible is not None:
            low, high = np.where(eligible, low, 0.0), np.where(eligible, high, 0.0)
        return project(p, low, high)


def _vector(values: Mapping[str, float], catalogue: Catalogue, fill: float) -> F64:
    vector = np.full(len(catalogue), fill)
    for arm, value in values.items():
        vector[catalogue.index(arm)] = value
    return vector


def project(p: F64, low: F64, high: F64) -> F64:
    """The distribution closest to `p` with low <= p <= high: clip(p + t) with the one t that makes the sum 1.

    Where the upper bounds do not leave room for a distribution they are widened in proportion.

    Example:
        >>> project(np.array([0.9, 0.1, 0.0]), np.array([0.0, 0.0, 0.1]), np.ones(3)).round(3).tolist()
        [0.85, 0.05, 0.1]
    """
    if (p >= low).all() and (p <= high).all():
        return p
    room = high.sum()
    if room <= 1.0:
        return np.asarray(high / room)
    shifts = np.sort(np.concatenate([low - p, high - p]))  # where the sum, piecewise linear in t, has its corners
    sums = np.clip(p + shifts[:, None], low, high).sum(axis=1)
    bounded = np.clip(p + np.interp(1.0, sums, shifts), low, high)
    return np.asarray(bounded / bounded.sum())
