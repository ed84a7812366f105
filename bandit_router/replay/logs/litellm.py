"""LiteLLM: StandardLoggingPayload records and LiteLLM_SpendLogs rows, joined with rewards.

Records come one a line, indented or as one array, also as `/spend/logs` and `/spend/logs/v2` answer. LiteLLM logs no
propensity, so the caller puts the decision under the key `bandit_router` into the request's
`metadata={"spend_logs_metadata": {"bandit_router": {...}}}`: any fields of the event log (propensity, context,
eligible, arm, event_id, ...). Of other metadata the SDK logs nothing.

A record `{"litellm_call_id": ..., "quality": 0.8}` adds a reward. It joins on the caller's `event_id`, on
`litellm_call_id`, else on `request_id`, `id` or `trace_id` where one call alone has it: the provider's ids repeat.

The records of one request (one event or call id; failures before an answer in one trace with the same decision) are
one decision. One that was retried, or answered by another arm than was drawn, has mode "diverted" and no outcome, so
that the arm that was drawn is not credited with another's; where no record tells what was drawn it is degraded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.documents import documents
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS, Attempt, Joiner, known_of
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.values import first, known_sum, mapping, number, seconds

UNPRICED = "costs of 0 without a price, read as unknown; where a model is free, log cost_usd: 0 under bandit_router"
_OWN = {*FIELDS, "event_id"}
_METADATA = ("spend_logs_metadata", "requester_metadata")
_IDS = ("event_id", "litellm_call_id", "request_id", "id", "trace_id")
_CALLS = {
    *(
        "completion",
        "text_completion",
        "responses",
        "anthropic_messages",
        "generate_content",
        "generate_content_stream",
    ),
    *("image_generation", "image_edit", "speech", "transcription", "pass_through_endpoint", "llm_passthrough_route"),
}
_PRICES = ("input_cost", "output_cost", "cache_read_cost", "cache_creation_cost", "tool_usage_cost", "original_cost")


def read_litellm(paths: Sequence[Path], intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read payloads, spend rows and rewards of all files together, in any order; rows come in the order of their start.

    Calls that failed are kept without quality, in mode "failure". Embeddings, moderations, re-reads of a stored answer
    and LiteLLM's own calls are no decisions: they are counted in the intake's notes and left out.
    """
    joiner, attempts = Joiner(intake), list[tuple[Attempt, str | None]]()
    for path in paths:
        for line, document in documents(path, intake):
            for record in _rows(document, intake):
                _take(record, str(path), line, joiner, attempts, intake)
    for event_id, tries in sorted(_decisions(attempts), key=lambda item: _time(item[1][0])):
        joiner.decide(event_id, tries)
    assembler = Assembler(intake, arms=arms)
    joiner.assemble(assembler)
    return assembler.log(str(paths[0]))


def _rows(document: dict[str, Any] | None, intake: Intake) -> list[dict[str, Any] | None]:
    """A record, or those of a page of `/spend/logs/v2`."""
    page = document.get("data") if document is not None and "total_pages" in document else None
    if not isinstance(page, list):
        return [document]
    intake.lines += len(page) - 1
    return [row if isinstance(row, dict) else None for row in page]


def _take(
    record: dict[str, Any] | None,
    file: str,
    line: int,
    joiner: Joiner,
    attempts: list[tuple[Attempt, str | None]],
    intake: Intake,
) -> None:
    if record is None:
        intake.reject(file, line, "no JSON object")
        return
    record = {**record, "metadata": mapping(record.get("metadata"))}  # text in spend rows
    own = _own(record)
    named = {**record, "event_id": own.pop("event_id", record.get("event_id"))}
    ids = [value for name in _IDS if isinstance(value := named.get(name), str) and value]
    if not ids:
        intake.reject(file, line, "no litellm_call_id, request_id or id")
    elif (kind := _no_decision(record)) is not None:
        intake.notes[f"records of {kind}, no decisions"] += 1
    elif _text(record, "model_id") or _text(record, "model"):
        attempt = _attempt(record, own, file, line)
        attempt.ids = tuple(value for value in ids if value in (named["event_id"], named.get("litellm_call_id")))
        attempt.ids, attempt.loose = attempt.ids or (ids[0],), tuple(ids)
        trace = _text(record, "trace_id") or _text(record, "session_id")
        attempts.append((attempt, None if named["event_id"] else trace))
        if attempt.metered["cost_usd"] is None and number(first(record, ("response_cost", "spend"))) == 0:
            intake.notes[UNPRICED] += 1
    else:
        joiner.add(file, line, ids, {**_metered(record), **own})


def _attempt(record: Mapping[str, Any], own: dict[str, Any], file: str, line: int) -> Attempt:
    metadata = record["metadata"]
    names = [_text(record, name) for name in ("model_id", "model_group", "model")]
    retries, fallbacks = (_count(record, name) for name in ("attempted_retries", "attempted_fallbacks"))
    original = _text(metadata, "original_model_group")  # the group of the record is that of the fallback
    moved = bool(fallbacks) or original not in (None, names[1])
    return Attempt(
        file=file,
        line=line,
        ids=(),
        arm=names[0] or names[2] or "",
        served=tuple(name for name in names if name is not None),
        asked=original or (None if moved else names[1]),
        start=seconds(record.get("startTime")),
        end=seconds(record.get("endTime")),
        failed=_failed(record) or metadata.get("billed_retry_attempt") is True,
        retried=bool(retries),
        moved=moved,
        fresh=retries == fallbacks == 0,
        metered=_metered(record),
        own=own,
    )


def _decisions(attempts: Iterable[tuple[Attempt, str | None]]) -> Iterator[tuple[str, list[Attempt]]]:
    """Attempts by the decision they belong to, with its event id."""
    calls: dict[str, list[Attempt]] = defaultdict(list)
    traces: dict[str, set[str]] = defaultdict(set)
    alias = {name: attempt.ids[0] for attempt, _ in attempts for name in attempt.ids[1:]}
    for attempt, trace in attempts:
        call = alias.get(attempt.ids[0], attempt.ids[0])
        calls[call].append(attempt)
        if trace is not None:
            traces[trace].add(call)
    for tries in calls.values():
        tries.sort(key=_time)
    chained: set[str] = set()
    for members in traces.values():
        for chain in _chains(sorted(members - chained, key=lambda call: _time(calls[call][0])), calls):
            chained.update(chain)
            yield chain[-1], sorted((attempt for call in chain for attempt in calls[call]), key=_time)
    yield from ((call, tries) for call, tries in calls.items() if call not in chained)


def _chains(trace: Sequence[str], calls: Mapping[str, list[Attempt]]) -> Iterator[list[str]]:
    """The calls of one trace cut into requests: each ends with an answer, or where the caller's fields change."""
    chain: list[str] = []
    for call in trace:
        tries = calls[call]
        answered = not all(attempt.failed for attempt in tries)
        if chain and (tries[0].own != calls[chain[-1]][0].own or (answered and tries[-1].fresh)):
            yield chain
            chain = []
        chain.append(call)
        if answered:
            yield chain
            chain = []
    if chain:
        yield chain


def _time(attempt: Attempt) -> tuple[float, bool, str]:
    return attempt.start or 0.0, not attempt.failed, attempt.ids[0]


# -- one record -----------------------------------------------------------------------------------------------------


def _no_decision(record: Mapping[str, Any]) -> str | None:
    """What a record is of if it is no request that a policy could have routed."""
    metadata, kind = mapping(record.get("metadata")), record.get("call_type")
    if metadata.get("internal_call_origin"):
        return f"LiteLLM's own calls ({str(metadata['internal_call_origin'])[:40]})"
    if metadata.get("is_silent_experiment") is True:
        return "mirrored traffic"
    if not isinstance(kind, str) or not kind or kind in _CALLS or kind.removeprefix("a") in _CALLS:
        return None
    return f"call type {kind[:40]}"


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) and value else None


def _failed(record: Mapping[str, Any]) -> bool:
    return first(record, ("status",)) == "failure" or mapping(record.get("metadata")).get("status") == "failure"


def _metered(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the gateway measured, in the event log's units."""
    start, end, token = (seconds(record.get(name)) for name in ("startTime", "endTime", "completionStartTime"))
    latency = end - start if start is not None and end is not None and end >= start else None
    if latency is None and (duration := number(record.get("request_duration_ms"))) is not None:
        latency = duration / 1000.0
    if latency is None and record.get("stream") is not True:  # of a stream it is the time to the first token
        latency = number(record.get("response_time"))
    ttft = None  # without a stream the first token comes with the last
    if start is not None and token is not None and end is not None and record.get("stream") in (True, None):
        ttft = token - start if start <= token < end else None
    counts = [number(record.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    total = number(record.get("total_tokens"))
    return {
        "cost_usd": _cost(record),
        "tokens": known_sum(counts) if total is None else total,
        "latency_s": latency,
        "ttft_s": ttft,
    }


def _cost(record: Mapping[str, Any]) -> float | None:
    """The bill; unknown where LiteLLM says 0 for want of a price."""
    metadata = mapping(record.get("metadata"))
    cost = number(first(record, ("response_cost", "spend")))
    if cost or record.get("cache_hit") in (True, "True"):
        return cost
    prices = mapping(first(record, ("cost_breakdown",)) or metadata.get("cost_breakdown"))
    if total := number(prices.get("total_cost")):
        return total
    if "total_cost" not in prices and any(number(prices.get(name)) for name in _PRICES):
        return None
    listed = mapping(record.get("model_map_information") or metadata.get("model_map_information"))
    value = mapping(listed.get("model_map_value"))
    priced = any(number(value.get(f"{side}_cost_per_token")) for side in ("input", "output"))
    failed = any(record.get(name) for name in ("response_cost_failure_debug_info", "zero_cost_diagnostic"))
    unpriced = bool(listed.get("model_map_key")) and not priced  # the router lists what it does not know at 0
    return None if (failed or unpriced) and not _failed(record) else cost


def _count(record: Mapping[str, Any], name: str) -> float | None:
    """A counter of the router, wherever this generation of records keeps it."""
    hidden = mapping(record.get("hidden_params"))
    headers, header = mapping(hidden.get("additional_headers")), "x-litellm-" + name.replace("_", "-")
    places = (record.get(name), mapping(record.get("metadata")).get(name), hidden.get(name), headers.get(header))
    return next((count for count in map(number, places) if count is not None), None)


def _own(record: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own fields: at the top level, and under `bandit_router` in the metadata."""
    metadata = mapping(record.get("metadata"))
    places = [metadata, *(mapping(place.get(name)) for place in (metadata, record) for name in _METADATA)]
    own = {name: record[name] for name in (*CHANNELS, "reward") if record.get(name) is not None}
    for place in places:
        own.update((k, v) for k, v in mapping(place.get("bandit_router")).items() if k in _OWN)
    event_id = own.pop("event_id", None)
    return {**known_of(own), **({} if event_id is None else {"event_id": str(event_id)})}
