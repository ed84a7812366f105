"""Scenarios: an experiment as data. Presets ship inside the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bandit_router.outcomes import Utility
from bandit_router.policies import POLICIES
from bandit_router.policies.base import InvalidInput, Policy
from bandit_router.simulators.environment import Environment
from bandit_router.simulators.table import TableEnvironment, load_table

Count = Annotated[int, msgspec.Meta(ge=1)]
DEFAULT_PRESET = "models/llm"


class TableConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="table"):
    """An outcome table: a shipped table's name or a folder (relative to the scenario file)."""

    table: str
    contexts: tuple[str, ...] | None = None

    def build(self, name: str, folder: Path | None) -> Environment:
        """The environment; `folder` is where relative paths start."""
        local = None if folder is None else folder / self.table
        table = load_table(local if local is not None and local.exists() else self.table)
        return TableEnvironment(table, contexts=self.contexts, name=name)


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy with settings: constructor arguments by name. `label` tells two settings of one policy apart."""

    name: str
    settings: dict[str, float] = msgspec.field(default_factory=dict)
    label: str | None = None

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise InvalidInput(f"unknown policy {self.name!r}; there are {', '.join(POLICIES)}")
        allowed = POLICIES[self.name].parameters()[3:]
        wrong = [key for key in self.settings if key not in allowed]
        if wrong:
            raise InvalidInput(f"{self.name} has no setting {wrong[0]!r}; it has {', '.join(allowed) or 'none'}")

    @property
    def title(self) -> str:
        """What results call it."""
        return self.label or self.name

    def build(self, environment: Environment) -> Policy:
        """A fresh policy of the environment's sizes."""
        sizes = {"n_arms": len(environment.arms), "dim": environment.dim, "channels": len(environment.channels)}
        kinds = {key: type(getattr(POLICIES[self.name](**sizes), key)) for key in self.settings}
        return POLICIES[self.name](**sizes, **{key: kinds[key](value) for key, value in self.settings.items()})


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment.

    Attributes:
        name: id of the scenario. description: one sentence.
        environment: what the requests and outcomes are.
        policies: what is compared, the default policy first.
        prices: utility lost per reference amount of a channel. scales: the reference amounts, in the channel's unit;
            default the environment's own (the dearest arm's mean).
        seeds: number of streams. horizon_requests: steps of each; default one pass.
    """

    name: str
    environment: TableConfig
    policies: tuple[PolicyConfig, ...]
    description: str = ""
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    scales: dict[str, float] = msgspec.field(default_factory=dict)
    seeds: Count = 20
    horizon_requests: Count | None = None

    def __post_init__(self) -> None:
        titles = [policy.title for policy in self.policies]
        if not titles or len(set(titles)) != len(titles):
            raise InvalidInput(f"policies must be one or more with distinct labels, got {titles}; set label")
        Utility(prices=self.prices, scales=self.scales)  # refuses an unknown channel before anything runs

    def utility(self, environment: Environment) -> Utility:
        """Prices with the reference scales of the environment where the scenario gives none."""
        return Utility(prices=self.prices, scales={**environment.scales, **self.scales})


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
