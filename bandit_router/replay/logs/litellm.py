"""LiteLLM: StandardLoggingPayload records and LiteLLM_SpendLogs rows, in JSON Lines, joined with rewards.

Every record is joined on `litellm_call_id`: `id` is the provider's response id, which repeats. LiteLLM logs no
propensity, so the caller puts the decision into the request's metadata under the key `bandit_router`: any fields of
the event log (propensity, context, eligible, quality, ...). A line `{"litellm_call_id": ..., "quality": 0.8}` adds a
reward. The arm is the deployment's `model_id`, else `model`, unless the metadata names one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS, Joiner, decoded, first, mapping, number, seconds
from bandit_router.replay.logs.jsonl import numbered
from bandit_router.replay.logs.logged import LoggedEvents

_METADATA = ("spend_logs_metadata", "requester_metadata")


def read_litellm(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read payloads, spend rows and rewards; calls that failed are kept without quality, in mode "failure"."""
    joiner = Joiner(intake)
    for line, text in numbered(path, intake):
        record = decoded(text)
        if isinstance(record, str):
            intake.reject(str(path), line, "no JSON object", record)
            continue
        event_id = record.get("litellm_call_id")
        if not isinstance(event_id, str) or not event_id:
            intake.reject(str(path), line, "no litellm_call_id", "id and request_id repeat and cannot be joined on")
            continue
        joiner.add(str(path), line, event_id, {**_served(record), **_decision(record)})
    assembler = Assembler(intake, arms=arms)
    joiner.assemble(assembler)
    return assembler.log(str(path))


def _served(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the gateway metered, in the event log's units."""
    start, end = seconds(record.get("startTime")), seconds(record.get("endTime"))
    latency = number(record.get("response_time"))
    if latency is None and start is not None and end is not None and end >= start:
        latency = end - start
    if latency is None and (duration := number(record.get("request_duration_ms"))) is not None:
        latency = duration / 1000.0
    arm = first(record, ("model_id", "model"))
    return {
        "arm": arm if isinstance(arm, str) and arm else None,
        "timestamp_s": start,
        "cost_usd": number(first(record, ("response_cost", "spend"))),
        "tokens": number(record.get("total_tokens")),
        "latency_s": latency,
        "mode": "failure" if record.get("status") == "failure" else None,
    }


def _decision(record: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own fields: at the top level, and under `bandit_router` in the metadata."""
    metadata = mapping(record.get("metadata"))
    places = [metadata, *(mapping(metadata.get(name)) for name in _METADATA)]
    own = {name: record[name] for name in (*CHANNELS, "reward") if record.get(name) is not None}
    for place in places:
        fields = mapping(place.get("bandit_router"))
        own.update({name: value for name, value in fields.items() if name in FIELDS and value is not None})
    return own
