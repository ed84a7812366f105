"""Cache controllers by name, those that need to know the future included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bandit_router.arrays import Bool, Index
from bandit_router.declared import named, read
from bandit_router.policies.caching.base import CacheController
from bandit_router.policies.caching.credit import ExchangeCredit
from bandit_router.policies.caching.eviction import CACHES
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


class Named(NamedTuple):
    """A controller and what it is given beside capacity and costs: the seed of the stream, or knowledge of it."""

    part: type[CacheController]
    given: Callable[[Paging, Hindsight], dict[str, Any]] = lambda paging, hindsight: {}


def _static(choose: Callable[[Paging, Hindsight], Bool]) -> Named:
    return Named(Static, lambda paging, hindsight: {"resident": choose(paging, hindsight)})


def _seeded(part: type[CacheController]) -> Named:
    return Named(part, lambda paging, hindsight: {"seed": hindsight.seed})


CONTROLLERS: dict[str, Named] = {
    "ExchangeCredit": Named(ExchangeCredit),
    "Polar": Named(Polar),
    "PolarPlus": _seeded(PolarPlus),
    **{name: Named(kind) for name, kind in CACHES.items()},
    "FTPL": _seeded(FTPL),
    "ReuseHazard": Named(ReuseHazard),
    "StaticRandom": _static(_random),
    "StaticPopular": _static(_popular),
    "StaticBest": _static(lambda paging, hindsight: hindsight.best),
    "Belady": Named(Belady, lambda paging, hindsight: {"future": hindsight.wanted}),
    "NoCache": _static(lambda paging, hindsight: paging.capacity.floor),
    EVERYTHING: _static(lambda paging, hindsight: np.ones(len(paging.costs), dtype=np.bool_)),
}


def read_controller(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of that controller, texts read by their types; raises InvalidInput as `build_controller` does."""
    return read(name, named("controller", name, CONTROLLERS).part, settings)


def build_controller(name: str, paging: Paging, hindsight: Hindsight, settings: Mapping[str, Any]) -> CacheController:
    """A fresh controller. `paging` must be unlimited for "EverythingResident", see `Paging.unlimited`.

    Raises:
        InvalidInput: an unknown name or setting, a value of another type or out of range.
    """
    chosen = read_controller(name, settings)
    part, given = CONTROLLERS[name]
    return part(**{"capacity": paging.capacity, "costs": paging.costs, **given(paging, hindsight), **chosen})
