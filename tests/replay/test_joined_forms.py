"""The same records in another form, in another order or as text make the same log."""

from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_litellm import failure, own, payload, spend
from test_otel import CHAT, judged, span

from bandit_router.replay.logs import Intake, LoggedEvents, read_logs

Records = list[dict[str, Any]]
unit = st.floats(0, 1, width=32)


@st.composite
def gateway(draw: st.DrawFn) -> Records:
    """Requests of a gateway: answered at once, after failures, or not at all; some with a reward of their own."""
    records: Records = []
    for i in range(draw(st.integers(1, 4))):
        arm = draw(st.sampled_from(["small", "large"]))
        fields = own(arm, context=[draw(unit), 1.0])
        trace = {"trace_id": f"t{i}", "own": fields}
        start = 100.0 * i
        records += [failure(f"c{i}-{n}", start=start + n, **trace) for n in range(draw(st.integers(0, 2)))]
        named = {
            "model_id": arm,
            "model_group": arm,
            "response_cost": draw(unit),
            "total_tokens": draw(st.integers(1, 9)),
        }
        if draw(st.booleans()):
            records.append(payload(f"c{i}", start=start + 10, **trace, **named))
            if draw(st.booleans()):
                records.append({"litellm_call_id": f"c{i}", "quality": draw(unit)})
        else:
            records.append(failure(f"c{i}", start=start + 10, **trace))
        records += [payload(f"e{i}", start=start, call_type="aembedding")] * draw(st.integers(0, 1))
    return records


@st.composite
def telemetry(draw: st.DrawFn) -> Records:
    """Exports of spans, nested or not, and of evaluations by one or several evaluators."""
    spans, scores = [], []
    for n in range(draw(st.integers(1, 4))):
        counts = {"gen_ai.usage.input_tokens": draw(st.integers(0, 99)), "bandit_router.cost_usd": draw(unit)}
        answered = draw(
            st.sampled_from([{}, {"gen_ai.response.model": "large"}, {"gen_ai.response.model": "small-0613"}])
        )
        spans += [
            span(100 * n, {"gen_ai.operation.name": "invoke_agent", **counts}),
            span(100 * n + 1, {**CHAT, **counts, **answered}, parent=100 * n),
        ]
        spans += [span(100 * n + 2, {**CHAT, **counts}, parent=100 * n + 1)] * draw(st.integers(0, 1))
        names = draw(st.lists(st.sampled_from(["clear", "short", "true", "reward"]), unique=True))
        scores += [judged(100 * n + 1, draw(unit), name) for name in names]
    return [
        *({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]} for one in spans),
        *({"resourceLogs": [{"scopeLogs": [{"logRecords": [one]}]}]} for one in scores),
    ]


def as_text(value: Any, key: str = "") -> Any:
    """Every amount of the record as text; places that are not amounts stay."""
    if isinstance(value, dict):
        if "doubleValue" in value:
            return {"stringValue": repr(value["doubleValue"])}
        if "intValue" in value:
            return {"stringValue": value["intValue"]}
        return {name: as_text(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [as_text(item, key) for item in value]
    return repr(value) if isinstance(value, float) or (type(value) is int and "tokens" in key) else value


def shuffled(records: Records, seed: int) -> Records:
    return random.Random(seed).sample(records, len(records))


FORMS = {
    "one a line": lambda records: "\n".join(map(json.dumps, records)),
    "array": json.dumps,
    "indented array": lambda records: json.dumps(records, indent=2),
    "tabbed array": lambda records: json.dumps(records, indent="\t"),
    "array by lines": lambda records: "[" + ",\n".join(map(json.dumps, records)) + "]",
    "indented": lambda records: "\n".join(json.dumps(record, indent=4) for record in records),
    "other line ends": lambda records: "\r\n\r\n".join(json.dumps(record, indent=1) for record in records).replace(
        "\n", "\r\n"
    ),
    "as text": lambda records: "\n".join(json.dumps(as_text(record)) for record in records),
    "shuffled": lambda records: "\n".join(map(json.dumps, shuffled(records, 1))),
    "shuffled array": lambda records: json.dumps(shuffled(records, 2), indent=3),
}


def read(texts: list[str], name: str) -> tuple[LoggedEvents, Intake]:
    intake = Intake(strict=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}" for i in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode())
        return read_logs(paths, intake, format=name), intake


def assert_same(got: LoggedEvents, expected: LoggedEvents) -> None:
    assert got.arms == expected.arms
    assert got.features == expected.features
    here, there = np.argsort(got.event_id), np.argsort(expected.event_id)
    for name, column in vars(expected).items():
        if not isinstance(column, np.ndarray):
            continue
        a, b = getattr(got, name)[here], column[there]
        assert np.array_equal(a, b, equal_nan=b.dtype.kind == "f"), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "made"), [("litellm", gateway()), ("otel", telemetry())])
def test_a_form_changes_nothing(form: str, name: str, made: st.SearchStrategy[Records]) -> None:
    @settings(max_examples=15, deadline=None)
    @given(made)
    def check(records: Records) -> None:
        expected, first = read([FORMS["one a line"](records)], name)
        got, intake = read([FORMS[form](records)], name)
        assert_same(got, expected)
        assert (intake.lines, intake.taken, intake.notes) == (first.lines, first.taken, first.notes)

    check()


@pytest.mark.parametrize(("name", "made"), [("litellm", gateway()), ("otel", telemetry())])
def test_records_over_two_files_in_any_order_are_the_same_log(name: str, made: st.SearchStrategy[Records]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(made, st.integers(0, 9))
    def check(records: Records, seed: int) -> None:
        expected, _ = read([FORMS["one a line"](records)], name)
        mixed = shuffled(records, seed)
        half = len(mixed) // 2
        assert_same(read([FORMS["array"](mixed[:half]), FORMS["indented"](mixed[half:])], name)[0], expected)

    check()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 99))
def test_spend_rows_and_payloads_tell_the_same(count: int, seed: int) -> None:
    """What a row of the table can hold is what the payload of the same call says."""
    rng = random.Random(seed)
    payloads, rows = [], []
    for i in range(count):
        fields, cost = own("small"), rng.random()
        payloads.append(payload(f"c{i}", start=10.0 * i, own=fields, response_cost=cost))
        times = {at: datetime.fromtimestamp(payloads[-1][at], UTC).isoformat(" ") for at in ("startTime", "endTime")}
        metadata = json.dumps({"spend_logs_metadata": {"bandit_router": fields}})
        rows.append(spend(f"c{i}", spend=cost, metadata=metadata, completionStartTime=times["endTime"], **times))
    assert_same(read([json.dumps(rows)], "litellm")[0], read([json.dumps(payloads)], "litellm")[0])
