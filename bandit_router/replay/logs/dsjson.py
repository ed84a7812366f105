"""Vowpal Wabbit's decision-service JSON (dsjson), both ways.

Written keys stand in VW's own order, because its fast parsers go by position. What dsjson has no field for goes under
`_bandit_router` in the shared features, where VW skips names that begin with an underscore, and comes back from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS
from bandit_router.replay.logs.jsonl import numbered
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import Row, rows_of
from bandit_router.replay.logs.values import decoded, mapping, number, seconds

_PRIVATE = "_bandit_router"


class _Malformed(ValueError):
    """The line is JSON but not a decision."""


def read_dsjson(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read dsjson. Reward = -`_label_cost`, taken as the quality too unless the line carries channels of its own.

    An arm is an action's `_tag`, else its features written as JSON. `pdrop` becomes the row's weight 1 / (1 - pdrop).
    A line with `_skipLearn` is kept, marked degraded: its action was never shown. Lines with slots or a continuous
    action are reported.
    """
    assembler = Assembler(intake, arms=arms)
    for line, text in numbered(path, intake):
        record = decoded(text)
        if isinstance(record, str):
            intake.reject(str(path), line, "no JSON object", record)
            continue
        try:
            row = _row(record)
        except (_Malformed, msgspec.ValidationError) as error:
            intake.reject(str(path), line, "no dsjson decision", str(error))
            continue
        assembler.add(str(path), line, row)
    return assembler.log(str(path))


def _row(record: Mapping[str, Any]) -> Row:
    if "_outcomes" in record or "_label_ca" in record:
        raise _Malformed("slates, slots and continuous actions are not supported")
    shared = record.get("c")
    actions = shared.get("_multi") if isinstance(shared, dict) else None
    if not isinstance(shared, dict) or not isinstance(actions, list) or not actions:
        raise _Malformed("expected the actions under c._multi")
    ids = [_arm_id(action) for action in actions]
    if len(set(ids)) < len(ids):
        raise _Malformed("two actions have the same identity; give them a _tag")
    order, pdf = _ranking(record, len(ids))
    propensity, cost = number(record.get("_label_probability")), number(record.get("_label_cost"))
    if cost is None or record.get("_label_Action") != order[0]:
        raise _Malformed("expected a finite _label_cost and _label_Action equal to the first of a")
    private = {name: value for name, value in mapping(shared.get(_PRIVATE)).items() if name in FIELDS}
    fields = {
        "arm": ids[order[0] - 1],
        "eligible": ids,
        "propensity": propensity,
        "probabilities": None if pdf is None else {ids[a - 1]: p for a, p in zip(order, pdf, strict=True)},
        "context": _features(shared),
        "timestamp_s": seconds(record.get("Timestamp")),
        "policy": str(mapping(record.get("VWState")).get("m", "")),
        "reward": 0.0 - cost,
        "quality": 0.0 - cost,
        "weight": 1.0 / (1.0 - _drop(record)),
        "degraded": record.get("_skipLearn") is True,
    }
    return msgspec.convert({"event_id": str(record.get("EventId", "")), **fields, **private}, Row)


def _ranking(record: Mapping[str, Any], n: int) -> tuple[list[int], list[float] | None]:
    """Action numbers (from 1, the chosen first) and their probabilities."""
    order, pdf = record.get("a"), record.get("p")
    if not isinstance(order, list) or not order or any(type(a) is not int or not 1 <= a <= n for a in order):
        raise _Malformed(f"expected a to be numbers in 1..{n}")
    if pdf is None:
        return order, None
    if not isinstance(pdf, list) or len(pdf) != len(order) or any(number(p) is None for p in pdf):
        raise _Malformed("expected p to be as long as a")
    return order, [float(p) for p in pdf]


def _drop(record: Mapping[str, Any]) -> float:
    share = number(record.get("pdrop", 0.0))
    if share is None or not 0 <= share < 1:
        raise _Malformed(f"expected pdrop in [0, 1), got {record.get('pdrop')!r}")
    return share


def _arm_id(action: object) -> str:
    if not isinstance(action, dict):
        raise _Malformed("expected an action to be an object")
    tag = action.get("_tag")
    return tag if isinstance(tag, str) and tag else msgspec.json.encode(action, order="sorted").decode()


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
