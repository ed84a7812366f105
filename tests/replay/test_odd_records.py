"""Records of services in any spelling are the plain log: dsjson, obp, LiteLLM and OpenTelemetry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.replay.logs import Intake, LoggedEvents, read_logs

ARMS = ("small", "größer", 'the "best"', "a|b;c,d")
Rows = list[dict[str, Any]]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def decisions(draw: st.DrawFn) -> Rows:
    """Rows with what every service can say."""
    numbers = st.integers(0, 10**6).map(lambda value: value / 64)
    return [
        {
            "event_id": f"r-{i}",
            "arm": draw(st.sampled_from(ARMS)),
            "eligible": list(ARMS),
            "propensity": draw(st.sampled_from([0.5, 0.25, 0.0625])),
            "quality": draw(st.sampled_from([0.0, 0.25, 1.0])),
            "cost_usd": draw(st.none() | numbers.filter(bool)),
            "tokens": draw(st.none() | st.integers(2, 10**6).map(float)),
            "timestamp_s": draw(st.integers(10**9, 2 * 10**9).map(float)),
            "context": [draw(numbers)],
        }
        for i in range(draw(st.integers(1, 4)))
    ]


def saved(folder: Path, text: str, draw: Draw) -> Path:
    """The text in any line end, encoding and compression."""
    raw = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    coded = raw.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])))
    path = folder / "log"
    path.write_bytes(gzip.compress(coded) if draw(st.booleans()) else coded)
    return path


def written(records: list[Any], draw: Draw) -> str:
    """One record a line, indented, or an array; letters beyond ASCII escaped or not."""
    indent, plain = draw(st.sampled_from([None, 2])), draw(st.booleans())
    if draw(st.booleans()):
        return json.dumps(records, indent=indent, ensure_ascii=plain)
    return "\n".join(json.dumps(record, indent=indent, ensure_ascii=plain) for record in records)


def shuffled(record: dict[str, Any], draw: Draw) -> dict[str, Any]:
    return {name: record[name] for name in draw(st.permutations(list(record)))}


def number(value: float | None, draw: Draw) -> Any:
    return value if value is None or draw(st.booleans()) else str(value)


def check(rows: Rows, path: Path, format: str, *, names: tuple[str, ...], drawn: bool = True) -> None:
    """The file says the same as the rows as plain JSON Lines."""
    plain = path.parent / "plain.jsonl"
    plain.write_text("\n".join(map(json.dumps, rows)))
    expected = read_logs([plain], Intake(strict=True), arms=ARMS)
    got = read_logs([path], Intake(strict=True), format=format, arms=ARMS if drawn else None)
    for name in ("arm", "propensity", "contexts", *names):
        a, b = (column(log, name) for log in (got, expected))
        assert np.array_equal(a, b) if a.dtype == object else np.allclose(a, b, rtol=1e-12, equal_nan=True), name


def column(log: LoggedEvents, name: str) -> Any:
    return log.channel(name) if name in ("quality", "cost_usd", "tokens") else getattr(log, name)


@settings(max_examples=40, deadline=None)
@given(rows=decisions(), data=st.data())
def test_dsjson_in_any_spelling_is_the_plain_log(
    rows: Rows, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = data.draw
    lines = []
    for row in rows:
        chosen = ARMS.index(row["arm"])
        order = [chosen, *(a for a in range(4) if a != chosen)]
        rest = (1 - row["propensity"]) / 3
        p = [row["propensity"], rest, rest, rest]
        if draw(st.booleans()):  # an action that is there twice shares its probability
            order, p = [*order, 4], [row["propensity"] / 2, rest, rest, rest, row["propensity"] / 2]
        actions = [{"_tag": arm, "x": draw(st.sampled_from([None, 1, "y"]))} for arm in ARMS]
        actions += [actions[chosen]] if len(order) == 5 else []
        private = {name: row[name] for name in ("cost_usd", "tokens") if row[name] is not None or draw(st.booleans())}
        shared = {"user": {"f0": row["context"][0], "gone": None, "_skipped": "x"}, "_bandit_router": private}
        record = {
            "_label_cost": -row["quality"],
            "_label_probability": p[0],
            "_label_Action": chosen + 1,
            "_labelIndex": chosen,
            "Timestamp": np.datetime_as_string(np.datetime64(int(row["timestamp_s"]), "s")) + "Z",
            "EventId": row["event_id"],
            "a": [a + 1 for a in order],
            "c": {**shared, "_multi": actions},
            "p": p,
            "further": {"deep": [None, {"x": 1}]},
        }
        lines.append(json.dumps(shuffled(record, draw), ensure_ascii=draw(st.booleans())))
    path = saved(tmp_path_factory.mktemp("odd"), "\n\n".join(lines), draw)
    check(rows, path, "dsjson", names=("event_id", "quality", "cost_usd", "tokens", "timestamp_s", "eligible"))


@settings(max_examples=40, deadline=None)
@given(rows=decisions(), data=st.data())
def test_litellm_in_any_spelling_is_the_plain_log(
    rows: Rows, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = data.draw
    spend = draw(st.booleans())
    records = []
    for row in rows:
        own = {name: row[name] for name in ("event_id", "arm", "eligible", "propensity", "context", "quality")}
        held: Any = {"bandit_router": own, "user_api_key": None}
        metadata: Any = {"spend_logs_metadata": held} if draw(st.booleans()) else held
        clock = np.datetime_as_string(np.datetime64(int(row["timestamp_s"]), "s"))
        start: Any = draw(st.sampled_from([row["timestamp_s"], clock.replace("T", " "), clock + "Z"]))
        record = {
            "request_id" if spend else "litellm_call_id": f"call {row['event_id']}",
            "call_type": "acompletion",
            "status": draw(st.sampled_from(["success", None])),
            "model": row["arm"],
            "model_id": draw(st.sampled_from([row["arm"], "", None])),
            "spend" if spend else "response_cost": number(row["cost_usd"], draw),
            "total_tokens": number(row["tokens"], draw),
            "startTime": start,
            "endTime": start,
            "metadata": json.dumps(metadata) if spend and draw(st.booleans()) else metadata,
            "messages": [{"content": "größer"}],
        }
        records.append(shuffled(record, draw))
    path = saved(tmp_path_factory.mktemp("odd"), written(draw(st.permutations(records)), draw), draw)
    check_joined(rows, path, "litellm")


@settings(max_examples=40, deadline=None)
@given(rows=decisions(), data=st.data())
def test_opentelemetry_in_any_spelling_is_the_plain_log(
    rows: Rows, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = data.draw
    console = draw(st.booleans())
    spans = []
    for i, row in enumerate(rows):
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": row["arm"],
            "gen_ai.usage.cost": row["cost_usd"],
            "gen_ai.usage.total_tokens": row["tokens"],
            "bandit_router.context": draw(st.sampled_from([row["context"], json.dumps(row["context"])])),
            **{f"bandit_router.{name}": row[name] for name in ("event_id", "eligible", "propensity", "quality")},
        }
        known = {name: value for name, value in shuffled(attributes, draw).items() if value is not None}
        spans.append(printed(known, i, row, draw) if console else exported(known, i, row, draw))
    path = saved(tmp_path_factory.mktemp("odd"), written(draw(st.permutations(spans)), draw), draw)
    check_joined(rows, path, "otel")


def printed(attributes: dict[str, Any], i: int, row: dict[str, Any], draw: Draw) -> dict[str, Any]:
    """A span as the console exporter of the Python SDK prints it."""
    when = np.datetime_as_string(np.datetime64(int(row["timestamp_s"]), "s")) + ".000000Z"
    told = {name: number(v, draw) if isinstance(v, float) else v for name, v in attributes.items()}
    context = {"trace_id": f"0x{i + 1:032x}", "span_id": f"0x{i + 1:016x}"}
    return {"name": "chat", "context": context, "start_time": when, "end_time": when, "attributes": told, "events": []}


def exported(attributes: dict[str, Any], i: int, row: dict[str, Any], draw: Draw) -> dict[str, Any]:
    """A span in OTLP/JSON."""

    def value(item: Any) -> dict[str, Any]:
        if isinstance(item, list):
            return {"arrayValue": {"values": [value(one) for one in item]}}
        if not isinstance(item, float):
            return {"stringValue": item}
        whole = item.is_integer() and draw(st.booleans())
        kinds = [{"doubleValue": item}, {"stringValue": str(item)}]
        return (
            {"intValue": draw(st.sampled_from([str(int(item)), int(item)]))} if whole else draw(st.sampled_from(kinds))
        )

    nanoseconds = f"{int(row['timestamp_s'])}000000000"
    span = {
        "traceId": f"{i + 1:032x}",
        "spanId": f"{i + 1:016x}",
        "name": "chat",
        "startTimeUnixNano": draw(st.sampled_from([nanoseconds, int(nanoseconds)])),
        "endTimeUnixNano": nanoseconds,
        "attributes": [{"key": name, "value": value(item)} for name, item in attributes.items()],
    }
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}


def check_joined(rows: Rows, path: Path, format: str) -> None:
    """The file says the same as the rows, in its own order."""
    order = read_logs([path], Intake(strict=True), format=format, arms=ARMS).event_id.tolist()
    told = sorted(rows, key=lambda row: order.index(row["event_id"]))
    check(told, path, format, names=("event_id", "quality", "cost_usd", "tokens", "timestamp_s"))


@settings(max_examples=40, deadline=None)
@given(rows=decisions(), data=st.data())
def test_an_obp_dictionary_of_any_types_is_the_plain_log(
    rows: Rows, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw, n = data.draw, len(rows)
    real = st.sampled_from([np.float64, np.float32, np.float16])
    feedback = {
        "n_rounds": draw(st.sampled_from([n, np.int32(n), np.array([n]).sum()])),
        "n_actions": 4,
        "context": np.array([row["context"] for row in rows], draw(st.sampled_from([np.float64, ">f8"]))),
        "action": np.array(
            [ARMS.index(row["arm"]) for row in rows], draw(st.sampled_from([np.int64, np.int8, np.uint16]))
        ),
        "reward": np.array([row["quality"] for row in rows], draw(real)),
        "pscore": np.array([row["propensity"] for row in rows], draw(real)),
        "further": np.array(["größer"] * 7),
        **{name: None for name in ("position", "pi_b", "expected_reward", "action_context") if draw(st.booleans())},
    }
    path = tmp_path_factory.mktemp("odd") / "log"
    with path.open("wb") as file:
        draw(st.sampled_from([np.savez, np.savez_compressed]))(file, **shuffled(feedback, draw))
    check(rows, path, "obp", names=("quality",), drawn=False)
