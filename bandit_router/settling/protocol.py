"""What a router asks of the place where decisions and rewards are kept: `MemoryStore`, or `store.Store`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from bandit_router.budgets.pacing import Budgets
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision, Settlement
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import Reward, RewardRule


class Cooldown(msgspec.Struct, frozen=True, kw_only=True):
    """How long one arm is left alone; the greater version is the newer one.

    Attributes:
        until_s: when it may be probed, None where nothing is the matter. times: how often it was opened in a row.
        healed_s: when a probe went well. version: how often this has changed.
    """

    until_s: float | None = None
    times: int = 0
    healed_s: float | None = None
    version: int = 0


class Cooling(Protocol):
    """What a store keeps, and shares between processes, of the health of arms; called under the learner's lock."""

    def cooldowns(self) -> dict[str, Cooldown]:
        """The cooldowns that were ever changed, by arm id."""

    def follow(self, stored: dict[str, Cooldown]) -> None:
        """Take over the cooldowns that are newer than what is known here."""


class Control(NamedTuple):
    """A group of settings that operators change: its type, and how its value is read and put in force."""

    kind: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]


class EventStore(Protocol):
    """What a router asks of the place where decisions and rewards are kept; see `store.Store` and `memory`."""

    @property
    def healthy(self) -> bool:
        """Whether what is recorded gets where it is kept."""

    def accepting(self) -> bool:
        """Whether new decisions can be kept; when not, the baseline is served, degraded."""

    def find(self, event_id: str) -> Decision | None:
        """The decision already made for an event."""

    def look_up(self, event_id: str) -> Decision | None:
        """The decision of an event, however old; it may wait. Raises StoreUnavailable when that takes too long."""

    def remember(self, decision: Decision) -> None:
        """Make a new decision findable; called under the learner's lock, so it must not wait."""

    def record(self, decision: Decision) -> None:
        """Make a new decision durable as promised, or give up within a bound; never raises."""

    async def arecord(self, decision: Decision) -> None:
        """The same without blocking the event loop."""

    def report(self, reward: Reward) -> Settlement:
        """Bill one reward to the budgets and count it; bad data is refused, never raised."""

    async def areport(self, reward: Reward) -> Settlement:
        """The same without blocking the event loop."""

    def add_arm(self, arm: Arm, *, like: int | None, strength: float) -> None:
        """Append an arm."""

    def set_status(self, arm_id: str, status: str, *, by: str | None = None) -> None:
        """Keep an arm's status."""

    def steer(self, controls: Mapping[str, Control]) -> None:
        """Keep these settings from now on, and put in force what was kept of them; called once."""

    def changed(self, name: str, *, by: str | None) -> None:
        """Keep the value of a control, which was changed here."""

    def note(self, name: str, what: Any, *, by: str | None) -> None:
        """Keep for the record what was changed by other means."""

    def flush(self) -> None:
        """Wait until everything recorded so far is kept. Raises StoreUnavailable when that takes too long."""

    def close(self) -> None:
        """Write what is left."""


class EventStoreSettings(Protocol):
    """What `Router(store=...)` takes, `Memory` or `Store`: it loads the state and hands out the event store."""

    def attach(
        self,
        learner: Learner,
        *,
        rule: RewardRule,
        counters: Counter[str],
        clock: Callable[[], float],
        budgets: Budgets | None,
        cooling: Cooling | None,
    ) -> EventStore:
        """Bring learner, budgets and cooldowns to the state of what is recorded, and go on from there."""
