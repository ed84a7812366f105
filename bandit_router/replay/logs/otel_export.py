"""A log as OpenTelemetry GenAI spans: one OTLP/JSON export a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import rows_of


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
            pairs = [{"key": f"bandit_router.{name}", "value": _otlp(value)} for name, value in fields.items()]
            standard = {"gen_ai.operation.name": "chat", "gen_ai.request.model": row.arm}
            pairs += [{"key": name, "value": _otlp(value)} for name, value in standard.items()]
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
