"""GenAI spans and evaluations: what a decision is, whose score a score is, and every spelling of them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.replay.logs import Intake, LoggedEvents, read_logs
from bandit_router.replay.logs.joined import DIVERTED
from bandit_router.replay.logs.values import same_model

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "small",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
    "bandit_router.propensity": 0.5,
}
NAME, VALUE, LABEL = (f"gen_ai.evaluation.{name}" for name in ("name", "score.value", "score.label"))


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return [
        {"key": key, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for key, value in attributes.items()
    ]


def span(
    n: int, /, attributes: dict[str, Any] | None = None, *, parent: int | None = None, **fields: Any
) -> dict[str, Any]:
    """One span in OTLP/JSON; spans of the same hundred are of one trace."""
    start = 1_790_000_000_000_000_000 + n * 10**9
    events = [{"name": f"gen_ai.evaluation.{kind}", "attributes": pairs(of)} for kind, of in fields.pop("events", ())]
    return {
        "traceId": f"{n // 100 + 1:032x}",
        "spanId": f"{n + 1:016x}",
        "parentSpanId": "" if parent is None else f"{parent + 1:016x}",
        "name": "chat",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 2 * 10**9),
        "attributes": pairs(CHAT if attributes is None else attributes),
        "events": events,
        **fields,
    }


def judged(n: int | None, /, score: float | None, name: str = "quality", **attributes: Any) -> dict[str, Any]:
    """A log record of an evaluation, emitted within span n."""
    where = {} if n is None else {"traceId": f"{n // 100 + 1:032x}", "spanId": f"{n + 1:016x}"}
    known = {NAME: name, **({} if score is None else {VALUE: score}), **attributes}
    return {"eventName": "gen_ai.evaluation.result", **where, "attributes": pairs(known)}


def read(folder: Path, *items: Any, intake: Intake | None = None, **options: Any) -> LoggedEvents:
    """Spans and log records, each in an export of its own; text is written as it is."""
    lines = []
    for item in items:
        if isinstance(item, str):
            lines.append(item)
        elif "eventName" in item:
            lines.append(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [item]}]}]}))
        else:
            lines.append(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [item]}]}]}))
    path = folder / "spans.jsonl"
    path.write_text("\n".join(lines))
    return read_logs([path], intake or Intake(), format="otel", **options)


def quality(log: LoggedEvents) -> list[float | None]:
    return [None if math.isnan(value) else value for value in log.channel("quality")]


# -- whose score ----------------------------------------------------------------------------------------------------


def test_an_evaluation_is_of_the_span_it_names_before(tmp_path: Path) -> None:
    """An evaluation is of the span it names before the response it names."""
    a, b = ({**CHAT, "gen_ai.response.id": name} for name in ("r-a", "r-b"))
    log = read(
        tmp_path,
        judged(0, 0.25, **{"gen_ai.response.id": "r-b"}),
        span(0, a),
        span(1, b),
        judged(None, 0.75, **{"gen_ai.response.id": "r-b"}),
    )
    assert quality(log) == [0.25, 0.75]


def test_an_evaluators_own_span_names_the_response(tmp_path: Path) -> None:
    """An evaluation from an evaluator's own span is of the response it names."""
    judge = {"gen_ai.operation.name": "evaluate", "gen_ai.request.model": "judge"}
    score = {NAME: "quality", VALUE: 0.5, "gen_ai.response.id": "r-a"}
    log = read(tmp_path, span(7, judge, events=[("result", score)]), span(0, {**CHAT, "gen_ai.response.id": "r-a"}))
    assert quality(log) == [0.5]


def test_evaluations_in_another_file_find_their_spans(tmp_path: Path) -> None:
    spans, scores = tmp_path / "spans.json", tmp_path / "scores.json"
    spans.write_text(
        json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span(n) for n in range(20)]}]}]}, indent=1)
    )
    records = [judged(n, n / 20) for n in reversed(range(20))]
    scores.write_text(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}))
    for paths in ([spans, scores], [scores, spans]):
        intake = Intake(strict=True)
        assert quality(read_logs(paths, intake, format="otel")) == [n / 20 for n in range(20)]


SEVERAL = {"relevance": 0.9, "fluency": 0.5, "brevity": 0.1}


@pytest.mark.parametrize("order", [*itertools.permutations(SEVERAL)])
@pytest.mark.parametrize("place", ["in the span", "apart"])
def test_several_evaluators_make_the_same_quality_in_any_order(
    order: tuple[str, ...], place: str, tmp_path: Path
) -> None:
    results = [("result", {NAME: name, VALUE: SEVERAL[name]}) for name in order]
    apart = [judged(0, SEVERAL[name], name) for name in order]
    items = [span(0, events=results)] if place == "in the span" else [span(0), *apart]
    intake = Intake()
    assert quality(read(tmp_path, *items, intake=intake)) == [pytest.approx(0.5, abs=1e-12)]
    assert any("choose by quality=NAME: brevity, fluency, relevance" in note for note in intake.notes)
    assert quality(read(tmp_path, *items, columns={"quality": "fluency"})) == [0.5]
    assert quality(read(tmp_path, *items, columns={"quality": "relevance", "reward": "brevity"})) == [0.9]


def test_an_evaluator_called_quality_is_the_quality(tmp_path: Path) -> None:
    intake = Intake()
    log = read(tmp_path, judged(0, 0.1, "toxicity"), span(0), judged(0, 0.8), judged(0, 2.5, "reward"), intake=intake)
    assert quality(log) == [0.8]
    assert log.reward.tolist() == [2.5]
    assert intake.notes == {"evaluations by toxicity, not used": 1}


@pytest.mark.parametrize(
    ("label", "columns", "expected"),
    [
        ("pass", {}, 1.0),
        ("Fail", {}, 0.0),
        ("good", {"labels": "good:0.75+poor:0"}, 0.75),
        ("poor", {"labels": "good:0.75+poor:0"}, 0.0),
        ("good", {}, None),
    ],
)
def test_a_label_without_a_score_is_worth_what_it_is_said_to_be(
    label: str, columns: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    intake = Intake()
    log = read(tmp_path, span(0), judged(0, None, **{LABEL: label}), intake=intake, columns=columns)
    assert quality(log) == [expected]
    assert (expected is None) == any("say what label 'good' is worth" in note for note in intake.notes)


@pytest.mark.parametrize("columns", [{"arm": "x"}, {"labels": "good"}, {"labels": "good:many"}])
def test_a_map_that_means_nothing_is_refused(columns: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="good:1"):
        read(tmp_path, span(0), columns=columns)


# -- what a decision is ---------------------------------------------------------------------------------------------

OTHER = {
    "invoke_agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "small"},
    "execute_tool": {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.request.model": "m",
    },
    "embeddings": {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "vectors"},
    "retrieval": {"gen_ai.operation.name": "retrieval", "gen_ai.request.model": "vectors"},
    "AGENT": {"openinference.span.kind": "AGENT", "llm.model_name": "small"},
    "EMBEDDING": {"openinference.span.kind": "EMBEDDING", "llm.model_name": "vectors"},
    "workflow": {"traceloop.span.kind": "workflow", "gen_ai.request.model": "small"},
    "rerank": {"llm.request.type": "rerank", "gen_ai.request.model": "small"},
    "litellm.moderation": {"gen_ai.operation.name": "litellm.moderation", "gen_ai.request.model": "small"},
    "something.new": {"gen_ai.operation.name": "something.new", "gen_ai.request.model": "small"},
}


@pytest.mark.parametrize("kind", OTHER)
def test_a_span_that_is_no_request_is_no_decision_and_counts_no_tokens(kind: str, tmp_path: Path) -> None:
    intake = Intake()
    counted = {**OTHER[kind], "gen_ai.usage.input_tokens": 900, "gen_ai.usage.output_tokens": 90}
    log = read(tmp_path, span(1, parent=0), span(0, counted), intake=intake)
    assert log.arms == ("small",)
    assert log.channel("tokens").tolist() == [110.0]
    assert intake.notes == {f"spans of {kind}, no decisions": 1}


def test_an_operation_of_the_callers_own_is_a_decision_where_he_put_one(tmp_path: Path) -> None:
    assert len(read(tmp_path, span(0, {**CHAT, "gen_ai.operation.name": "something.new"}))) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize("decided", ["outer", "inner", "nowhere"])
def test_a_request_that_two_libraries_traced_is_one(decided: str, order: tuple[int, ...], tmp_path: Path) -> None:
    plain = {name: value for name, value in CHAT.items() if "bandit" not in name}
    outer, inner = (CHAT if decided == place else plain for place in ("outer", "inner"))
    task = {"traceloop.span.kind": "task"}
    spans = [span(0, outer), span(1, task, parent=0), span(2, inner, parent=1)]
    log = read(tmp_path, *(spans[i] for i in order), judged(2, 0.5))
    assert log.channel("tokens").tolist() == [110.0]
    assert quality(log) == [0.5]
    assert np.isnan(log.propensity[0]) == (decided == "nowhere")


def test_requests_beside_each_other_are_as_many_decisions(tmp_path: Path) -> None:
    agent = {"gen_ai.operation.name": "invoke_agent"}
    assert len(read(tmp_path, span(0, agent), *(span(n, parent=0) for n in (1, 2, 3)))) == 3


@pytest.mark.parametrize(
    ("asked", "answered", "mode"),
    [
        ("large", "small", "diverted"),
        ("gpt-4o", "gpt-4o-mini", "diverted"),
        ("gpt-4-0314", "gpt-4-0613", "diverted"),
        ("gpt-4o", "gpt-4o-2024-08-06", "online"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", "online"),
        ("claude-x-latest", "claude-x-20241022", "online"),
        ("small", "small", "online"),
    ],
)
def test_an_answer_of_another_model_is_not_credited_to_the_one_asked(
    asked: str, answered: str, mode: str, tmp_path: Path
) -> None:
    intake = Intake()
    log = read(
        tmp_path,
        span(0, {**CHAT, "gen_ai.request.model": asked, "gen_ai.response.model": answered}),
        judged(0, 0.5),
        intake=intake,
    )
    assert (log.arms[log.arm[0]], log.mode[0]) == (asked, mode)
    assert quality(log) == [None if mode == "diverted" else 0.5]
    assert (DIVERTED in intake.notes) == (mode == "diverted")


def test_a_caller_who_drew_another_arm_than_was_called_credits_none(tmp_path: Path) -> None:
    drawn = {**CHAT, "bandit_router.arm": "large", "bandit_router.quality": 1.0}
    log = read(tmp_path, span(0, drawn), span(1))
    assert [(log.arms[arm], mode) for arm, mode in zip(log.arm, log.mode, strict=True)] == [
        ("large", "diverted"),
        ("small", "online"),
    ]
    assert quality(log) == [None, None]


def test_a_deployment_whose_model_the_caller_names_is_the_arm(tmp_path: Path) -> None:
    named = {"gen_ai.request.model": "my-deployment", "gen_ai.response.model": "gpt-4o-2024-08-06"}
    log = read(tmp_path, span(0, {**CHAT, **named, "bandit_router.arm": "gpt-4o"}))
    assert (log.arms, log.mode.tolist()) == (("gpt-4o",), ["online"])


def test_attempts_of_one_event_are_one_decision(tmp_path: Path) -> None:
    event = {**CHAT, "bandit_router.event_id": "e-1"}
    failed = {"status": {"code": 2}}
    log = read(tmp_path, span(3, event), span(0, {**event, "gen_ai.request.model": "large"}, **failed))
    assert (log.event_id.tolist(), log.arms[log.arm[0]], log.mode[0]) == (["e-1"], "large", "diverted")


@pytest.mark.parametrize("failed", [{"status": {"code": 2}}, {"status": {"code": "STATUS_CODE_ERROR"}}])
def test_a_request_that_failed_says_so(failed: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, span(0, **failed)).mode.tolist() == ["failure"]


# -- names and numbers ----------------------------------------------------------------------------------------------

COUNTS: dict[str, tuple[dict[str, Any], float | None]] = {
    "numbers": ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}, 10.0),
    "text": ({"gen_ai.usage.input_tokens": "7", "gen_ai.usage.output_tokens": "3"}, 10.0),
    "older names": ({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3}, 10.0),
    "oldest names": ({"llm.usage.prompt_tokens": 7, "llm.usage.completion_tokens": 3}, 10.0),
    "other names": ({"llm.token_count.prompt": 7, "llm.token_count.completion": 3}, 10.0),
    "a sum": ({"llm.token_count.total": 10}, 10.0),
    "half and a sum": ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.total_tokens": 10}, 10.0),
    "half": ({"gen_ai.usage.input_tokens": 7}, None),
    "other half": ({"gen_ai.usage.output_tokens": 7}, None),
    "no number": ({"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": 3}, None),
    "none": ({}, None),
}


@pytest.mark.parametrize("case", COUNTS)
def test_tokens_are_both_counts_or_unknown(case: str, tmp_path: Path) -> None:
    counts, expected = COUNTS[case]
    (tokens,) = read(tmp_path, span(0, {"gen_ai.request.model": "small", **counts})).channel("tokens")
    assert (None if math.isnan(tokens) else tokens) == expected


@pytest.mark.parametrize(
    "names",
    [
        {"openinference.span.kind": "LLM", "llm.model_name": "small", "llm.cost.total": 0.25},
        {"llm.request.type": "chat", "llm.request.model": "small", "gen_ai.usage.cost": "0.25"},
        {"llm.request.type": "completion", "gen_ai.request.model": "small", "bandit_router.cost_usd": "0.25"},
        {"gen_ai.operation.name": "generate_content", "gen_ai.response.model": "small", "gen_ai.usage.cost": 0.25},
    ],
)
def test_other_conventions_are_read(names: dict[str, Any], tmp_path: Path) -> None:
    log = read(tmp_path, span(0, names))
    assert log.arms == ("small",)
    assert log.channel("cost_usd").tolist() == [0.25]


@pytest.mark.parametrize("name", ["gen_ai.response.time_to_first_chunk", "gen_ai.latency.time_to_first_token"])
def test_time_to_first_token_is_not_the_latency(name: str, tmp_path: Path) -> None:
    log = read(tmp_path, span(0, {**CHAT, name: 0.25}))
    assert (log.channel("ttft_s")[0], log.channel("latency_s")[0]) == (0.25, 2.0)


def test_fields_as_text_are_fields(tmp_path: Path) -> None:
    texts = {"propensity": "0.25", "context": "[1.0, 2.5]", "eligible": '["small", "large"]', "degraded": "true"}
    log = read(tmp_path, span(0, {**CHAT, **{f"bandit_router.{name}": text for name, text in texts.items()}}))
    assert (log.propensity[0], log.contexts[0].tolist(), log.arms) == (0.25, [1.0, 2.5], ("large", "small"))
    assert log.degraded[0]


def test_a_model_is_itself_under_its_providers_prefix_and_dated() -> None:
    assert same_model("openai/gpt-4o", "gpt-4o")
    assert same_model("m-latest", "m-2407")
    assert not same_model("m-1", "m-2")
    assert not same_model("model-100", "model-200")
