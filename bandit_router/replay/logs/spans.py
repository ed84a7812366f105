"""The spellings of spans and log records: OTLP/JSON exports, and what the Python SDK's console exporters print."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bandit_router.replay.logs.values import first, seconds

LONGEST = 4096  # prompts and answers are longer, and no field of a log is


@dataclass(kw_only=True)
class Span:
    """What a log needs of a span: its ids as written and as a key, attributes, events and times in seconds."""

    id: str
    key: str | None
    parent: str | None
    attributes: dict[str, Any]
    events: list[Event]
    start: float | None
    end: float | None
    failed: bool


@dataclass(kw_only=True)
class Event:
    """A named event: of a span, or a log record with the key of the span that it was emitted in."""

    name: str
    key: str | None
    attributes: dict[str, Any]


def spans(document: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of a document; none if it holds none. Raises TypeError or the like for what is no OTLP."""
    for span in _inner(document, ("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans",)):
        yield _span(span, span)
    if "attributes" in document and isinstance(document.get("context"), dict):
        yield _span(document, document["context"])
    elif "attributes" in document and first(document, ("spanId", "span_id")) and "name" in document:
        yield _span(document, document)


def records(document: Mapping[str, Any]) -> Iterator[Event]:
    """The log records of a document; none if it holds none."""
    names = ("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records")
    for record in _inner(document, *names):
        yield _event(record, _key(record, record))
    if "attributes" in document and "context" not in document and "name" not in document:
        yield _event(document, _key(document, document))


def _inner(document: Mapping[str, Any], *levels: Sequence[str]) -> Iterator[dict[str, Any]]:
    if not levels:
        yield dict(document)
        return
    for part in first(document, levels[0]) or ():
        yield from _inner(part, *levels[1:])


def _span(span: Mapping[str, Any], ids: Mapping[str, Any]) -> Span:
    trace, own = (first(ids, names) for names in (("traceId", "trace_id"), ("spanId", "span_id")))
    above = first(span, ("parentSpanId", "parent_span_id", "parent_id"))
    attributes, status = _attributes(span.get("attributes")), span.get("status") or {}
    key = _key(ids, ids)
    code = str(first(status, ("code", "status_code")) or "")
    return Span(
        id=f"{trace}:{own}",
        key=key,
        parent=_key(ids, {"span_id": above}),
        attributes=attributes,
        events=[_event(event, key) for event in span.get("events") or ()],
        start=_time(span, ("startTimeUnixNano", "start_time_unix_nano"), "start_time"),
        end=_time(span, ("endTimeUnixNano", "end_time_unix_nano"), "end_time"),
        failed=code == "2" or code.endswith("ERROR") or bool(attributes.get("error.type")),
    )


def _event(event: Mapping[str, Any], key: str | None) -> Event:
    attributes = _attributes(event.get("attributes"))
    name = first(event, ("eventName", "event_name", "name")) or attributes.get("event.name")
    return Event(name=str(name or ""), key=key, attributes=attributes)


def _key(trace: Mapping[str, Any], span: Mapping[str, Any]) -> str | None:
    """Trace and span id in one spelling, None without both."""
    ids = [_hex(first(trace, ("traceId", "trace_id"))), _hex(first(span, ("spanId", "span_id")))]
    return f"{ids[0]}:{ids[1]}" if all(ids) else None


def _hex(value: object) -> str:
    """An id as hexadecimal digits, whether written so, with 0x, or in base64; other text as it is, "" for none."""
    text = str(value or "")
    digits = text.lower().removeprefix("0x")
    if not digits.strip("0"):
        return ""
    if not digits.strip("0123456789abcdef"):
        return digits
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
    return raw.hex() if len(raw) in (8, 16) else text


def _attributes(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        pairs = given
    else:
        pairs = {pair["key"]: _value(pair.get("value") or {}) for pair in given or () if "key" in pair}
    return {name: value for name, value in pairs.items() if not isinstance(value, str) or len(value) <= LONGEST}


def _value(value: Mapping[str, Any]) -> Any:
    for name, item in value.items():
        kind = name.replace("_", "").lower()
        if kind == "intvalue":
            return int(item)
        if kind == "arrayvalue":
            return [_value(entry) for entry in item.get("values", ())]
        if kind == "kvlistvalue":
            return _attributes(item.get("values", ()))
        return item
    return None


def _time(span: Mapping[str, Any], nano: Sequence[str], name: str) -> float | None:
    """Seconds; OTLP spells an unknown time 0."""
    value = first(span, nano)
    if value in (None, 0, "0"):
        return seconds(span.get(name))
    return int(str(value)) / 1e9
