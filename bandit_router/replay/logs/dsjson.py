"""Vowpal Wabbit's decision-service JSON (dsjson), both ways.

Written keys stand in VW's own order, because its fast parsers go by position. What dsjson has no field for goes under
`_bandit_router` in the shared features, where VW skips names that begin with an underscore, and comes back from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.reading.dsjson_lines import Choice, Malformed, choice_of
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS
from bandit_router.replay.logs.lines import numbered
from bandit_router.replay.logs.logged import LoggedEvents, leaves
from bandit_router.replay.logs.record import Row, rows_of
from bandit_router.replay.logs.values import decoded, mapping, number, seconds

_PRIVATE = "_bandit_router"


def read_dsjson(
    path: Path, intake: Intake, *, arms: Sequence[str] | None = None, columns: Mapping[str, str] | None = None
) -> LoggedEvents:
    """Read dsjson. Reward = -`_label_cost`, taken as the quality too unless the line carries channels of its own.

    An arm is an action's `_tag`, else its features written as JSON, or the short name in them that `arms` holds. An
    action that is there twice is one arm, with the sum of its probabilities. `pdrop` becomes the row's weight
    1 / (1 - pdrop). A line with `_skipLearn` is kept, marked degraded: its action was never shown. Without an EventId
    the line number is one. Lines with slots or a continuous action are reported.

    Args:
        columns: {"arm": "Model.id"}: the feature that identifies an action.
    """
    if columns and set(columns) != {"arm"}:
        raise InvalidInput(f"dsjson takes arm=FEATURE, the feature that identifies an action, got {', '.join(columns)}")
    identity = _Identity((columns or {}).get("arm"), frozenset(arms or ()))
    assembler = Assembler(intake, arms=arms)
    for line, text in numbered(path, intake):
        record = decoded(text)
        if isinstance(record, str):
            intake.reject(str(path), line, "no JSON object", record)
            continue
        try:
            row = _row(record, line, identity)
        except (Malformed, msgspec.ValidationError) as error:
            intake.reject(str(path), line, "no dsjson decision", str(error))
            continue
        assembler.add(str(path), line, row)
    return assembler.log(str(path))


def _row(record: Mapping[str, Any], line: int, identity: _Identity) -> Row:
    choice = choice_of(record)
    shared = mapping(record["c"])
    ids = [identity.of(action, number) for number, action in enumerate(choice.actions, start=1)]
    arm = ids[choice.chosen]
    private = {name: value for name, value in mapping(shared.get(_PRIVATE)).items() if name in FIELDS}
    fields = {
        "arm": arm,
        "eligible": list(dict.fromkeys(ids)),
        "propensity": _propensity(choice, [id == arm for id in ids]),
        "probabilities": None if choice.pdf is None else _added(ids, choice.pdf),
        "context": _features(shared),
        "timestamp_s": seconds(record.get("Timestamp")),
        "policy": str(mapping(record.get("VWState")).get("m", "")),
        "reward": 0.0 - choice.cost,
        "quality": 0.0 - choice.cost,
        "weight": 1.0 / (1.0 - _drop(record)),
        "degraded": record.get("_skipLearn") is True,
    }
    event = record.get("EventId")
    own = {"event_id": str(line) if event in (None, "") else str(event)}
    return msgspec.convert({**own, **fields, **private}, Row)


def _added(ids: Sequence[str], pdf: Sequence[float]) -> dict[str, float]:
    total = dict.fromkeys(ids, 0.0)
    for arm, p in zip(ids, pdf, strict=True):
        total[arm] += p
    return total


def _propensity(choice: Choice, copies: Sequence[bool]) -> float | None:
    """That of the arm: of the chosen action and of its copies."""
    if sum(copies) == 1 or choice.probability is None:
        return choice.probability
    if choice.pdf is None:
        return None
    others = (p for i, p in enumerate(choice.pdf) if copies[i] and i != choice.chosen)
    return min(1.0, choice.probability + sum(others))


class _Identity:
    """The arm that an action is.

    Args:
        feature: path of the feature that says so, such as "Model.id". arms: ids that may be one of its values.
    """

    def __init__(self, feature: str | None, arms: Set[str]) -> None:
        self.feature, self.arms = feature, arms
        self._known: dict[str, str] = {}

    def of(self, action: Mapping[str, Any], number: int) -> str:
        if self.feature is not None:
            return self._named(action)
        tag = action.get("_tag")
        if isinstance(tag, str) and tag:
            return tag
        features = msgspec.json.encode(action, order="sorted").decode()
        if features not in self._known:
            short = set(leaves(features)) & self.arms if features not in self.arms else set[str]()
            self._known[features] = short.pop() if len(short) == 1 else features
        return self._known[features] if action else str(number)

    def _named(self, action: Mapping[str, Any]) -> str:
        value: Any = action
        for part in (self.feature or "").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            value = action.get(self.feature or "")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            raise Malformed(f"expected an action with the feature {self.feature}, got {', '.join(action) or 'none'}")
        return str(value)


def _drop(record: Mapping[str, Any]) -> float:
    share = number(record.get("pdrop", 0.0))
    if share is None or not 0 <= share < 1:
        raise Malformed(f"expected pdrop in [0, 1), got {record.get('pdrop')!r}")
    return share


def _features(shared: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Namespaced features: numbers by name, text and truth as one-hot; names with an underscore are skipped."""
    features: dict[str, float] = {}
    for name, value in shared.items():
        if name.startswith("_"):
            continue
        path, amount = f"{prefix}{name}", number(value)
        if amount is not None:
            features[path] = amount
        elif isinstance(value, dict):
            features.update(_features(value, f"{path}."))
        elif isinstance(value, list):
            features.update(_features({str(j): item for j, item in enumerate(value)}, f"{path}."))
        elif isinstance(value, (str, bool)):
            features[f"{path}={value}"] = 1.0
    return features or {"constant": 1.0} if not prefix else features


def write_dsjson(log: LoggedEvents, path: Path) -> None:
    """Write dsjson, one action per eligible arm with its id as `_tag` and as its only feature.

    The cost is minus the logged reward, minus the quality where no reward was logged.

    Raises:
        InvalidInput: a row has no propensity, or neither reward nor quality.
    """
    cost = -np.where(np.isnan(log.reward), log.outcomes[:, 0], log.reward)
    if np.isnan(log.propensity).any() or np.isnan(cost).any():
        raise InvalidInput("dsjson needs a propensity and a reward in every row; drop the others first")
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for i, row in enumerate(rows_of(log)):
            file.write(encoder.encode(_record(log, i, row, float(cost[i]))) + b"\n")


def _record(log: LoggedEvents, i: int, row: Row, cost: float) -> dict[str, Any]:
    ids = list(log.arms) if row.eligible is None else row.eligible
    chosen = ids.index(row.arm)
    order = [chosen, *(a for a in range(len(ids)) if a != chosen)]
    pdf = _distribution(row, ids)
    private = {name: getattr(row, name) for name in FIELDS if name not in ("context", "arm", "propensity")}
    shared = {name: value for name, value in zip(log.features, log.contexts[i].tolist(), strict=True)}
    document: dict[str, Any] = {
        "_label_cost": cost,
        "_label_probability": row.propensity,
        "_label_Action": chosen + 1,
        "_labelIndex": chosen,
    }
    if row.degraded:
        document["_skipLearn"] = True
    document |= {
        "Timestamp": _timestamp(row.timestamp_s),
        "Version": "1",
        "EventId": row.event_id,
        "a": [a + 1 for a in order],
        "c": {"shared": shared, _PRIVATE: private, "_multi": [{"_tag": arm, "arm": {"id": arm}} for arm in ids]},
        "p": [pdf[a] for a in order],
        "VWState": {"m": row.policy},
    }
    if row.weight > 1:
        document["pdrop"] = 1.0 - 1.0 / row.weight
    return document


def _distribution(row: Row, ids: list[str]) -> list[float]:
    """The logged distribution; where only the propensity is known, the rest spread evenly over the other arms."""
    if row.probabilities is not None:
        return [row.probabilities[arm] for arm in ids]
    propensity = row.propensity or 1.0
    rest = (1.0 - propensity) / max(1, len(ids) - 1)
    return [propensity if arm == row.arm else rest for arm in ids]


def _timestamp(value: float | None) -> str:
    moment = datetime.fromtimestamp(0.0 if value is None else value, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
