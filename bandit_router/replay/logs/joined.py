"""Formats whose decision, cost and reward come in separate records: attempts make a decision, rewards join it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.row import COLUMNS, Row
from bandit_router.replay.logs.values import number, parsed, same_model

DECISION = tuple(name for name in COLUMNS if name not in ("event_id", "reward", *CHANNELS))
FIELDS = (*DECISION, *CHANNELS, "reward")
"""What a caller may put under `bandit_router` in a gateway's metadata, or as `bandit_router.*` span attributes."""
DIVERTED = "requests that were retried or answered by another arm than was drawn: kept, and no arm is credited"
_NUMBERS = {name for name, kind in COLUMNS.items() if kind == "number"}
_NESTED = {name for name, kind in COLUMNS.items() if kind in ("ids", "context", "distribution")}
_SAME_START_S = 0.002  # a database keeps milliseconds of what a payload says in full


@dataclass(kw_only=True)
class Attempt:
    """One call to a model, as one record tells it.

    Attributes:
        arm: the arm it counts for when the caller names none. served: every name of what answered, the narrowest
            first. asked: the name that was called, the arm drawn if it is an arm. drawn: the arm that surely was.
        failed: no answer came. retried, moved, fresh: the record itself tells of an earlier attempt, of another arm, of
            neither.
        metered: what the gateway measured. own: the caller's fields.
        ids: what names this attempt alone. loose: ids that may repeat, such as the provider's.
    """

    file: str
    line: int
    ids: tuple[str, ...]
    arm: str
    served: tuple[str, ...] = ()
    asked: str | None = None
    drawn: str | None = None
    loose: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    failed: bool = False
    retried: bool = False
    moved: bool = False
    fresh: bool = False
    metered: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)

    def again(self, other: Attempt) -> bool:
        """Whether the other record tells of the same call."""
        times = self.start is None or other.start is None or abs(self.start - other.start) <= _SAME_START_S
        return self.failed == other.failed and self.arm == other.arm and times


class Joiner:
    """Makes a row of the attempts of each decision and joins rewards to it, whatever the order of the records."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._decisions: list[tuple[str, list[Attempt]]] = []
        self._additions: list[tuple[str, int, tuple[str, ...], dict[str, Any]]] = []
        self._strong: dict[str, set[int]] = defaultdict(set)
        self._weak: dict[str, set[int]] = defaultdict(set)
        self._places = range(0)

    def decide(self, event_id: str, attempts: Iterable[Attempt]) -> None:
        """One decision: its attempts, earliest first. A second answer under one id is reported and not taken."""
        kept: list[Attempt] = []
        for attempt in attempts:
            twin = next((known for known in kept if known.again(attempt)), None)
            if twin is not None:
                twin.metered = {**known_of(attempt.metered), **known_of(twin.metered)}
                twin.own, twin.loose = {**attempt.own, **twin.own}, twin.loose + attempt.loose
                twin.retried, twin.moved = twin.retried or attempt.retried, twin.moved or attempt.moved
            elif not attempt.failed and not all(known.failed for known in kept):
                self.intake.reject(attempt.file, attempt.line, "another call under the same id", event_id)
            else:
                kept.append(attempt)
        self._decisions.append((event_id, kept))

    def add(self, file: str, line: int, ids: Iterable[str], part: Mapping[str, Any]) -> None:
        """A reward or cost of the decision that the first known id names."""
        self._additions.append((file, line, tuple(ids), known_of(part)))

    def assemble(self, assembler: Assembler) -> None:
        """Hand every decision over as a row; what joins none is reported."""
        names = _Names([attempt for _, attempts in self._decisions for attempt in attempts])
        parts = [_part(attempts, names, self.intake) for _, attempts in self._decisions]
        _keep_to_the_playable(parts, names.arms)
        self._join(parts)
        for (event_id, attempts), part in zip(self._decisions, parts, strict=True):
            file, line = attempts[0].file, attempts[0].line
            try:
                row = msgspec.convert({"event_id": event_id, **part}, Row, strict=False)
            except msgspec.ValidationError as error:
                self.intake.reject(file, line, "a field has the wrong type", f"{event_id}: {error}")
                continue
            assembler.add(file, line, row)

    def event(self, ids: Iterable[str]) -> str | None:
        """The event id of the one decision that these ids name; None for none or several."""
        found = self._find(ids)
        return self._decisions[next(iter(found))][0] if len(found) == 1 else None

    def _find(self, ids: Iterable[str]) -> set[int]:
        """Places of the decisions that go by the first known id; one that is its own counts before one that repeats."""
        if len(self._places) < len(self._decisions):
            self._index()
        ids = tuple(ids)
        return next((places[name] for places in (self._strong, self._weak) for name in ids if name in places), set())

    def _index(self) -> None:
        self._places = range(len(self._decisions))
        for i, (event_id, attempts) in enumerate(self._decisions):
            self._strong[event_id].add(i)
            for attempt in attempts:
                for table, names in ((self._strong, attempt.ids), (self._weak, attempt.loose)):
                    for name in names:
                        table[name].add(i)

    def _join(self, parts: list[dict[str, Any]]) -> None:
        for file, line, ids, part in self._additions:
            found, shown = self._find(ids), ids[0] if ids else ""
            if len(found) != 1:
                reason = "an id of several calls" if found else "no decision for this reward or cost"
                self.intake.reject(file, line, reason, shown)
                continue
            event = parts[next(iter(found))]
            if event.get("mode") == "diverted":
                continue
            clash = [name for name, value in part.items() if event.get(name) not in (None, value)]
            if clash:
                self.intake.reject(file, line, "contradicts an earlier record of the event", f"{shown}: {clash[0]}")
            else:
                event.update(part)


class _Names:
    """Which names are arms by the callers' own account, so that a gateway's several names of one thing meet them."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.arms = {name for attempt in attempts for name in _named(attempt.own)}
        self.arms |= {a.arm for a in attempts if "propensity" in a.own and not (_named(a.own) or a.moved or a.failed)}
        self._asked = self.arms | {attempt.asked for attempt in attempts if attempt.asked == attempt.arm}
        self._found: dict[tuple[str, ...], str | None] = {}
        self.shared = any(self.find(attempt.served) is not None for attempt in attempts)

    def find(self, served: tuple[str, ...]) -> str | None:
        """The arm that goes by one of these names; None if the callers named none of them."""
        if served not in self._found:
            exact = next((name for name in served if name in self.arms), None)
            alike = (arm for name in served for arm in sorted(self.arms) if same_model(arm, name))
            self._found[served] = exact or next(alike, None)
        return self._found[served]

    def of(self, attempt: Attempt) -> str:
        """The arm that an attempt was; callers that name no arm as the gateway does are taken at their word."""
        word = attempt.own.get("arm") if not self.shared and not attempt.moved else None
        return self.find(attempt.served) or (word if isinstance(word, str) else attempt.arm)

    def drawn(self, attempt: Attempt) -> str | None:
        """The arm that was drawn, where a record tells."""
        arm, asked = attempt.own.get("arm", attempt.drawn), attempt.asked
        return arm if isinstance(arm, str) else asked if asked in self._asked else None


def _named(own: Mapping[str, Any]) -> set[str]:
    lists = [own[name] for name in ("eligible", "probabilities") if isinstance(own.get(name), (list, dict))]
    return {name for names in ([own.get("arm")], *lists) for name in names if isinstance(name, str)}


def _part(attempts: Sequence[Attempt], names: _Names, intake: Intake) -> dict[str, Any]:
    """The fields of one decision: those of the attempt that answered, or of the first when none did."""
    first, answer = attempts[0], next((a for a in attempts if not a.failed), attempts[-1])
    own = {name: value for attempt in reversed(attempts) for name, value in attempt.own.items()}
    arms = [names.of(attempt) for attempt in attempts]
    arm = arms[attempts.index(answer)]
    drawn = names.drawn(first) or (arms[0] if len(attempts) > 1 else None)
    part = {"timestamp_s": first.start, **known_of(answer.metered), **own, "arm": arm}
    if len(attempts) > 1 and None not in (first.start, answer.end) and "latency_s" not in own:
        part["latency_s"] = max(0.0, (answer.end or 0.0) - (first.start or 0.0))
    if answer.failed:
        part["mode"] = "failure"
    elsewhere = any(a.moved for a in attempts) or len(set(arms)) > 1 or drawn not in (None, arm)
    tried = len(attempts) > 1 or any(a.retried for a in attempts)
    if not isinstance(own.get("arm", ""), str):
        part["arm"] = own["arm"]  # the row's check reports it
    elif elsewhere or (tried and not answer.failed):
        intake.notes[DIVERTED] += 1
        return _diverted(part, drawn)
    return part


def _diverted(part: dict[str, Any], drawn: str | None) -> dict[str, Any]:
    """What was drawn, without what became of it: that was another's. Estimators leave a row out that does not tell."""
    mode = part.get("mode") if part.get("mode") == "failure" else "diverted"
    kept = {name: value for name, value in part.items() if name in DECISION}
    if drawn is not None:
        return {**kept, "arm": drawn, "mode": mode}
    if isinstance(eligible := kept.get("eligible"), list) and kept["arm"] not in eligible:
        kept["eligible"] = [*eligible, kept["arm"]]
    if kept.get("probabilities"):
        kept["probabilities"] = {kept["arm"]: 1.0}
    return {**kept, "mode": mode, "degraded": True, "propensity": None}


def _keep_to_the_playable(parts: Sequence[dict[str, Any]], arms: set[str]) -> None:
    """What only ever stood in for an arm that failed is none that a policy may play."""
    drawn = [part for part in parts if part.get("degraded") is not True]
    playable = arms | {part["arm"] for part in drawn if isinstance(part["arm"], str)}
    if drawn and any(part["arm"] not in playable for part in parts):
        for part in drawn:
            part.setdefault("eligible", sorted(playable))


def known_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that an event log has and that are known; numbers that came as text are numbers."""
    known = {name: value for name, value in part.items() if name in FIELDS and value is not None}
    for name in known.keys() & _NUMBERS:
        if isinstance(known[name], str):
            known[name] = number(known[name]) if number(known[name]) is not None else known[name]
    for name in known.keys() & _NESTED:
        if isinstance(known[name], str):
            known[name] = parsed(known[name])
    return known
