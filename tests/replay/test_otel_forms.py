"""Spans and log records in every form that exporters write."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_otel import CHAT, NAME, VALUE, judged, quality, read, span

from bandit_router.replay.logs import Intake


def printed(n: int) -> dict[str, Any]:
    """The same span as the Python SDK's console exporter prints it."""
    otlp = span(n)
    start, end = (datetime.fromtimestamp(int(otlp[f"{at}TimeUnixNano"]) / 1e9, UTC) for at in ("start", "end"))
    return {
        "name": "chat",
        "context": {"trace_id": f"0x{otlp['traceId']}", "span_id": f"0x{otlp['spanId']}", "trace_state": "[]"},
        "parent_id": None,
        "start_time": start.isoformat(),
        "end_time": end.isoformat(),
        "status": {"status_code": "UNSET"},
        "attributes": CHAT,
        "events": [],
    }


def printed_score(n: int, score: float) -> dict[str, Any]:
    otlp = judged(n, score)
    ids = {"trace_id": f"0x{otlp['traceId']}", "span_id": f"0x{otlp['spanId']}", "trace_flags": 1}
    return {"body": None, "attributes": {NAME: "quality", VALUE: score}, **ids, "event_name": otlp["eventName"]}


def exports(form: str) -> str:
    spans, scores = [span(n) for n in range(3)], [judged(n, n / 4) for n in range(3)]
    if form.startswith("console"):
        indent = None if "one line" in form else 4
        items = [*map(printed, range(3)), *(printed_score(n, n / 4) for n in range(3))]
        return json.dumps(items) if "array" in form else "\n".join(json.dumps(item, indent=indent) for item in items)
    if form == "base64":
        for item in (*spans, *scores):
            for name in ("traceId", "spanId"):
                item[name] = base64.b64encode(bytes.fromhex(item[name])).decode()
    documents = [
        {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": scores}]}]},
    ]
    text = "\n".join(json.dumps(document, indent=2 if form == "indented" else None) for document in documents)
    if form == "snake case":
        for old in (
            "resourceSpans",
            "scopeSpans",
            "resourceLogs",
            "scopeLogs",
            "logRecords",
            "traceId",
            "spanId",
            "eventName",
        ):
            text = text.replace(f'"{old}"', '"' + "".join(f"_{c.lower()}" if c.isupper() else c for c in old) + '"')
        text = text.replace('"startTimeUnixNano"', '"start_time_unix_nano"').replace(
            '"endTimeUnixNano"', '"end_time_unix_nano"'
        )
    return json.dumps(documents) if form == "array" else text


@pytest.mark.parametrize(
    "form",
    ["lines", "indented", "array", "base64", "snake case", "console", "console, one line", "console, array"],
)
def test_an_export_is_read_in_every_form_it_has(form: str, tmp_path: Path) -> None:
    intake = Intake(strict=True)
    log = read(tmp_path, exports(form), intake=intake)
    assert quality(log) == [0.0, 0.25, 0.5]
    assert log.channel("latency_s").tolist() == [2.0] * 3
    assert log.channel("tokens").tolist() == [110.0] * 3
    assert log.timestamp_s.tolist() == [1_790_000_000.0 + n for n in range(3)]
    assert not intake.notes
