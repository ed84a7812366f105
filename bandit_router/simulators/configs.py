"""The parts of a scenario file: environments, paging and policies, validated, every number with its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.paging.model import PagingModel
from bandit_router.paging.residency import OnMiss
from bandit_router.policies import build, read_settings
from bandit_router.policies.base import Policy
from bandit_router.simulators.adapters import Drift, LinearAdapters, Paging, TableAdapters
from bandit_router.simulators.controllers import DEFAULT_CONTROLLER, read_controller
from bandit_router.simulators.environment import Environment
from bandit_router.simulators.table import OutcomeTable, TableEnvironment, load_table
from bandit_router.simulators.trace import TraceEnvironment, load_trace

Count = Annotated[int, msgspec.Meta(ge=1)]
Value = bool | int | float | str
NonNegative = Annotated[float, msgspec.Meta(ge=0)]


def _local(path: str, folder: Path | None) -> str:
    """`path` from the scenario's own folder where it exists there."""
    inside = None if folder is None else folder / path
    return str(inside) if inside is not None and inside.exists() else path


class TableConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="table"):
    """An outcome table: a shipped table's name or a folder (relative to the scenario file)."""

    table: str
    contexts: tuple[str, ...] | None = None

    def load(self, folder: Path | None) -> OutcomeTable:
        """The table."""
        return load_table(_local(self.table, folder))

    def build(self, name: str, folder: Path | None) -> Environment:
        """The environment; `folder` is where relative paths start."""
        return TableEnvironment(self.load(folder), contexts=self.contexts, name=name)


class AdapterTableConfig(TableConfig, frozen=True, kw_only=True, tag_field="kind", tag="adapter_table"):
    """An outcome table whose arms are taken to be adapters on a base model that is always resident."""

    base: str | None = None

    def build(self, name: str, folder: Path | None) -> Environment:
        """See `TableConfig.build`."""
        return TableAdapters(self.load(folder), contexts=self.contexts, name=name, base=self.base)


class AdaptersConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="adapters"
):
    """Synthetic adapters, see `LinearAdapters`."""

    adapters: Count = 15
    dim: Count = 5
    zipf_exponent: NonNegative = 1.1
    noise_sd: NonNegative = 0.1
    smoothing_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    drift: Drift = "none"

    def build(self, name: str, folder: Path | None) -> Environment:
        """See `TableConfig.build`."""
        return LinearAdapters(
            n_adapters=self.adapters,
            dim=self.dim,
            zipf=self.zipf_exponent,
            noise=self.noise_sd,
            smoothing=self.smoothing_share,
            drift=self.drift,
            name=name,
        )


class TraceConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="request_trace"
):
    """A Parquet file of requests that name their adapter, or without `path` a synthetic one, see `TraceEnvironment`."""

    path: str | None = None
    adapters: Count = 200
    zipf_exponent: NonNegative = 1.0
    repeat_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5

    def build(self, name: str, folder: Path | None) -> TraceEnvironment:
        """See `TableConfig.build`."""
        if self.path is not None:
            ids, requests = load_trace(Path(_local(self.path, folder)))
            return TraceEnvironment(name=name, requests=requests, ids=ids)
        return TraceEnvironment(name=name, n_adapters=self.adapters, zipf=self.zipf_exponent, repeat=self.repeat_share)


EnvironmentConfig = TableConfig | AdapterTableConfig | AdaptersConfig | TraceConfig


class PagingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fast memory.

    Attributes:
        profile: a shipped paging profile or a file, with an optional "@tier".
        weight_utility: the utility one would give up to avoid the slowest load.
        capacity_slots, capacity_mb: how many adapters, how many megabytes fit; at least one is given.
        on_miss: see `Residency`. pinned: ids that stay resident.
    """

    profile: str = "peft-local"
    weight_utility: NonNegative = 0.3
    capacity_slots: Annotated[int, msgspec.Meta(ge=0)] | None = None
    capacity_mb: NonNegative | None = None
    on_miss: OnMiss = "insert"
    pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.capacity_slots is None and self.capacity_mb is None:
            raise InvalidInput("paging needs capacity_slots or capacity_mb")

    def build(self, environment: Environment | TraceEnvironment) -> Paging:
        """Costs and capacity for an environment's arms."""
        unknown = set(self.pinned) - {arm.id for arm in environment.arms}
        if unknown:
            raise InvalidInput(f"pinned names unknown arms: {', '.join(sorted(unknown))}")
        return Paging(
            arms=environment.arms,
            model=PagingModel.load(self.profile),
            weight=self.weight_utility,
            slots=self.capacity_slots,
            limit_bytes=None if self.capacity_mb is None else self.capacity_mb * 1e6,
            pinned=self.pinned,
        )


class FeedbackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How outcomes come back to a simulated router: costs at once, qualities perhaps late or never.

    Attributes:
        requests_per_s: of the simulated clock, which windows and budgets go by.
        late_share: share of the qualities that come late. delay_s: their mean delay, exponential, in seconds.
        missing_share: share of the qualities that never come.
    """

    requests_per_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    late_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    delay_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    missing_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        if self.late_share + self.missing_share > 1:
            raise InvalidInput("late_share and missing_share must sum to at most 1")


class OperationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator does before one request.

    Attributes:
        step: the request, from 0. pause, resume: an arm's id. prices: the new ones, by channel.
        rollout: fields of the rollout that change, for instance {mode = "off"}.
    """

    step: Annotated[int, msgspec.Meta(ge=0)]
    pause: str | None = None
    resume: str | None = None
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    rollout: dict[str, Any] = msgspec.field(default_factory=dict)


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy with settings: constructor arguments by name; with paging also a cache controller.

    Attributes:
        name, settings: of the policy. label: tells two entries apart; default the names.
        controller, controller_settings: of the cache controller; default `ExchangeCredit`.
        cache_aware: whether the router sees what a cold arm costs.
    """

    name: str
    settings: dict[str, Value] = msgspec.field(default_factory=dict)
    label: str | None = None
    controller: str | None = None
    controller_settings: dict[str, Value] = msgspec.field(default_factory=dict)
    cache_aware: bool = True

    def __post_init__(self) -> None:
        read_settings(self.name, self.settings)
        read_controller(self.cache, self.controller_settings)

    @property
    def title(self) -> str:
        """What results call it."""
        oblivious = "" if self.cache_aware else "oblivious "
        return self.label or oblivious + " + ".join(filter(None, (self.name, self.controller)))

    @property
    def cache(self) -> str:
        """Name of the controller."""
        return self.controller or DEFAULT_CONTROLLER

    def build(self, environment: Environment) -> Policy:
        """A fresh policy of the environment's sizes."""
        sizes = {"n_arms": len(environment.arms), "dim": environment.dim, "channels": len(environment.channels)}
        return build(self.name, self.settings, **sizes)
