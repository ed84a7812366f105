"""A router as data: one TOML file that is served, simulated and replayed alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.budgets.limits import Limit
from bandit_router.budgets.pacing import Budgets
from bandit_router.declared import named
from bandit_router.encoding.contexts import Encoder
from bandit_router.encoding.sections import Section, build_encoder, check_sections, sections_schema
from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_cache import AdapterCache, Learns
from bandit_router.paging.model import MB, PagingModel
from bandit_router.paging.residency import OnMiss
from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.groups import Objective, PolicySpec
from bandit_router.routing.health import Health
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.memory import Memory
from bandit_router.settling.protocol import EventStoreSettings
from bandit_router.store.settings import BackPressure, Durability, Sharing
from bandit_router.toml_files import load_toml


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a name that is not there is refused."""


_MONITOR = {name: setting.default for name, setting in DriftMonitor.declared.items()}


class MonitorSection(_Section, frozen=True):
    """A `DriftMonitor`; thresholds in standard deviations of the prediction error.

    Attributes:
        threshold, slack, patience, keep: see `DriftMonitor`.
    """

    threshold: float = _MONITOR["threshold"]
    slack: float = _MONITOR["slack"]
    patience: int = _MONITOR["patience"]
    keep: float = _MONITOR["keep"]


class PolicySection(_Section, frozen=True):
    """Which policy learns.

    Attributes:
        name: one of `bandit-router policies`. settings: its own, by name.
        monitor: watches a linear policy for silent changes; default none.
    """

    name: str = DEFAULT_POLICY
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    monitor: MonitorSection | None = None

    def __post_init__(self) -> None:
        named("policy", self.name, dict.fromkeys(POLICIES))  # by name alone: a policy is loaded when it is built

    def build(self) -> PolicySpec:
        """The argument of a router."""
        monitor = None if self.monitor is None else DriftMonitor(**msgspec.structs.asdict(self.monitor))
        return PolicySpec(name=self.name, settings=self.settings, monitor=monitor)


class BudgetSection(_Section, frozen=True):
    """Limits on what is spent, see `Budgets`.

    Attributes:
        limits: each with kind "rate", "window", "floor" or "tail", and a name of its own.
        expected: by arm id, what one request is thought to take, by channel in its unit.
        exhausted: "refuse", or serve the "cheapest", when no arm can be paid for.
        timeout_s: seconds after which a bill is late.
    """

    limits: tuple[Limit, ...]
    expected: dict[str, Outcome] = msgspec.field(default_factory=dict)
    exhausted: str = "refuse"
    timeout_s: float = 3600.0

    def build(self) -> Budgets:
        """Fresh budgets."""
        return Budgets(**{name: getattr(self, name) for name in self.__struct_fields__})


class ResidencySection(_Section, frozen=True):
    """Fast memory for adapters, see `AdapterCache`.

    Attributes:
        profile: a shipped paging profile or a file, with an optional "@tier".
        weight_utility: utility one would give up to avoid the slowest load.
        capacity_slots, capacity_mb: how many adapters, how many megabytes fit; at least one is given.
        on_miss: what the engine does with an adapter that was paged in. pinned: ids that stay resident.
    """

    profile: str = "peft-local"
    weight_utility: float = 0.3
    capacity_slots: int | None = None
    capacity_mb: float | None = None
    on_miss: OnMiss = "insert"
    pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.capacity_slots is None and self.capacity_mb is None:
            raise InvalidInput("residency needs capacity_slots or capacity_mb")

    def build(self, router: Learns) -> AdapterCache:
        """A fresh cache beside a router."""
        arms = list(router.learner.catalogue)
        loads = PagingModel.load(self.profile).expected_ms(np.array([float(arm.size_bytes) for arm in arms]))
        return AdapterCache(
            router=router,
            load_ms={arm.id: float(ms) for arm, ms in zip(arms, loads, strict=True) if arm.size_bytes},
            weight=self.weight_utility,
            slots=self.capacity_slots,
            limit_bytes=None if self.capacity_mb is None else self.capacity_mb * MB,
            pinned=self.pinned,
            on_miss=self.on_miss,
        )


class Secret(_Section, frozen=True):
    """Where a secret is read from; it never stands in the file itself.

    Attributes:
        env: name of an environment variable. file: a path, white space around what it holds is left out. One of them.
    """

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise InvalidInput("a secret is read from env or from file; give one of the two")

    def read(self, folder: Path | None) -> bytes:
        """The secret; a relative path starts from `folder`."""
        if self.file is not None:
            try:
                secret = Path(folder or "", self.file).read_bytes().strip()
            except OSError as error:
                raise InvalidInput(f"cannot read the secret in {self.file}: {error.strerror or error}") from None
        else:
            secret = os.environ.get(self.env or "", "").encode()
        if not secret:
            where = f"file {self.file}" if self.env is None else f"environment variable {self.env}"
            raise InvalidInput(f"no secret in {where}; put one there, at most 64 bytes")
        return secret


class MemorySection(Memory, frozen=True, tag_field="kind", tag="memory"):
    """Decisions in memory only, see `Memory`."""

    def build(self, folder: Path | None) -> EventStoreSettings:
        """The argument of a router."""
        return self


class DatabaseSection(_Section, frozen=True, tag_field="kind", tag="database"):
    """A durable event store, see `Store`.

    Attributes:
        url: `sqlite:////var/lib/router/events.db`, or `postgresql://user@host/name`.
        durability, back_pressure, bound_s, wait_s, spool, queue_bytes, max_events, early_s, snapshot_every,
            retention_s, replica, share: see `Store`; times in seconds.
        snapshot_key: the secret that signs snapshots; default unsigned.
    """

    url: str
    durability: Durability = "process"
    back_pressure: BackPressure = "shed"
    bound_s: float = 0.05
    wait_s: float = 1.0
    spool: str | None = None
    queue_bytes: int = 32 << 20
    max_events: int = 100_000
    early_s: float = 120.0
    snapshot_every: int = 10_000
    retention_s: float | None = None
    snapshot_key: Secret | None = None
    replica: str | None = None
    share: Sharing | None = None

    def build(self, folder: Path | None) -> EventStoreSettings:
        """The argument of a router."""
        from bandit_router.store import Store

        settings = msgspec.structs.asdict(self)
        signing = settings.pop("snapshot_key")
        return Store(**settings, snapshot_key=None if signing is None else signing.read(folder))


class RouterConfig(_Section, frozen=True):
    """Everything that makes a router, as `Router.from_config` reads it from TOML.

    Attributes:
        arms: what can be served, in a fixed order. context: length of the context vector, or a list of encoders.
        policy, objective, rollout, health, budgets, store: the groups of the router's arguments.
        residency: fast memory for adapters. key: where the secret of the keyed draw is read from.
        gateway: how it is served, for `bandit-router serve` alone, which checks what stands in it.

    Example:
        >>> config = RouterConfig(arms=(Arm(id="small"), Arm(id="large")), context=2)
        >>> config.arguments()["context"], config.policy.name
        (2, 'EvidenceThompson')
    """

    arms: tuple[Arm, ...]
    context: int | tuple[Section, ...]
    policy: PolicySection = PolicySection()
    objective: Objective = Objective()
    rollout: Rollout = Rollout()
    health: Health = Health()
    budgets: BudgetSection | None = None
    residency: ResidencySection | None = None
    store: MemorySection | DatabaseSection = MemorySection()
    key: Secret | None = None
    gateway: Any = None

    def __post_init__(self) -> None:
        catalogue = _named("arms", lambda: Catalogue(self.arms))
        _named("rollout", lambda: self.rollout.check(catalogue))
        _named("health", lambda: catalogue.flags(self.health.in_flight))
        context, budgets, residency = self.context, self.budgets, self.residency
        if not isinstance(context, int):
            _named("context", lambda: check_sections(context))
        if budgets is not None:
            _named("budgets", budgets.build)
            _named("budgets", lambda: catalogue.mask(budgets.expected))
        if residency is not None:
            _named("residency", lambda: catalogue.mask(residency.pinned))
        sizes = {"n_arms": len(self.arms), "dim": 1, "channels": len(self.objective.channels)}
        _named("policy", lambda: self.policy.build().build(**sizes))

    def arguments(self, folder: Path | None = None, **instead: Any) -> dict[str, Any]:
        """The arguments of `Router`, fresh ones at every call.

        Args:
            folder: where relative paths start. instead: arguments that take the place of what stands here; what they
                replace is not built.
        """
        build: dict[str, Callable[[], Any]] = {
            "arms": lambda: self.arms,
            "context": lambda: self.encoder(folder),
            "policy": self.policy.build,
            "objective": lambda: self.objective,
            "rollout": lambda: self.rollout,
            "health": lambda: self.health,
            "budgets": lambda: None if self.budgets is None else self.budgets.build(),
            "store": lambda: self.store.build(folder),
            "key": lambda: None if self.key is None else self.key.read(folder),
        }
        return {name: _named(name, make) for name, make in build.items() if name not in instead} | instead

    def encoder(self, folder: Path | None = None) -> int | Encoder:
        """The context's length, or the encoder of requests."""
        return self.context if isinstance(self.context, int) else build_encoder(self.context, folder)


def _named(section: str, make: Callable[[], Any]) -> Any:
    """What `make` makes; where it cannot, the error names the section."""
    try:
        return make()
    except InvalidInput as error:
        raise InvalidInput(f"{section}: {error}") from None


def load_config(path: str | Path) -> RouterConfig:
    """Read a router's TOML file. Raises InvalidInput with the file, the line and the names that are allowed there."""
    return load_toml(Path(path), RouterConfig)


def schema(kind: type[RouterConfig] = RouterConfig) -> dict[str, Any]:
    """The JSON Schema of a router's TOML file, with the settings of every policy."""
    document = msgspec.json.schema(kind)
    policy = document["$defs"]["PolicySection"]
    policy["properties"]["name"]["enum"] = list(POLICIES)
    context = document["$defs"][kind.__name__]["properties"]["context"]
    context["anyOf"] = [{"type": "integer"}, {"type": "array", "items": sections_schema()}]
    policy["allOf"] = [_settings_of(name) for name in POLICIES]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _settings_of(name: str) -> dict[str, Any]:
    """The rule of the schema for what can be set where the policy has that name, or where none is named."""
    chosen = {"properties": {"name": {"const": name}}, "required": [] if name == DEFAULT_POLICY else ["name"]}
    allowed = {key: setting.schema() for key, setting in POLICIES[name].choices().items()}
    return {
        "if": chosen,
        "then": {"properties": {"settings": {"properties": allowed, "additionalProperties": False}}},
    }
