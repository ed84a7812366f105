"""LiteLLM's records: what was not measured is unknown, every id and form is read, rewards join in any order."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_litellm import T, failure, payload, read, spend

from bandit_router.errors import InvalidLog
from bandit_router.replay.logs import Intake, read_logs
from bandit_router.replay.logs.litellm import UNPRICED

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
