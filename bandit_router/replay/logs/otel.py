"""OpenTelemetry GenAI spans and evaluation events, in JSON Lines.

A line is an OTLP/JSON export (`resourceSpans` or `resourceLogs`) or one span as the SDK's console exporter prints it.
Both generations of attribute names are read. The conventions have no cost and no decision: those are the attributes
`bandit_router.*` (any field of the event log), or a `feature_flag.evaluation` event whose variant is the arm. An event
`gen_ai.evaluation.result` is a reward: its score is the quality, unless it is named after another field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS, Joiner, decoded, first, mapping, number, seconds
from bandit_router.replay.logs.jsonl import numbered
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import rows_of

_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
_OWN = "bandit_router."


def read_otel(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read spans and evaluation events; evaluations outside a span are joined by `gen_ai.response.id`.

    The event is `bandit_router.event_id`, else trace and span id. Spans without a model or a decision are counted in
    the intake's notes and left out: most spans of a trace are no request to a model.
    """
    joiner, ids, loose = Joiner(intake), _Responses(), []
    for line, text in numbered(path, intake):
        document = decoded(text)
        if isinstance(document, str):
            intake.reject(str(path), line, "no JSON object", document)
            continue
        try:
            spans, events = list(_spans(document)), list(_records(document))
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            intake.reject(str(path), line, "no OTLP export and no span", str(error))
            continue
        if not spans and not events:
            intake.reject(str(path), line, "no OTLP export and no span")
        for span in spans:
            _add(span, joiner, ids, intake, str(path), line)
        loose += [(line, event) for event in events]
    for line, event in loose:
        _join(event, joiner, ids, intake, str(path), line)
    assembler = Assembler(intake, arms=arms)
    joiner.assemble(assembler)
    return assembler.log(str(path))


class _Responses:
    """Which event each provider response id belongs to; an id of two events belongs to none."""

    def __init__(self) -> None:
        self._events: dict[str, str | None] = {}

    def note(self, response: object, event_id: str) -> None:
        if isinstance(response, str):
            self._events[response] = event_id if self._events.get(response, event_id) == event_id else None

    def event(self, response: object) -> str | None:
        return self._events.get(response) if isinstance(response, str) else None


def _add(span: Mapping[str, Any], joiner: Joiner, ids: _Responses, intake: Intake, file: str, line: int) -> None:
    attributes = span["attributes"]
    part = {**_metered(span), **_own(attributes)}
    for event in span["events"]:
        part.update(_event_fields(event))
    if part.get("arm") is None:
        intake.notes["spans that are no request to a model"] += 1
        return
    event_id = str(attributes.get(f"{_OWN}event_id") or span["id"])
    ids.note(attributes.get("gen_ai.response.id"), event_id)
    joiner.add(file, line, event_id, part)


def _join(event: Mapping[str, Any], joiner: Joiner, ids: _Responses, intake: Intake, file: str, line: int) -> None:
    attributes = event["attributes"]
    event_id = attributes.get(f"{_OWN}event_id") or ids.event(attributes.get("gen_ai.response.id"))
    fields = _event_fields(event)
    if not fields:
        intake.notes["log records that are no evaluation"] += 1
    elif not isinstance(event_id, str):
        intake.reject(file, line, "evaluation of an unknown or repeated response id")
    else:
        joiner.add(file, line, event_id, fields)


def _metered(span: Mapping[str, Any]) -> dict[str, Any]:
    attributes = span["attributes"]
    counts = [number(first(attributes, names)) for names in (_INPUT, _OUTPUT)]
    known = [count for count in counts if count is not None]
    model = first(attributes, _MODEL)
    latency = number(attributes.get("gen_ai.latency.e2e"))
    if latency is None and span["start"] is not None and span["end"] is not None and span["end"] >= span["start"]:
        latency = span["end"] - span["start"]
    return {
        "arm": model if isinstance(model, str) else None,
        "timestamp_s": span["start"],
        "tokens": sum(known) if known else None,
        "latency_s": latency,
    }


def _own(attributes: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: attributes.get(f"{_OWN}{name}") for name in FIELDS}
    for name in ("context", "probabilities"):
        if isinstance(fields[name], str):
            fields[name] = mapping(fields[name])
    return {name: value for name, value in fields.items() if value is not None}


def _event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    attributes = event["attributes"]
    if event["name"] == "gen_ai.evaluation.result":
        name, score = attributes.get("gen_ai.evaluation.name"), number(attributes.get("gen_ai.evaluation.score.value"))
        return {} if score is None else {name if name in (*CHANNELS, "reward") else "quality": score}
    if event["name"] == "feature_flag.evaluation":
        variant = attributes.get("feature_flag.result.variant")
        return {"arm": variant} if isinstance(variant, str) else {}
    return {}


# -- the two spellings of a span -----------------------------------------------------------------------------------


def _spans(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                yield {
                    "id": f"{span.get('traceId')}:{span.get('spanId')}",
                    "attributes": _attributes(span.get("attributes", ())),
                    "events": [
                        {"name": event.get("name"), "attributes": _attributes(event.get("attributes", ()))}
                        for event in span.get("events", ())
                    ],
                    "start": _nano(span.get("startTimeUnixNano")),
                    "end": _nano(span.get("endTimeUnixNano")),
                }
    if "context" in document and "attributes" in document:
        context = document["context"]
        yield {
            "id": f"{context.get('trace_id')}:{context.get('span_id')}",
            "attributes": dict(document["attributes"] or {}),
            "events": [
                {"name": event.get("name"), "attributes": dict(event.get("attributes") or {})}
                for event in document.get("events") or ()
            ],
            "start": seconds(document.get("start_time")),
            "end": seconds(document.get("end_time")),
        }


def _records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document.get("resourceLogs", ()):
        for scope in resource.get("scopeLogs", ()):
            for record in scope.get("logRecords", ()):
                attributes = _attributes(record.get("attributes", ()))
                yield {"name": record.get("eventName") or attributes.get("event.name"), "attributes": attributes}


def _attributes(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value") or {}) for pair in pairs if "key" in pair}


def _value(value: Mapping[str, Any]) -> Any:
    for name, item in value.items():
        if name == "intValue":
            return int(item)
        if name == "arrayValue":
            return [_value(entry) for entry in item.get("values", ())]
        if name == "kvlistValue":
            return _attributes(item.get("values", ()))
        return item
    return None


def _nano(value: object) -> float | None:
    return None if value in (None, 0, "0") else int(str(value)) / 1e9  # OTLP spells an unknown time 0


# -- writing -------------------------------------------------------------------------------------------------------


def write_otel(log: LoggedEvents, path: Path) -> None:
    """Write one OTLP/JSON export of one span per line; what the conventions lack goes to `bandit_router.*`.

    Raises:
        InvalidInput: an arm or event id cannot be written as text.
    """
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for i, row in enumerate(rows_of(log)):
            fields = {name: value for name, value in msgspec.to_builtins(row).items() if value is not None}
            fields["context"] = msgspec.json.encode(
                dict(zip(log.features, log.contexts[i].tolist(), strict=True))
            ).decode()
            if "probabilities" in fields:
                fields["probabilities"] = msgspec.json.encode(fields["probabilities"]).decode()
            pairs = [{"key": f"{_OWN}{name}", "value": _otlp(value)} for name, value in fields.items()]
            pairs.append({"key": "gen_ai.request.model", "value": {"stringValue": row.arm}})
            start = 0 if row.timestamp_s is None else int(row.timestamp_s * 1e9)
            span = {
                "traceId": f"{i + 1:032x}",
                "spanId": f"{i + 1:016x}",
                "name": f"chat {row.arm}",
                "startTimeUnixNano": str(start),
                "endTimeUnixNano": "0" if row.latency_s is None else str(start + int(row.latency_s * 1e9)),
                "attributes": pairs,
            }
            document = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [span]}]}]}
            file.write(encoder.encode(document) + b"\n")


def _otlp(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, (float, np.floating)):
        return {"doubleValue": float(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_otlp(item) for item in value]}}
    if isinstance(value, str):
        return {"stringValue": value}
    raise InvalidInput(f"expected text, number, truth or list for a span attribute, got {type(value).__name__}")
