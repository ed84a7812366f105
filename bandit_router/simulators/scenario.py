"""Scenarios: an experiment as data. Presets ship inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Utility
from bandit_router.routing.config import load_config
from bandit_router.simulators.configs import (
    Count,
    EnvironmentConfig,
    FeedbackConfig,
    OperationConfig,
    PagingConfig,
    PolicyConfig,
)
from bandit_router.toml_files import load_toml

DEFAULT_PRESET = "models/llm"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment.

    Attributes:
        name: id of the scenario. description: one sentence.
        router: TOML file of a router (see `RouterConfig`) that serves the requests, beside this one. Its arms are
            matched by id; prices and scales are its own.
        feedback: how outcomes come back to that router. operations: what an operator does to it on the way.
        environment: what the requests and outcomes are.
        policies: what is compared, the default policy first; with a router by default its own policy.
        paging: fast memory, for environments of adapters.
        prices: utility lost per reference amount of a channel. scales: the reference amounts, in the channel's unit;
            default the environment's own (the dearest arm's mean).
        seeds: number of streams. horizon_requests: steps of each; default one pass.
    """

    name: str
    environment: EnvironmentConfig
    policies: tuple[PolicyConfig, ...] = ()
    description: str = ""
    router: str | None = None
    feedback: FeedbackConfig = FeedbackConfig()
    operations: tuple[OperationConfig, ...] = ()
    paging: PagingConfig | None = None
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    scales: dict[str, float] = msgspec.field(default_factory=dict)
    seeds: Count = 20
    horizon_requests: Count | None = None

    def __post_init__(self) -> None:
        titles = [policy.title for policy in self.policies]
        if self.router is None:
            if self.feedback != FeedbackConfig() or self.operations:
                raise InvalidInput("feedback and operations are a router's; name its file with router = ...")
        elif self.paging is not None or self.prices or self.scales:
            raise InvalidInput("with a router, prices, scales and residency stand in its own file")
        elif not titles:
            return
        if not titles or len(set(titles)) != len(titles):
            raise InvalidInput(f"policies must be one or more with distinct labels, got {titles}; set label")
        Utility(prices=self.prices, scales=self.scales)  # refuses an unknown channel before anything runs

    def utility(self, scales: Mapping[str, float]) -> Utility:
        """Prices with the environment's reference `scales` where the scenario gives none."""
        return Utility(prices=self.prices, scales={**scales, **self.scales})


def presets() -> dict[str, Path]:
    """Shipped scenarios, by name such as "models/llm"."""
    root = Path(str(files("bandit_router.simulators") / "presets"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.toml"))}


def load_scenario(name_or_path: str) -> tuple[Scenario, Path]:
    """A preset by name, or a TOML file. Returns the scenario and the folder that its relative paths start from.

    Raises:
        InvalidInput: no such preset or file, or the file breaks the schema; the message names the field.
    """
    path = presets().get(name_or_path, Path(name_or_path))
    if not path.is_file():
        known = ", ".join(presets())
        raise InvalidInput(f"no preset or scenario file {name_or_path!r}; presets are {known}")
    scenario = load_toml(path, Scenario)
    if scenario.router is not None and not scenario.policies:
        own = load_config(path.parent / scenario.router).policy
        scenario = with_overrides(scenario, policies=(PolicyConfig(name=own.name, settings=own.settings),))
    return scenario, path.parent


def with_overrides(scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario with some fields replaced; None keeps a field."""
    return msgspec.structs.replace(scenario, **{key: value for key, value in changes.items() if value is not None})
