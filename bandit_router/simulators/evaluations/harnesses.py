"""Results of evaluation harnesses as rows with the names of an outcome table.

Scores keep their own names beside those; where there is one score it is the quality, otherwise it has to be chosen.
Repeated samples of one query (epochs, trials) are averaged.

Sources: lm_eval 0.4.13 (`evaluator.py`), inspect-ai 0.3.285 (`log/_log.py`), promptfoo 0.12x (`EvaluateResult`); for
HELM the names of files and fields in a run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import COSTS
from bandit_router.simulators.evaluations.files import Record, Source

_INSPECT = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_HELM = {
    "latency_s": "inference_runtime",
    "input_tokens": "num_prompt_tokens",
    "output_tokens": "num_completion_tokens",
}
_FACTS = ("num_", "max_", "inference_", "training_", "batch_size", "finish_reason_", "logprob", "prompt_truncated")


def lm_eval(source: Source) -> list[Record]:
    """Samples of lm-evaluation-harness (`--log_samples`): the folder is the model, the file names the task."""
    arm = source.path.resolve().parent.name
    task = source.path.stem.removeprefix("samples_").rsplit("_", 1)[0]
    filters = {str(record.get("filter", "none")) for record in source.records}
    rows: dict[Any, Record] = {}
    for record in source.records:
        query = f"{task}/{record['doc_id']}"
        row = rows.setdefault(query, {"query": query, "arm": arm, "task": task, "prompt": _argument(record)})
        metrics = record.get("metrics") or [name for name, value in record.items() if _is_number(value)]
        for name in metrics:
            if name != "doc_id":
                row[name if len(filters) == 1 else f"{name}@{record.get('filter')}"] = record.get(name)
    return _with_quality(rows.values())


def _argument(record: Record) -> str | None:
    found: Any = record.get("arguments")
    for _ in range(2):  # the first request's first argument, as objects or lists
        if isinstance(found, Mapping):
            found = next(iter(found.values()), None)
        elif isinstance(found, list):
            found = found[0] if found else None
    return found if isinstance(found, str) else None


def is_inspect(source: Source) -> bool:
    """Whether it is a log of Inspect."""
    document = source.document or {}
    return isinstance(document.get("eval"), dict) and isinstance(document.get("samples"), list)


def inspect(source: Source) -> list[Record]:
    """A log of Inspect as JSON. Failed samples are holes; the time is the working time, without waiting for slots."""
    document = source.document or {}
    task, arm = document["eval"].get("task"), document["eval"].get("model")
    rows = []
    for sample in document["samples"]:
        row = {"query": f"{task}/{sample.get('id')}", "arm": arm, "task": task, "prompt": _input(sample.get("input"))}
        usage = (sample.get("model_usage") or {}).get(arm) or {}
        if usage:
            kinds = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")
            row["input_tokens"] = sum(usage.get(kind) or 0 for kind in kinds)
            row["output_tokens"] = usage.get("output_tokens")
            row["cost_usd"] = usage.get("total_cost")
        row["latency_s"] = sample.get("working_time")
        failed = sample.get("error") is not None
        for name, score in (sample.get("scores") or {}).items():
            value = None if failed else score.get("value")
            parts = {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
            row |= {part: _INSPECT.get(v, v) if isinstance(v, str) else v for part, v in parts.items()}
        rows.append(row)
    return _with_quality(_averaged(rows))


def _input(value: Any) -> str | None:
    if isinstance(value, list):
        asked = [message.get("content") for message in value if message.get("role") == "user"]
        value = asked[-1] if asked else None
    if isinstance(value, list):
        value = "\n".join(
            part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return value if isinstance(value, str) else None


def is_promptfoo(source: Source) -> bool:
    """Whether it is promptfoo's JSON or JSON Lines."""
    return all({"testIdx", "promptIdx", "provider"} <= {*result} for result in _results(source)) and bool(
        _results(source)
    )


def _results(source: Source) -> list[dict[str, Any]]:
    found: Any = source.document
    while isinstance(found, dict) and "results" in found:
        found = found["results"]
    return found if isinstance(found, list) else source.records


def promptfoo(source: Source) -> list[Record]:
    """Results of promptfoo: a provider is an arm, with its prompt's label where there are several. Errors are holes."""
    results = _results(source)
    several = len({result["promptIdx"] for result in results}) > len({_provider(result) for result in results})
    rows = []
    for result in results:
        prompt, response = result.get("prompt") or {}, result.get("response") or {}
        label = f" / {prompt.get('label') or result['promptIdx']}" if several else ""
        usage, cached = response.get("tokenUsage") or {}, bool(response.get("cached"))
        failed = result.get("failureReason") == 2
        rows.append(
            {
                "query": result["testIdx"],
                "arm": _provider(result) + label,
                "prompt": None if several else prompt.get("raw"),
                "quality": None if failed else result.get("score"),
                "success": None if failed else result.get("success"),
                "cost_usd": response["cost"] if response.get("cost") is not None else result.get("cost") or None,
                "latency_s": None if cached or result.get("latencyMs") is None else result["latencyMs"] / 1000,
                "input_tokens": usage.get("prompt"),
                "output_tokens": usage.get("completion"),
                **{f"namedScores.{k}": None if failed else v for k, v in (result.get("namedScores") or {}).items()},
            }
        )
    return rows


def _provider(result: Mapping[str, Any]) -> str:
    provider = result["provider"]
    return str(provider.get("label") or provider.get("id")) if isinstance(provider, dict) else str(provider)


def helm(source: Source) -> list[Record]:
    """HELM's per_instance_stats.json or display_predictions.json; model and prompts stand in files beside it."""
    spec, instances = _beside(source, "run_spec.json"), _beside(source, "instances.json")
    if not isinstance(spec, dict):
        raise InvalidInput(f"{source.path}: the model stands in run_spec.json, which must lie in the same folder")
    arm = spec.get("adapter_spec", {}).get("model")
    scenario, _, settings = str(spec.get("name")).partition(":")
    rest = ",".join(part for part in settings.split(",") if part and not part.startswith("model="))
    task = scenario + (f":{rest}" if rest else "")
    prompts = {i.get("id"): (i.get("input") or {}).get("text") for i in instances or ()}
    rows = []
    for record in source.records:
        if record.get("perturbation"):
            continue
        stats = record["stats"]
        if isinstance(stats, list):
            stats = {stat["name"]["name"]: stat.get("mean") for stat in stats if not stat["name"].get("perturbation")}
        facts = {field: stats.get(name) for field, name in _HELM.items()}
        scores = {name: value for name, value in stats.items() if not name.startswith(_FACTS)}
        rows.append(
            {
                "query": f"{task}/{record['instance_id']}",
                "arm": arm,
                "task": task,
                "prompt": prompts.get(record["instance_id"]),
                **facts,
                **scores,
            }
        )
    return _with_quality(_averaged(rows))


def _beside(source: Source, name: str) -> Any:
    path = Path(source.path).parent / name
    try:
        return msgspec.json.decode(path.read_bytes()) if path.exists() else None
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{path} is no JSON: {error}") from None


_FIELDS = ("query", "arm", "task", "prompt", *COSTS, "input_tokens", "output_tokens")


def _with_quality(rows: Iterable[Record]) -> list[Record]:
    """The rows, with the quality where there is a single score."""
    rows = list(rows)
    scores = {name for row in rows for name in row if name not in _FIELDS}
    if len(scores) == 1:
        (only,) = scores
        rows = [row | {"quality": row.get(only)} for row in rows]
    return rows


def _averaged(rows: Iterable[Record]) -> list[Record]:
    """One row for each query: numbers averaged over its repetitions that have them."""
    groups: dict[Any, list[Record]] = {}
    for row in rows:
        groups.setdefault((row["query"], row["arm"]), []).append(row)
    merged = []
    for group in groups.values():
        row = dict(group[0])
        for name in dict.fromkeys(name for one in group for name in one):
            values = [one[name] for one in group if _is_number(one.get(name))]
            if len(group) > 1 and values:
                row[name] = sum(values) / len(values)
        merged.append(row)
    return merged


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)
