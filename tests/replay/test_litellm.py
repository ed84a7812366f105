"""LiteLLM's records: one request is one decision, and what was not measured is unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.records.outcomes import Utility
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import Intake, LoggedEvents, read_logs
from bandit_router.replay.logs.joined import DIVERTED
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


def test_failures_of_a_session_are_not_those_of_an_answer(tmp_path: Path) -> None:
    """Failures of a session are not those of an answer that came at once."""
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


def test_an_unanswered_request_is_a_failure_of_its_arm(tmp_path: Path) -> None:
    """A request that no attempt answered is a failure of the arm it was sent to."""
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


def test_a_foreign_fallback_leaves_the_distribution(tmp_path: Path) -> None:
    """A fallback outside of the distribution leaves the distribution of the others."""
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


def test_a_deployment_named_like_another_group_is_not_diverted(tmp_path: Path) -> None:
    """A deployment named like another group is not diverted from its own."""
    log = read(tmp_path, payload("a", own={"propensity": 0.5}, model_group="auto"))
    assert told(log) == [("a", "small", "online", False)]
