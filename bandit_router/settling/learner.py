"""The state that is learned: a catalogue and a policy, folded from the settled log entry by entry.

    state_n = fold(state_0, entry_1, ..., entry_n)

Everything that changes what is learned is an entry of that log: a settled decision, an added arm, a state taken over
from elsewhere. Folding the same entries in the same order does the same floating-point operations in the same order, so
it gives the same bytes (same build, same machine type); the position in the log therefore names the state.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.policies.state import check_sizes
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.decisions import Decision
from bandit_router.records.outcomes import Utility
from bandit_router.settling.door import Door
from bandit_router.settling.forks import stand_still
from bandit_router.settling.rules import Settled

_log = logging.getLogger(__name__)
State = dict[str, NDArray[Any]]
METERED = "router.metered"
MONITOR, DOOR = "monitor.", "door."
TURN_S, PAUSE_S = 0.001, 0.0001  # the longest fold without a pause (one entry may take longer), and the pause


class ArmAdded(msgspec.Struct, frozen=True, kw_only=True):
    """The log entry that appends an arm, started at the estimate of arm `like` worth `strength` observations."""

    position: int
    index: int
    arm: Arm
    like: int | None = None
    strength: float = 1.0


class Restored(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The log entry that replaces what was learned by an imported state, or by what a correction gave."""

    position: int
    state: State
    corrected: bool = False


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A log entry that cannot be read, or whose decision is gone: it holds its place and changes nothing."""

    position: int


Entry = Settled | ArmAdded | Restored


class Learner:
    """Catalogue, policy and prices behind one lock, and the log position they stand at.

    Args:
        catalogue: the arms. policy: learns about them. channels: what the policy's outcome channels are.
        utility: prices that turn outcomes into rewards.
        monitor: watches a linear policy for silent changes; its state is part of what is learned.
        features: names of the elements of a context, None for none. With names, a shorter context is from before the
            last ones were appended.

    Attributes:
        position: number of log entries folded in.
        last: event and reward of the entry at that position, None when it is not a settled decision or not known.
        door: tells what is far beyond all that was learned; its state is part of what is learned.
        skipped: entries the policy would not learn from (it said why).
        rolled_back: entries that left numbers which are not finite in the state, and so were taken back.
        watch: called with every decision and its outcome vector, just before they are learned.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        policy: Policy,
        channels: Sequence[str],
        utility: Utility,
        monitor: DriftMonitor | None = None,
        features: Sequence[str] | None = None,
    ) -> None:
        if monitor is not None and not policy.widens:
            raise InvalidInput(
                f"a DriftMonitor watches linear policies, for instance LinUCB, got {type(policy).__name__}; "
                "EvidenceThompson watches for changes itself"
            )
        self.catalogue, self.policy, self.channels, self.monitor = catalogue, policy, tuple(channels), monitor
        self.features = None if features is None else tuple(features)
        self.position = 0
        self.last: tuple[str, float | None] | None = None
        self.skipped = self.rolled_back = 0
        self.door = Door(n_arms=policy.n_arms, dim=policy.dim, channels=policy.channels)
        self.watch: Callable[[Decision, F64], None] | None = None
        self.metered = np.zeros(len(self.channels), dtype=np.int64)
        self.lock = threading.RLock()
        self.changing = threading.RLock()  # taken inside `lock` by whatever changes what was learned
        stand_still(self)
        self.reprice(utility)

    def reprice(self, utility: Utility) -> None:
        """Use other prices from now on; nothing is relearned."""
        self.weights = utility.weights(self.channels)
        self.utility = utility

    def apply(self, entry: Entry | Lost) -> None:
        """Fold in the next entry. An observation the policy refuses is skipped, deterministically, and counted."""
        with self.lock, self.changing:
            if entry.position <= self.position:
                return
            if entry.position != self.position + 1:
                raise InvalidInput(f"expected log entry {self.position + 1}, got {entry.position}; fold it in order")
            if isinstance(entry, Settled):
                if entry.learned:
                    self._learn(entry)
                elif entry.status == "suspect":
                    self.door.doubts(entry.decision.arm_index, entry.outcome.vector(self.channels))
            elif isinstance(entry, ArmAdded):
                self._add(entry)
            elif isinstance(entry, Restored):
                self._import(entry)
            self.position = entry.position
            self.last = (entry.decision.event_id, entry.reward) if isinstance(entry, Settled) else None

    def fold(self, entries: Iterable[Entry | Lost]) -> None:
        """Fold in the next entries, in short turns between which a waiting decision gets the lock."""
        begun = time.monotonic()
        for entry in entries:
            self.apply(entry)
            if give_way(begun):
                begun = time.monotonic()

    def _learn(self, entry: Settled) -> None:
        decision, x = entry.decision, self._widened(entry.decision.context)
        y = entry.outcome.vector(self.channels)
        try:
            if self.watch is not None:
                self.watch(decision, y)
            if self.monitor is not None and not np.isnan(y[0]):
                self.monitor.observe(self.policy, x, arm=decision.arm_index, quality=float(y[0]))
            self._teach(decision, x, y)
        except Exception as problem:  # the entry is settled: a policy that cannot use it must not stop the log
            self.skipped += 1
            why = problem if isinstance(problem, InvalidInput) else type(problem).__name__  # no context in the log
            _log.warning("event %s was not learned: %s", decision.event_id, why)
            return
        self.metered += ~np.isnan(y)
        self.door.learned(decision.arm_index, x, y)

    def _teach(self, decision: Decision, x: F64, y: F64) -> None:
        """Let the policy learn; numbers larger than all before may leave none that are not finite in its state."""
        checked = self.door.unheard_of(x, y)
        before = self.policy.state() if checked else {}
        self.policy.learn(x, decision.arm_index, y, propensity=decision.propensity)
        if checked and not _finite(self.policy.state()):
            self.policy = type(self.policy).from_state(before)
            self.rolled_back += 1
            raise InvalidInput("the state was not finite afterwards, so it was put back")

    def _widened(self, x: F64) -> F64:
        """A context from before features were appended: where they have names, what was not known is 0."""
        missing = self.policy.dim - len(x)
        return np.pad(x, (0, missing)) if self.features is not None and missing > 0 else x

    def _add(self, entry: ArmAdded) -> None:
        if entry.index >= len(self.catalogue) and entry.arm.id in self.catalogue.ids:
            raise InvalidInput(f"arm {entry.arm.id!r} is in the catalogue already; give the new one another id")
        if entry.index >= self.policy.n_arms:
            self.policy.add_arm(like=entry.like, strength=entry.strength)
            self.door.grow(self.policy.n_arms)
        if entry.index >= len(self.catalogue):
            self.catalogue.add(entry.arm)

    def capture(self) -> tuple[int, State]:
        """The log position and a copy of what was learned up to it; decisions go on meanwhile, learning waits."""
        with self.changing:
            watched = {} if self.monitor is None else self.monitor.state()
            marked = {f"{MONITOR}{name}": array for name, array in watched.items()}
            marked |= {f"{DOOR}{name}": array for name, array in self.door.arrays().items()}
            return self.position, {**self.policy.state(), **marked, METERED: self.metered.copy()}

    def restore(self, position: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Stand at `position` with a captured state. Raises InvalidInput when it is another policy's."""
        with self.lock, self.changing:
            self._take_over(state)
            self.position, self.last = position, None

    def copy(self) -> Learner:
        """An independent learner in the same state."""
        with self.lock, self.changing:
            twin = Learner(
                catalogue=Catalogue(self.catalogue),
                policy=type(self.policy).from_state(self.policy.state()),
                channels=self.channels,
                utility=self.utility,
                monitor=None if self.monitor is None else DriftMonitor.from_state(self.monitor.state()),
                features=self.features,
            )
            twin.door.restore(self.door.arrays())
            twin.position, twin.last, twin.metered = self.position, self.last, self.metered.copy()
            return twin

    def adopt(self, other: Learner) -> None:
        """Go on from another learner's state."""
        with self.lock, self.changing:
            self.catalogue, self.policy, self.monitor = other.catalogue, other.policy, other.monitor
            self.position, self.last = other.position, other.last
            self.metered, self.watch, self.door = other.metered, other.watch, other.door

    def _take_over(self, state: Mapping[str, NDArray[Any]]) -> None:
        check_sizes(state)
        for name, mine in self.policy.settings().items():  # before anything is made in their size
            theirs = state.get(f"parameter.{name}")
            if theirs is not None and name != "n_arms" and theirs.item() != mine:
                raise InvalidInput(f"expected a state with {name} = {mine}, got {theirs.item()}")
            if theirs is not None and name == "n_arms" and theirs.item() > len(self.catalogue):
                raise InvalidInput(f"expected a state of at most {len(self.catalogue)} arms, got {theirs.item()}")
        metered = state.get(METERED, np.zeros(0))
        if metered.shape != self.metered.shape or metered.dtype.kind != "i" or metered.min() < 0:
            raise InvalidInput(f"state['{METERED}'] must be {len(self.metered)} counts, got {metered.tolist()!r:.60}")
        policy = type(self.policy).from_state(state)
        if self.monitor is not None:
            self.monitor = monitor_of(state) or self.monitor.fresh()
        self.policy = policy
        self.door = Door(n_arms=policy.n_arms, dim=policy.dim, channels=policy.channels)
        self.door.restore(saved(state, DOOR))
        self.metered = np.array(metered, dtype=np.int64)

    def _import(self, entry: Restored) -> None:
        try:
            self._take_over(entry.state)
        except InvalidInput as problem:  # the log may serve several policies; this state is another one's
            self.skipped += 1
            _log.warning("the state imported at %d was skipped: %s", entry.position, problem)
            return
        while self.policy.n_arms < len(self.catalogue):
            self.policy.add_arm()
        self.door.grow(self.policy.n_arms)


def _finite(state: State) -> bool:
    return all(np.isfinite(array).all() for array in state.values() if array.dtype.kind == "f")


def saved(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    """The arrays of a captured state behind a prefix."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def give_way(begun: float) -> bool:
    """Pause, without the lock, if a turn that began then was long; locks are not fair, who waits needs time to wake."""
    if time.monotonic() - begun <= TURN_S:
        return False
    time.sleep(PAUSE_S)
    return True


def monitor_of(state: Mapping[str, NDArray[Any]]) -> DriftMonitor | None:
    """The monitor saved in a captured state, None where there is none."""
    watched = saved(state, MONITOR)
    return DriftMonitor.from_state(watched) if watched else None
