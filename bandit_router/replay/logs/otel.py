"""OpenTelemetry GenAI spans and evaluation events, as OTLP/JSON or as the SDK's console exporters print them.

Records come one a line, indented or in an array. Read are both generations of the GenAI names, OpenInference's `llm.*`
and OpenLLMetry's older `llm.request.*` and `llm.usage.*`. The conventions have no decision: it is the attributes
`bandit_router.*` (any field of the event log), or a `feature_flag.evaluation` event whose variant is the arm.

A decision is a span of a request to a model; spans of agents, tools, embeddings and retrieval are counted in the
intake's notes and left out, and so is a request's span inside another's. An answer by another model than was asked for
(other than a dated version of it) has mode "diverted" and no outcome. An event `gen_ai.evaluation.result` is a reward:
of the span that it names, else of the response id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bandit_router.replay.logs.documents import documents
from bandit_router.replay.logs.evaluations import RESULT, Evaluations
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.joined import FIELDS, Attempt, Joiner, known_of
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.spans import Span, records, spans
from bandit_router.replay.logs.values import first, known_sum, number, same_model

_OWN = "bandit_router."
_ASKED = ("gen_ai.request.model", "llm.request.model", "llm.request.model_name", "llm.model_name")
_ANSWERED = ("gen_ai.response.model", "llm.response.model", "llm.response.model_name")
_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")
_TOTAL = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
_FIRST_TOKEN = ("gen_ai.response.time_to_first_chunk", "gen_ai.latency.time_to_first_token")
_COST = ("llm.cost.total", "gen_ai.usage.cost")
_KIND = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "llm.request.type")
_REQUESTS = ("chat", "text_completion", "generate_content", "completion", "llm", "responses", "message", "messages")
_NEVER = (
    "embed",
    "agent",
    "tool",
    "retriev",
    "rerank",
    "moderat",
    "workflow",
    "guardrail",
    "evaluator",
    "chain",
    "task",
)

Place = tuple[str, int, Span]


def read_otel(
    paths: Sequence[Path],
    intake: Intake,
    *,
    arms: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> LoggedEvents:
    """Read spans and evaluation events of all files together, in any order; rows come in the order of their spans.

    The event is `bandit_router.event_id`, else trace and span id. Requests that failed are in mode "failure".

    Args:
        columns: which evaluator is which field, and what labels are worth: {"quality": "helpfulness",
            "labels": "good:1+poor:0"}; see `Evaluations`.
    """
    joiner, evaluations = Joiner(intake), Evaluations(columns or {}, intake)
    found, flags = list[Place](), dict[str, str]()
    for path in paths:
        for line, document in documents(path, intake):
            for span in _taken(document, str(path), line, evaluations, flags, intake):
                found.append((str(path), line, span))
    decisions: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in _attempts(found, flags, intake):
        decisions[attempt.ids[0]].append(attempt)
    for event_id, attempts in decisions.items():
        joiner.decide(event_id, sorted(attempts, key=lambda attempt: attempt.start or 0.0))
    evaluations.join(joiner)
    assembler = Assembler(intake, arms=arms)
    joiner.assemble(assembler)
    return assembler.log(str(paths[0]))


def _taken(
    document: dict[str, Any] | None,
    file: str,
    line: int,
    evaluations: Evaluations,
    flags: dict[str, str],
    intake: Intake,
) -> list[Span]:
    """The spans of one document; its events go to the evaluations and the flags."""
    if document is None:
        intake.reject(file, line, "no JSON object")
        return []
    try:
        some, logged = list(spans(document)), list(records(document))
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        intake.reject(file, line, "no OTLP export and no span", str(error))
        return []
    if not some and not logged:
        intake.reject(file, line, "no OTLP export and no span")
    for event in (*(event for span in some for event in span.events), *logged):
        variant = event.attributes.get("feature_flag.result.variant")
        if event.name == RESULT:
            evaluations.take(event, file, line)
        elif event.name == "feature_flag.evaluation" and isinstance(variant, str) and event.key is not None:
            flags[event.key] = variant
        elif event in logged:
            intake.notes["log records that are no evaluation"] += 1
    return some


def _attempts(found: Sequence[Place], flags: Mapping[str, str], intake: Intake) -> list[Attempt]:
    """The spans that are requests to a model, each request once."""
    attempts: dict[str, Attempt] = {}
    parents = {span.key: span.parent for _, _, span in found if span.key is not None}
    for file, line, span in found:
        attempt = _attempt(file, line, span, flags.get(span.key or ""))
        if isinstance(attempt, str):
            intake.notes[attempt] += 1
        else:
            attempts[span.key or f"{span.id} {len(attempts)}"] = attempt
    for key in [key for key in attempts if key in parents]:
        outer, seen = parents[key], {key}
        while outer is not None and outer not in attempts and outer not in seen:
            seen.add(outer)
            outer = parents.get(outer)
        if outer in attempts and outer != key:
            inside = key if attempts[outer].own or not attempts[key].own else outer
            kept = attempts[outer if inside == key else key]
            kept.ids += attempts[inside].ids
            kept.loose += attempts.pop(inside).loose
            intake.notes["spans of a request inside another's, no decisions"] += 1
    return list(attempts.values())


def _attempt(file: str, line: int, span: Span, flag: str | None) -> Attempt | str:
    """The request that a span is, or what it is instead."""
    attributes = span.attributes
    own = _own(attributes)
    if flag is not None:
        own.setdefault("arm", flag)
    answered, asked = (_name(attributes, names) for names in (_ANSWERED, _ASKED))
    names = [name for name in (answered, asked) if name is not None]
    if not names and own.get("arm") is None:
        return "spans that are no request to a model"
    if (kind := _kind(attributes, own)) is not None:
        return f"spans of {kind}, no decisions"
    moved = len(names) == 2 and not same_model(*names) and not same_model(str(own.get("arm", "")), names[0])
    arm = answered if moved or asked is None else asked
    if arm is None or (flag is not None and flag == own.get("arm") and not moved):  # a variant is taken at its word
        arm = str(own["arm"])
        names = [arm]
    event_id = attributes.get(f"{_OWN}event_id")
    ids = (str(event_id),) if event_id not in (None, "") else ()
    response = attributes.get("gen_ai.response.id")
    return Attempt(
        file=file,
        line=line,
        ids=(*ids, span.id, *(() if span.key is None else (span.key,))),
        loose=(response,) if isinstance(response, str) else (),
        arm=arm,
        served=(arm,) if moved else tuple(names),
        drawn=asked if moved else None,
        start=span.start,
        end=span.end,
        failed=span.failed,
        moved=moved,
        metered=_metered(span),
        own=own,
    )


def _name(attributes: Mapping[str, Any], names: Sequence[str]) -> str | None:
    name = first(attributes, names)
    return name if isinstance(name, str) else None


def _kind(attributes: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """What a span is of if it is no request to a model. A kind nobody knows is one where the caller put a decision."""
    kind = first(attributes, _KIND)
    if not isinstance(kind, str) or kind.lower() in _REQUESTS:
        return None
    known = any(word in kind.lower() for word in _NEVER)
    return kind[:40] if known or not own else None


def _metered(span: Span) -> dict[str, Any]:
    attributes = span.attributes
    counts = [_tokens(attributes, names, short) for names, short in ((_INPUT, "prompt"), (_OUTPUT, "completion"))]
    latency = number(attributes.get("gen_ai.latency.e2e"))
    if latency is None and span.start is not None and span.end is not None and span.end >= span.start:
        latency = span.end - span.start
    return {
        "tokens": number(first(attributes, _TOTAL)) if None in counts else known_sum(counts),
        "latency_s": latency,
        "ttft_s": number(first(attributes, _FIRST_TOKEN)),
        "cost_usd": number(first(attributes, _COST)),
    }


def _tokens(attributes: Mapping[str, Any], names: Sequence[str], short: str) -> float | None:
    spelt = [f"{prefix}.usage.{name}" for prefix in ("gen_ai", "llm") for name in names]
    return number(first(attributes, (*spelt, f"llm.token_count.{short}")))


def _own(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return known_of({name: attributes.get(f"{_OWN}{name}") for name in FIELDS})
