"""The groups of a router's arguments that are plain data: which policy learns, and what it learns for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, build
from bandit_router.policies.base import Policy
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.settling.rules import RewardRule


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy by name, with its settings.

    Attributes:
        name: one of `POLICIES`. settings: its settings by name, for instance {"alpha": 0.1}.
        monitor: lets a linear policy trust an arm less that has changed silently; see `DriftMonitor`. The default
            policy watches for changes itself and takes none.

    Example:
        >>> PolicySpec(name="LinUCB", settings={"alpha": 0.1}).build(n_arms=2, dim=1, channels=1).alpha
        0.1
    """

    name: str = DEFAULT_POLICY
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)
    monitor: DriftMonitor | None = None

    def build(self, **sizes: int) -> Policy:
        """A fresh policy. Raises InvalidInput when there is none of that name, or it has no such setting."""
        return build(self.name, self.settings, **sizes)


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a router learns, what it is worth, and when it counts.

    Attributes:
        prices, scales: of the channels, see `Utility`; default quality alone.
        channels: outcome channels that are learned, quality first. All of them by default, so that a price set later
            takes effect without relearning.
        rewards: when and how rewards settle a decision; see `RewardRule`.

    Example:
        >>> objective = Objective(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.01})
        >>> objective.utility.priced("cost_usd"), objective.rewards.window_s
        (True, 172800.0)
    """

    prices: dict[str, float] = msgspec.field(default_factory=dict)
    scales: dict[str, float] = msgspec.field(default_factory=dict)
    channels: tuple[str, ...] = CHANNELS
    rewards: RewardRule = RewardRule()

    def __post_init__(self) -> None:
        unknown = [name for name in self.channels if name not in CHANNELS]
        if tuple(self.channels)[:1] != ("quality",) or unknown:
            raise InvalidInput(
                f"channels must be quality first, then any of {CHANNELS[1:]}, got {tuple(self.channels)}"
            )
        self.utility.weights(self.channels)

    @property
    def utility(self) -> Utility:
        """Prices and scales as a utility."""
        return Utility(prices=self.prices, scales=self.scales)


def check_kinds(arms: object, context: object, **groups: tuple[object, type]) -> None:
    """Raise InvalidInput unless arms are arms, the context a length or an encoder, and each group of its own kind."""
    if isinstance(arms, str) or not isinstance(arms, Iterable) or not all(isinstance(arm, Arm) for arm in arms):
        raise InvalidInput(f'arms must be a list of Arm, for instance [Arm(id="small")], got {arms!r:.80}')
    encodes = callable(context) and hasattr(context, "dim")
    if isinstance(context, bool) or not (isinstance(context, int) or encodes or _are_names(context)):
        raise InvalidInput(f"context must be a length or an encoder, or a list of distinct names, got {context!r:.80}")
    for name, (value, kind) in groups.items():
        if not isinstance(value, kind):
            raise InvalidInput(f"{name} must be an instance of {kind.__name__}, got {value!r:.80}")


def _are_names(context: object) -> bool:
    if isinstance(context, str) or not isinstance(context, Sequence) or not context:
        return False
    return all(isinstance(name, str) and name for name in context) and len(set(context)) == len(context)
