"""LiteLLM's records: one request is one decision, and what was not measured is unknown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidLog
from bandit_router.records.outcomes import Utility
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import Intake, LoggedEvents, read_logs
from bandit_router.replay.logs.joined import DIVERTED
from bandit_router.replay.logs.litellm import UNPRICED
from bandit_router.replay.targets import one_arm

T = 1_790_000_000.0


def payload(call: str, /, *, own: dict[str, Any] | None = None, start: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A payload of a request that "small" answered in two seconds."""
    decision = {"propensity": 0.5, "eligible": ["small", "large"]} if own is None else own
    return {
        "litellm_call_id": call,
        "trace_id": f"trace-{call}",
        "id": f"answer-{call}",
        "call_type": "acompletion",
        "status": "success",
        "model": "openai/gpt-mini",
        "model_id": "small",
        "model_group": "small",
        "response_cost": 0.001,
        "total_tokens": 30,
        "startTime": T + start,
        "endTime": T + start + 2.0,
        "metadata": {"spend_logs_metadata": {"bandit_router": decision}},
        **fields,
    }


def failure(call: str, /, **fields: Any) -> dict[str, Any]:
    """A failed attempt on "large"."""
    named = {"model": "openai/gpt", "model_id": "large", "model_group": "large", "status": "failure"}
    return payload(call, **{**named, "response_cost": 0.0, "total_tokens": 0, **fields})


def spend(request: str, /, **fields: Any) -> dict[str, Any]:
    """A row of the spend table as a version without the column litellm_call_id wrote it."""
    return {
        "request_id": request,
        "call_type": "acompletion",
        "spend": 0.002,
        "total_tokens": 30,
        "startTime": "2026-01-24 09:20:46.500000",
        "endTime": "2026-01-24 09:20:47.750000",
        "completionStartTime": "2026-01-24 09:20:47.750000",
        "request_duration_ms": 1250,
        "model": "gpt-mini",
        "model_id": "small",
        "model_group": "small",
        "metadata": "{}",
        "status": "success",
        "session_id": f"session-{request}",
        **fields,
    }


def read(folder: Path, *records: Any, intake: Intake | None = None, **options: Any) -> LoggedEvents:
    path = folder / "log.jsonl"
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return read_logs([path], intake or Intake(), format="litellm", **options)


def told(log: LoggedEvents) -> list[tuple[str, str, str, bool]]:
    return [
        (event, log.arms[arm], mode, bool(degraded))
        for event, arm, mode, degraded in zip(log.event_id, log.arm, log.mode, log.degraded, strict=True)
    ]


def own(arm: str, **fields: Any) -> dict[str, Any]:
    return {"propensity": 0.5, "eligible": ["small", "large"], "arm": arm, **fields}


# -- one request is one decision ------------------------------------------------------------------------------------


def test_the_attempts_of_a_trace_are_one_decision_of_the_arm_that_answered(tmp_path: Path) -> None:
    drawn = own("large")
    trace = {"trace_id": "t", "own": drawn}
    intake = Intake()
    log = read(
        tmp_path,
        failure("a", start=0.0, **trace),
        failure("b", start=1.0, **trace),
        payload("c", start=3.0, **trace),
        intake=intake,
    )
    assert told(log) == [("c", "large", "diverted", False)]
    assert np.isnan(log.outcomes).all()
    assert log.propensity.tolist() == [0.5]
    assert log.timestamp_s.tolist() == [T]
    assert intake.notes == {DIVERTED: 1}


SIGNS: dict[str, tuple[dict[str, Any], str | None]] = {
    "the caller drew another arm": ({"own": own("large")}, "large"),
    "the group is an arm, and another deployment answered": ({"model_group": "large"}, "large"),
    "the group that was asked for first": ({"metadata": {"original_model_group": "large"}}, "large"),
    "a retry in the group of one arm": ({"metadata": {"attempted_retries": 2}}, "small"),
    "a fallback from nobody knows where": ({"metadata": {"attempted_fallbacks": 1}}, None),
    "a counter as text": ({"metadata": {"attempted_fallbacks": "1"}}, None),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_an_answer_of_another_attempt_is_credited_to_no_arm(sign: str, tmp_path: Path) -> None:
    fields, drawn = SIGNS[sign]
    record = payload("a", **{name: value for name, value in fields.items() if name != "metadata"})
    record["metadata"].update(fields.get("metadata", {}))
    log = read(tmp_path, record, payload("b", start=9.0))
    assert [(event, mode) for event, _, mode, _ in told(log)] == [("a", "diverted"), ("b", "online")]
    assert np.isnan(log.outcomes[0]).all()
    assert log.arms[log.arm[0]] == drawn or (drawn is None and log.degraded[0] and np.isnan(log.propensity[0]))


def test_the_router_counts_in_the_headers_too(tmp_path: Path) -> None:
    def headers(fallbacks: int) -> dict[str, Any]:
        counts = {"x-litellm-attempted-retries": 0, "x-litellm-attempted-fallbacks": fallbacks}
        return {"hidden_params": {"additional_headers": counts}}

    log = read(tmp_path, payload("a", **headers(1)), payload("b", start=5.0, **headers(0)))
    assert [mode for _, _, mode, _ in told(log)] == ["diverted", "online"]


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_an_arm_is_worth_what_it_answered_itself(share: float, tmp_path: Path) -> None:
    """Both arms are drawn alike, "small" earns 0.6; "large" answers only a share of its requests, with 0.9."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(4000):
        arm = ("small", "large")[int(rng.integers(2))]
        serves = arm if arm == "small" or rng.random() < share else "small"
        quality = float(rng.random() < (0.9 if serves == "large" else 0.6))
        named = {"model_id": serves, "model_group": serves}
        records.append(payload(f"r{i}", start=10.0 * i, own=own(arm, quality=quality), **named))
    log = read(tmp_path, *records)
    assert len(log) == 4000
    values = {}
    for arm in ("small", "large"):
        found = evaluate(log, one_arm(log, arm), utility=Utility())
        values[arm] = found.metrics["utility"].estimates["snips"].value if found.answered else None
    assert values["small"] == pytest.approx(0.6, abs=0.05)
    assert values["large"] == (None if share == 0 else pytest.approx(0.9, abs=0.05))


def test_failures_of_a_session_are_not_those_of_an_answer_that_came_at_once(tmp_path: Path) -> None:
    first_try = {"attempted_retries": 0, "attempted_fallbacks": 0}
    answer = payload("b", start=60.0, trace_id="session")
    answer["metadata"].update(first_try)
    log = read(tmp_path, failure("a", trace_id="session"), answer, payload("c", start=90.0, trace_id="session"))
    assert told(log) == [
        ("a", "large", "failure", False),
        ("b", "small", "online", False),
        ("c", "small", "online", False),
    ]


def test_attempts_with_another_decision_in_one_trace_are_other_requests(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        failure("a", trace_id="t", own=own("large", context=[1.0])),
        payload("b", trace_id="t", start=5.0, own=own("small", context=[2.0])),
    )
    assert [(event, mode) for event, _, mode, _ in told(log)] == [("a", "failure"), ("b", "online")]


def test_a_request_that_no_attempt_answered_is_a_failure_of_the_arm_it_was_sent_to(tmp_path: Path) -> None:
    log = read(tmp_path, failure("a", trace_id="t"), failure("b", trace_id="t", start=1.0))
    assert told(log) == [("b", "large", "failure", False)]
    assert np.isnan(log.channel("quality")[0])


@pytest.mark.parametrize("key", ["litellm_call_id", "event_id"])
def test_attempts_under_the_callers_own_id_are_one_decision(key: str, tmp_path: Path) -> None:
    fields = own("large", event_id="e-1") if key == "event_id" else own("large")
    calls = ("r-1", "r-1") if key == "litellm_call_id" else ("c-1", "c-2")
    log = read(
        tmp_path,
        failure(calls[0], own=fields, trace_id="t-1"),
        payload(calls[1], own=fields, trace_id="t-2", start=3.0),
    )
    assert told(log) == [("r-1" if key == "litellm_call_id" else "e-1", "large", "diverted", False)]


def test_a_payload_and_the_spend_row_of_the_same_call_are_one_record(tmp_path: Path) -> None:
    start = "2026-09-21T14:13:20.000400+00:00"  # T is 2026-09-21T14:13:20Z; the table keeps other digits
    row = spend("answer-a", litellm_call_id="a", startTime=start, spend=0.001, cost_breakdown=None)
    log = read(tmp_path, payload("a"), row)
    assert told(log) == [("a", "small", "online", False)]
    assert log.propensity.tolist() == [0.5]


def test_another_answer_under_one_call_id_is_reported(tmp_path: Path) -> None:
    intake = Intake()
    log = read(tmp_path, payload("a"), payload("a", start=99.0), intake=intake)
    assert len(log) == 1
    assert intake.reasons == {"another call under the same id": 1}


def test_a_billed_attempt_that_was_retried_is_no_answer(tmp_path: Path) -> None:
    named = {"litellm_call_id": "a", "model_id": "large", "model_group": "large"}
    billed = spend("x-attempt-1", **named, metadata=json.dumps({"billed_retry_attempt": True}))
    log = read(tmp_path, billed, spend("x", litellm_call_id="a", startTime="2026-01-24 09:20:50"))
    assert told(log) == [("a", "large", "diverted", False)]


def test_a_deployment_that_only_stands_in_is_no_arm_to_play(tmp_path: Path) -> None:
    drawn = {"propensity": 0.5}
    log = read(
        tmp_path,
        payload("a", own=drawn),
        payload("b", own=drawn, start=5.0, model_id="large", model_group="large"),
        payload("d", own=drawn, start=10.0, model_id="backup", model_group="backup", attempted_fallbacks=1),
    )
    assert [arm for _, arm, *_ in told(log)] == ["small", "large", "backup"]
    assert log.eligible is not None
    assert log.eligible[0].tolist() == [name in ("small", "large") for name in log.arms]


def test_a_fallback_outside_of_the_distribution_leaves_the_distribution_of_the_others(tmp_path: Path) -> None:
    spread = {**own("large"), "probabilities": {"small": 0.5, "large": 0.5}}
    log = read(
        tmp_path,
        payload("a", own=spread, model_id="backup", model_group="backup"),
        payload("b", own={**spread, "arm": "small"}, start=5),
    )
    assert [(arm, mode) for _, arm, mode, _ in told(log)] == [("large", "diverted"), ("small", "online")]
    assert log.probabilities is not None
    assert log.probabilities[1, log.index("large")] == 0.5


def test_arms_that_the_caller_names_in_his_own_words_are_taken_as_drawn(tmp_path: Path) -> None:
    fields = {"propensity": 0.5, "eligible": ["cheap", "dear"]}
    log = read(
        tmp_path, payload("a", own={**fields, "arm": "cheap"}), payload("b", own={**fields, "arm": "dear"}, start=5)
    )
    assert [(arm, mode) for _, arm, mode, _ in told(log)] == [("cheap", "online"), ("dear", "online")]


def test_arms_may_be_model_groups_of_several_deployments(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        payload("a", own=own("small"), model_id="deployment-7"),
        payload("b", own=own("large"), model_id="deployment-7", start=5.0),
    )
    assert [(arm, mode) for _, arm, mode, _ in told(log)] == [("small", "online"), ("large", "diverted")]


def test_a_deployment_named_like_another_group_is_not_diverted_from_its_own(tmp_path: Path) -> None:
    log = read(tmp_path, payload("a", own={"propensity": 0.5}, model_group="auto"))
    assert told(log) == [("a", "small", "online", False)]


# -- what was measured ----------------------------------------------------------------------------------------------

PRICE_LIST = {"model_map_key": "openai/own-model", "model_map_value": None}
LISTED = {"model_map_key": "m", "model_map_value": {"input_cost_per_token": 1e-6, "output_cost_per_token": 0.0}}
LISTED_AT_0 = {"model_map_key": "m", "model_map_value": {"input_cost_per_token": 0, "output_cost_per_token": 0}}
FREE = {"total_cost": 0.0, "input_cost": 0.0, "output_cost": 0.0}
FREE_OWN = {"propensity": 0.5, "cost_usd": 0}
COSTS: dict[str, tuple[dict[str, Any], float | None]] = {
    "a bill": ({"response_cost": 0.25}, 0.25),
    "a bill as text": ({"response_cost": "0.25"}, 0.25),
    "a breakdown that was not billed": ({"response_cost": 0.0, "cost_breakdown": {"total_cost": 0.04}}, 0.04),
    "a breakdown without a sum": ({"response_cost": 0.0, "cost_breakdown": {"input_cost": 0.04}}, None),
    "a failed look-up": ({"response_cost": 0.0, "response_cost_failure_debug_info": {"error_str": "no"}}, None),
    "a zero that the gateway doubts": ({"response_cost": 0, "zero_cost_diagnostic": {"reason": "missing"}}, None),
    "no price list": ({"response_cost": 0.0, "model_map_information": PRICE_LIST}, None),
    "a list of zeros": ({"response_cost": 0.0, "cost_breakdown": FREE, "model_map_information": LISTED_AT_0}, None),
    "free by the caller's word": ({"response_cost": 0.0, "model_map_information": LISTED_AT_0, "own": FREE_OWN}, 0.0),
    "a discount": ({"response_cost": 0.0, "cost_breakdown": FREE, "model_map_information": LISTED}, 0.0),
    "a price of 0": ({"response_cost": 0.0, "cost_breakdown": {"total_cost": 0.0}}, 0.0),
    "an answer from the cache": ({"response_cost": 0.0, "cache_hit": True, "zero_cost_diagnostic": {"r": 1}}, 0.0),
    "nothing said": ({"response_cost": None}, None),
}


@pytest.mark.parametrize("case", COSTS)
def test_a_cost_is_what_was_billed_or_unknown(case: str, tmp_path: Path) -> None:
    fields, expected = COSTS[case]
    intake = Intake()
    (cost,) = read(tmp_path, payload("a", **fields), intake=intake).channel("cost_usd")
    assert (None if math.isnan(cost) else cost) == expected
    assert (UNPRICED in intake.notes) == (fields["response_cost"] == 0 and (expected is None or "word" in case))


@pytest.mark.parametrize("metadata", [{"cost_breakdown": {"total_cost": 0.04}}, {"model_map_information": PRICE_LIST}])
def test_a_spend_row_keeps_its_prices_in_the_metadata(metadata: dict[str, Any], tmp_path: Path) -> None:
    (cost,) = read(tmp_path, spend("a", spend=0, metadata=json.dumps(metadata))).channel("cost_usd")
    assert cost == 0.04 if "cost_breakdown" in metadata else math.isnan(cost)


@pytest.mark.parametrize(
    ("fields", "latency", "first_token"),
    [
        ({"stream": True, "response_time": 0.25, "completionStartTime": T + 0.25, "endTime": T + 8}, 8.0, 0.25),
        ({"stream": False, "completionStartTime": T + 2.0}, 2.0, None),
        ({"stream": None, "completionStartTime": T + 0.5}, 2.0, 0.5),
        ({"stream": True, "completionStartTime": T + 2.0}, 2.0, None),
        ({"stream": True, "response_time": 0.25, "endTime": None}, None, None),
        ({"response_time": 0.75, "endTime": None}, 0.75, None),
    ],
)
def test_a_stream_ends_with_its_last_token(
    fields: dict[str, Any], latency: float | None, first_token: float | None, tmp_path: Path
) -> None:
    log = read(tmp_path, payload("a", **fields))
    got = [None if math.isnan(log.channel(name)[0]) else log.channel(name)[0] for name in ("latency_s", "ttft_s")]
    assert got == [latency, first_token]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 30.0),
        ({"total_tokens": "30"}, 30.0),
        ({"total_tokens": None, "prompt_tokens": 10, "completion_tokens": "20"}, 30.0),
        ({"total_tokens": None, "prompt_tokens": 10}, None),
    ],
)
def test_half_a_count_is_not_the_count(fields: dict[str, Any], tokens: float | None, tmp_path: Path) -> None:
    (got,) = read(tmp_path, payload("a", **fields)).channel("tokens")
    assert (None if math.isnan(got) else got) == tokens


OTHER_CALLS = ["aembedding", "embedding", "amoderation", "aget_responses", "aretrieve_batch", "arerank", "file_content"]


@pytest.mark.parametrize("kind", OTHER_CALLS)
def test_a_call_that_no_policy_routes_is_no_decision(kind: str, tmp_path: Path) -> None:
    intake = Intake()
    log = read(tmp_path, payload("a"), payload("b", call_type=kind), intake=intake)
    assert log.event_id.tolist() == ["a"]
    assert intake.notes == {f"records of call type {kind}, no decisions": 1}


@pytest.mark.parametrize("kind", ["completion", "text_completion", "aresponses", "anthropic_messages", "", None])
def test_a_request_is_a_decision_by_whatever_road_it_came(kind: str | None, tmp_path: Path) -> None:
    assert len(read(tmp_path, payload("a", call_type=kind))) == 1


def test_calls_of_the_gateway_itself_and_mirrored_traffic_are_no_decisions(tmp_path: Path) -> None:
    judge, mirror = payload("b"), payload("c")
    judge["metadata"]["internal_call_origin"] = "shadow_eval_judge"
    mirror["metadata"]["is_silent_experiment"] = True
    assert read(tmp_path, payload("a"), judge, mirror).event_id.tolist() == ["a"]


# -- names, ids, places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_deployment_falls_back_to_the_model(empty: str | None, tmp_path: Path) -> None:
    assert read(tmp_path, payload("a", own={}, model_id=empty, model_group="")).arms == ("openai/gpt-mini",)


def test_a_row_without_a_call_id_has_its_request_id(tmp_path: Path) -> None:
    log = read(tmp_path, spend("chatcmpl-1"), {"request_id": "chatcmpl-1", "quality": 0.5}, spend("chatcmpl-2"))
    assert log.event_id.tolist() == ["chatcmpl-1", "chatcmpl-2"]
    assert log.channel("quality").tolist()[0] == 0.5
    assert log.channel("latency_s").tolist() == [1.25, 1.25]


def test_a_record_without_any_id_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidLog, match="1 no litellm_call_id, request_id or id"):
        read(tmp_path, {"model": "m", "response_cost": 1.0})


@pytest.mark.parametrize(
    "metadata",
    [
        {"spend_logs_metadata": {"bandit_router": {"propensity": 0.25}}},
        {"spend_logs_metadata": json.dumps({"bandit_router": {"propensity": "0.25"}})},
        {"requester_metadata": {"bandit_router": {"propensity": 0.25}}},
        {"bandit_router": {"propensity": 0.25}},
        json.dumps({"spend_logs_metadata": {"bandit_router": {"propensity": 0.25}}}),
    ],
)
def test_the_decision_is_found_where_the_gateway_puts_it(metadata: Any, tmp_path: Path) -> None:
    assert read(tmp_path, payload("a", metadata=metadata)).propensity.tolist() == [0.25]


# -- rewards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewards_first", [True, False])
def test_rewards_in_another_file_join_in_any_order(rewards_first: bool, tmp_path: Path) -> None:
    calls, rewards = tmp_path / "calls.jsonl", tmp_path / "rewards.jsonl"
    calls.write_text("\n".join(json.dumps(payload(f"c{i}", start=i)) for i in range(50)))
    order = np.random.default_rng(0).permutation(50)
    rewards.write_text("\n".join(json.dumps({"litellm_call_id": f"c{i}", "quality": i / 50}) for i in order))
    intake = Intake(strict=True)
    log = read_logs([rewards, calls] if rewards_first else [calls, rewards], intake, format="litellm")
    assert log.event_id.tolist() == [f"c{i}" for i in range(50)]
    assert log.channel("quality").tolist() == [i / 50 for i in range(50)]


@pytest.mark.parametrize("answered", [True, False])
def test_a_reward_of_any_attempt_is_one_of_the_decision(answered: bool, tmp_path: Path) -> None:
    last = payload("b", trace_id="t", start=5.0) if answered else failure("b", trace_id="t", start=5.0)
    log = read(
        tmp_path,
        {"litellm_call_id": "a", "quality": 0.25},
        failure("a", trace_id="t"),
        last,
        intake=Intake(strict=True),
    )
    (quality,) = log.channel("quality")
    assert math.isnan(quality) if answered else quality == 0.25  # what another arm answered is not the drawn arm's


def test_a_providers_id_that_repeats_joins_nothing(tmp_path: Path) -> None:
    intake = Intake()
    log = read(
        tmp_path, payload("a", id="x"), payload("b", id="x", start=5.0), {"id": "x", "quality": 1.0}, intake=intake
    )
    assert np.isnan(log.channel("quality")).all()
    assert intake.reasons == {"an id of several calls": 1}


def test_a_reward_that_contradicts_another_is_reported(tmp_path: Path) -> None:
    intake = Intake()
    rewards = [{"litellm_call_id": "a", "quality": quality} for quality in (0.5, "0.5", 1.0)]
    log = read(tmp_path, payload("a"), *rewards, intake=intake)
    assert log.channel("quality").tolist() == [0.5]
    assert intake.reasons == {"contradicts an earlier record of the event": 1}


# -- forms ----------------------------------------------------------------------------------------------------------

RECORDS = [payload("a"), payload("b", start=3.0), failure("c", start=6.0)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\n".join(json.dumps(record, indent=4) for record in RECORDS),
        "[\n" + ",\n".join(json.dumps(record) for record in RECORDS) + "\n]\n",
        json.dumps({"data": RECORDS, "total": 3, "page": 1, "page_size": 50, "total_pages": 1}),
        "\ufeff" + "\r\n".join(json.dumps(record) for record in RECORDS),
    ],
    ids=["array", "indented array", "indented", "array by lines", "page", "byte order mark"],
)
def test_records_are_read_in_every_form_that_json_has(text: str, tmp_path: Path) -> None:
    intake = Intake(strict=True)
    log = read(tmp_path, text, intake=intake)
    assert log.event_id.tolist() == ["a", "b", "c"]
    assert intake.lines == 3


def test_an_answer_newest_first_is_a_log_in_the_order_of_time(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps(RECORDS[::-1])).event_id.tolist() == ["a", "b", "c"]


def test_a_record_that_was_cut_short_takes_no_other_with_it(tmp_path: Path) -> None:
    intake = Intake()
    log = read(tmp_path, json.dumps(RECORDS[0])[:-40], *RECORDS[1:], intake=intake)
    assert log.event_id.tolist() == ["b", "c"]
    assert [(bad.line, bad.reason) for bad in intake.bad] == [(1, "no JSON object")]
    assert intake.lines == 3
