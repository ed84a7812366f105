"""Cache controllers by name, those that need to know the future included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.arrays import Bool, Index
from bandit_router.errors import InvalidInput
from bandit_router.policies.caching.base import CacheController
from bandit_router.policies.caching.credit import ExchangeCredit
from bandit_router.policies.caching.eviction import GDSF, LFU, LRU
from bandit_router.policies.caching.ftpl import FTPL
from bandit_router.policies.caching.hazard import ReuseHazard
from bandit_router.policies.caching.polar import Polar, PolarPlus
from bandit_router.policies.caching.static import Belady, Static
from bandit_router.simulators.adapters import Paging

DEFAULT_CONTROLLER = "ExchangeCredit"
NAMED_CONTROLLER = "ReuseHazard"  # the default where requests name their adapter: nothing can be exchanged for it
EVERYTHING = "EverythingResident"


@dataclass(frozen=True)
class Hindsight:
    """What only the simulator knows of one stream.

    Attributes:
        best: the best static set, shape (arms,). value: the sum of its g over the stream.
        wanted: the truly best arm of every request, paging aside, shape (steps,).
        seed: of the stream.
    """

    best: Bool
    value: float
    wanted: Index
    seed: int


Build = Callable[[Paging, Hindsight, dict[str, Any]], CacheController]


def _learning(kind: type[CacheController]) -> Build:
    return lambda paging, hindsight, settings: kind(capacity=paging.capacity, costs=paging.costs, **settings)


def _seeded(kind: type[CacheController]) -> Build:
    return lambda paging, hindsight, settings: kind(
        capacity=paging.capacity, costs=paging.costs, **{"seed": hindsight.seed, **settings}
    )


def _static(choose: Callable[[Paging, Hindsight], Bool]) -> Build:
    return lambda paging, hindsight, settings: Static(
        capacity=paging.capacity, costs=paging.costs, resident=choose(paging, hindsight), **settings
    )


def _first_fitting(paging: Paging, order: Index) -> Bool:
    """The arms of `order` that fit, one after another."""
    resident = paging.capacity.floor.copy()
    for arm in order:
        if not resident[arm] and paging.capacity.room_for(resident, int(arm)):
            resident[arm] = True
    return resident


def _popular(paging: Paging, hindsight: Hindsight) -> Bool:
    demand = np.bincount(hindsight.wanted, minlength=len(paging.costs))
    return _first_fitting(paging, np.argsort(-demand, kind="stable"))


def _random(paging: Paging, hindsight: Hindsight) -> Bool:
    return _first_fitting(paging, np.random.default_rng(hindsight.seed).permutation(len(paging.costs)))


def _belady(paging: Paging, hindsight: Hindsight, settings: dict[str, Any]) -> CacheController:
    return Belady(capacity=paging.capacity, costs=paging.costs, future=hindsight.wanted.tolist(), **settings)


CONTROLLERS: dict[str, Build] = {
    "ExchangeCredit": _learning(ExchangeCredit),
    "Polar": _learning(Polar),
    "PolarPlus": _seeded(PolarPlus),
    "LRU": _learning(LRU),
    "LFU": _learning(LFU),
    "GDSF": _learning(GDSF),
    "FTPL": _seeded(FTPL),
    "ReuseHazard": _learning(ReuseHazard),
    "StaticRandom": _static(_random),
    "StaticPopular": _static(_popular),
    "StaticBest": _static(lambda paging, hindsight: hindsight.best),
    "Belady": _belady,
    "NoCache": _static(lambda paging, hindsight: paging.capacity.floor),
    EVERYTHING: _static(lambda paging, hindsight: np.ones(len(paging.costs), dtype=np.bool_)),
}


def check_controller(name: str) -> None:
    """Raise InvalidInput with the names there are, unless `name` is one."""
    if name not in CONTROLLERS:
        raise InvalidInput(f"unknown controller {name!r}; there are {', '.join(CONTROLLERS)}")


def build_controller(name: str, paging: Paging, hindsight: Hindsight, settings: dict[str, Any]) -> CacheController:
    """A fresh controller. `paging` must be unlimited for "EverythingResident", see `Paging.unlimited`."""
    check_controller(name)
    try:
        return CONTROLLERS[name](paging, hindsight, settings)
    except TypeError as error:
        raise InvalidInput(f"controller {name}: {error}") from None
