"""One scenario made concrete: what a single stream and a single policy come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.paging.residency import OnMiss
from bandit_router.routing.config import load_config
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.configs import PagingConfig, PolicyConfig
from bandit_router.simulators.controllers import EVERYTHING, Hindsight, build_controller
from bandit_router.simulators.engine import Drive, Served
from bandit_router.simulators.environment import Environment
from bandit_router.simulators.paged import hindsight, simulate_paged
from bandit_router.simulators.run import Reference, Trajectory, checkpoints, reference, simulate
from bandit_router.simulators.scenario import Scenario
from bandit_router.simulators.trace import TraceEnvironment, simulate_trace, trace_hindsight


@dataclass(frozen=True)
class Arena:
    """Everything that all streams and policies of a scenario share.

    Attributes:
        environment, weights, horizon: see `simulate`. paging, on_miss: fast memory, None without adapters.
        served: the router that serves, None where policies are driven alone.
    """

    environment: Environment | TraceEnvironment
    weights: F64
    horizon: int
    paging: Paging | None
    on_miss: OnMiss
    served: Served | None = None

    @classmethod
    def of(cls, scenario: Scenario, folder: Path | None) -> Arena:
        """The arena of a scenario; `folder` is where its relative paths start."""
        environment = scenario.environment.build(scenario.name, folder)
        if scenario.router is not None:
            return cls._routed(scenario, environment, folder)
        config = scenario.paging
        if config is None and isinstance(environment, TraceEnvironment):
            config = PagingConfig(capacity_slots=8)
        return cls(
            environment=environment,
            weights=scenario.utility(environment.scales).weights(environment.channels),
            horizon=scenario.horizon_requests or environment.horizon,
            paging=None if config is None else config.build(environment),
            on_miss="insert" if config is None else config.on_miss,
        )

    @classmethod
    def _routed(cls, scenario: Scenario, environment: Environment | TraceEnvironment, folder: Path | None) -> Arena:
        if isinstance(environment, TraceEnvironment):
            raise InvalidInput("a trace names the arm of every request; a router has nothing to decide there")
        path = Path(folder or "", scenario.router or "")
        config = load_config(path)
        served = Served(config, scenario.feedback, scenario.operations)
        fitting = served.environment(environment, config.encoder(path.parent))
        return cls(
            environment=fitting,
            weights=config.objective.utility.weights(fitting.channels),
            horizon=scenario.horizon_requests or environment.horizon,
            paging=None,
            on_miss="insert",
            served=served,
        )

    @property
    def fixed_choices(self) -> list[str]:
        """What the references compare with: the arms, or for a trace the best static cache."""
        if isinstance(self.environment, TraceEnvironment):
            return ["best static cache"]
        return [arm.id for arm in self.environment.arms]

    def prices(self, scenario: Scenario) -> dict[str, float]:
        """Utility lost per reference amount of a channel."""
        return scenario.prices if self.served is None else self.served.config.objective.prices

    def reference(self, seed: int) -> tuple[Reference, Hindsight | None]:
        """What fixed choices and hindsight would have got on one stream."""
        stream: dict[str, Any] = {"seed": seed, "horizon": self.horizon}
        if isinstance(self.environment, TraceEnvironment):
            assert self.paging is not None  # noqa: S101 -- `of` gives every trace a capacity
            known = trace_hindsight(self.environment, self.paging, **stream)
            steps = checkpoints(self.horizon)
            costs = np.where(known.best, 0.0, self.paging.costs)[known.wanted]
            return Reference(-costs.cumsum()[steps - 1][:, None], np.zeros(len(steps))), known
        result = reference(self.environment, self.weights, **stream)
        if self.paging is None:
            return result, None
        return result, hindsight(self.environment, self.paging, self.weights, **stream)

    def run(self, config: PolicyConfig, seed: int, known: Hindsight | None) -> Trajectory:
        """One policy on one stream."""
        stream: dict[str, Any] = {"seed": seed, "horizon": self.horizon}
        if self.paging is None or known is None:
            assert not isinstance(self.environment, TraceEnvironment)  # noqa: S101 -- traces always page
            if self.served is not None:
                return Drive(self.served, self.environment, config, seed=seed).run(self.weights, self.horizon)
            return simulate(self.environment, config.build(self.environment), self.weights, **stream)
        paging = self.paging.unlimited() if config.cache == EVERYTHING else self.paging
        settings = dict(config.controller_settings)
        if config.cache == "ExchangeCredit":
            settings.setdefault("free_insert", self.on_miss == "insert")
        controller = build_controller(config.cache, paging, known, settings)
        if isinstance(self.environment, TraceEnvironment):
            return simulate_trace(self.environment, controller, paging, on_miss=self.on_miss, **stream)
        return simulate_paged(
            self.environment,
            config.build(self.environment),
            controller,
            paging,
            self.weights,
            on_miss=self.on_miss,
            cache_aware=config.cache_aware,
            **stream,
        )
