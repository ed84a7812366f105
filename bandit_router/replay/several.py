"""Several policies on one log: a table with the logging policy and the baseline, and every pair's difference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from bandit_router.replay.compare import LOGGING, Target, compare
from bandit_router.replay.gate import best_estimate, value_interval
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.paired import differences


def compare_several(
    log: LoggedEvents, targets: Sequence[Target], *, baseline: Target | None = None, **options: Any
) -> dict[str, Any]:
    """The document of several targets on one log.

    Args:
        targets: two or more, of different names. baseline, options: see `compare`.

    Returns:
        `policies`, the document of each; `table`, one row each in utility after those of the logging policy and the
        baseline, with value, interval and the paired difference to the baseline; `pairs`, the paired difference of
        every two of them; and `answered`, `refusals`, `gate` of all together. Every interval holds at `alpha` by
        itself: to choose the best of m by them, ask for alpha / m.

    Raises:
        InvalidInput: see `compare`.
    """
    documents = [compare(log, target, baseline=baseline, **options) for target in targets]
    rows = [_row(document) for document in documents]
    first = next((document for document in documents if document["answered"]), documents[0])
    gates = [document["gate"] for document in documents if document["gate"] is not None]
    return {
        **{key: first[key] for key in ("baseline", "log", "alpha", "interval", "utility")},
        "assumptions": list(dict.fromkeys(note for document in documents for note in document["assumptions"])),
        "table": [*_references(log, first, baseline, options), *rows],
        "pairs": _pairs(log, targets, documents, options),
        "policies": documents,
        "answered": all(document["answered"] for document in documents),
        "refusals": [f"{d['policy']}: {reason}" for d in documents for reason in d["refusals"]],
        "gate": {**gates[0], "bound": None, "passed": all(gate["passed"] for gate in gates)} if gates else None,
    }


def _row(document: dict[str, Any]) -> dict[str, Any]:
    """A target in utility; without numbers where the log cannot answer."""
    row = {"policy": document["policy"], "rows": document["diagnostics"]["rows"], "ess": document["diagnostics"]["ess"]}
    metric = document["metrics"].get("utility")
    if metric is None:
        return {**row, "value": None, "interval": None, "difference": None, "gate": _passed(document)}
    return {
        **row,
        "value": best_estimate(metric)["value"],
        "interval": value_interval(metric, document["interval"]),
        "difference": document["differences"]["utility"],
        "gate": _passed(document),
    }


def _passed(document: dict[str, Any]) -> bool | None:
    return None if document["gate"] is None else document["gate"]["passed"]


def _references(
    log: LoggedEvents, document: dict[str, Any], baseline: Target | None, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of the logging policy, and of a baseline beside it."""
    metric = document["metrics"].get("utility")
    if metric is None:
        return []
    fixed = document["interval"] == "fixed"
    logged = {
        "policy": LOGGING,
        "rows": document["diagnostics"]["rows"],
        "ess": float(metric["n"]),
        "value": metric["logged"],
        "interval": metric["logged_interval" if fixed else "logged_anytime"],
        "difference": None,
        "gate": None,
    }
    if baseline is None:
        return [logged]
    return [logged, _row(compare(log, baseline, **{**options, "gate": None, "slices": ()}))]


def _pairs(
    log: LoggedEvents, targets: Sequence[Target], documents: Sequence[dict[str, Any]], options: dict[str, Any]
) -> list[dict[str, Any]]:
    names = ("utility", "bounds", "alpha", "modes", "interval")
    chosen = {name: options[name] for name in names if name in options}
    answered = [target for target, document in zip(targets, documents, strict=True) if document["metrics"]]
    return [
        {
            "policy": one.name,
            "than": other.name,
            "difference": differences(log, one.table, other.table, **chosen).get("utility"),
        }
        for one, other in itertools.combinations(answered, 2)
    ]
