"""Scenarios: an experiment as data. Presets ship inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Utility
from bandit_router.simulators.configs import Count, EnvironmentConfig, PagingConfig, PolicyConfig

DEFAULT_PRESET = "models/llm"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment.

    Attributes:
        name: id of the scenario. description: one sentence.
        environment: what the requests and outcomes are.
        policies: what is compared, the default policy first.
        paging: fast memory, for environments of adapters.
        prices: utility lost per reference amount of a channel. scales: the reference amounts, in the channel's unit;
            default the environment's own (the dearest arm's mean).
        seeds: number of streams. horizon_requests: steps of each; default one pass.
    """

    name: str
    environment: EnvironmentConfig
    policies: tuple[PolicyConfig, ...]
    description: str = ""
    paging: PagingConfig | None = None
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    scales: dict[str, float] = msgspec.field(default_factory=dict)
    seeds: Count = 20
    horizon_requests: Count | None = None

    def __post_init__(self) -> None:
        titles = [policy.title for policy in self.policies]
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
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Scenario), path.parent
    except OSError:
        known = ", ".join(presets())
        raise InvalidInput(f"no preset or scenario file {name_or_path!r}; presets are {known}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name}: {error}") from None


def with_overrides(scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario with some fields replaced; None keeps a field."""
    return msgspec.structs.replace(scenario, **{key: value for key, value in changes.items() if value is not None})
