"""Which tool wrote a file of results, and what its columns mean; every format is recognised by its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bandit_router.errors import InvalidInput
from bandit_router.simulators.evaluations import harnesses
from bandit_router.simulators.evaluations.columns import ARM, FIELDS, numeric
from bandit_router.simulators.evaluations.files import Source

Columns = dict[str, str]


def _as_they_are(source: Source) -> list[dict[str, Any]]:
    return source.records


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        fits: whether a file is of this kind. rows: its records with the names of `FIELDS` where they are known.
        columns: which column holds which field, of the rows' names.
    """

    fits: Callable[[Source], bool]
    rows: Callable[[Source], list[dict[str, Any]]] = _as_they_are
    columns: Callable[[Source], Columns] = lambda source: own_names(source)


def own_names(source: Source) -> Columns:
    """The fields that have a column of their own name."""
    found = {field: field for field in FIELDS if field in source.columns}
    if "query" not in found and "query_id" in source.columns:
        found["query"] = "query_id"
    return found


def _has(*names: str) -> Callable[[Source], bool]:
    return lambda source: all(name in source.columns for name in names)


def _routerbench(source: Source) -> Columns:
    return {
        "query": "sample_id",
        "task": "eval_name",
        "prompt": "prompt",
        "quality": ARM,
        "cost_usd": f"{ARM}|total_cost",
    }


def _embedllm(source: Source) -> Columns:
    model = "model_name" if "model_name" in source.columns else "model_id"
    found = {"query": "prompt_id", "arm": model, "quality": "label", "task": "category", "prompt": "prompt"}
    return {field: column for field, column in found.items() if column in source.columns}


def _all_scores(source: Source) -> bool:
    """Prompts, and beside them nothing but scores."""
    rest = [name for name in source.columns if name != "prompt"]
    return "prompt" in source.columns and len(rest) > 1 and all(numeric(source, name) for name in rest)


FORMATS: dict[str, Format] = {
    "inspect": Format(harnesses.is_inspect, harnesses.inspect),
    "promptfoo": Format(harnesses.is_promptfoo, harnesses.promptfoo),
    "lm-eval": Format(_has("doc_id", "filtered_resps"), harnesses.lm_eval),
    "helm": Format(_has("instance_id", "train_trial_index", "stats"), harnesses.helm),
    "routerbench": Format(
        lambda s: _has("sample_id", "eval_name", "prompt")(s) and any(n.endswith("|total_cost") for n in s.columns),
        columns=_routerbench,
    ),
    "embedllm": Format(
        lambda s: _has("prompt_id", "label")(s) and bool({"model_name", "model_id"} & {*s.columns}), columns=_embedllm
    ),
    "routellm": Format(
        lambda s: _all_scores(s) and not own_names(s).keys() - {"prompt"},
        columns=lambda s: {"prompt": "prompt", "quality": ARM},
    ),
    "columns": Format(lambda source: True),
}


def recognised(source: Source, name: str | None) -> tuple[str, Source, Columns]:
    """The format, the file in its terms, and its columns; `name` says the format instead of the content.

    Raises:
        InvalidInput: the file is not of that format.
    """
    if not source.records:
        raise InvalidInput(f"{source.path} holds no row")
    found = name or next(kind for kind, form in FORMATS.items() if form.fits(source))
    form = FORMATS[found]
    if not form.fits(source):
        raise InvalidInput(f"{source.path} is no file of {found}; found {', '.join(source.columns[:20])}")
    told = replace(source, records=form.rows(source), lines=source.lines if form.rows is _as_they_are else ())
    return found, told, form.columns(told)
