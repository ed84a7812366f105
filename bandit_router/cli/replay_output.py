"""What `bandit-router replay` prints and writes, and the exit code of its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bandit_router.cli.common import GATE, fail, writing


def show(document: dict[str, Any]) -> None:
    """Every metric with its estimates and intervals, the diagnostics, and a gate that was met."""
    level = f"{1 - document['alpha']:.0%}"
    typer.echo(f"{document['policy']} ({document['learning']}) against {document['baseline']}, intervals at {level}")
    seen: list[tuple[str, Any]] = []
    for name, metric in document["metrics"].items():
        found = metric, document["differences"][name]
        same = [other for other, shown in seen if shown == found]
        if same:
            typer.echo(f"\n{name}: as {same[0]}")
            continue
        seen.append((name, found))
        _show_metric(name, *found)
    facts = document["diagnostics"]
    typer.echo(f"\n{facts['rows']} rows, effective {facts['ess']:.0f}, weights' mean {facts['weight_mean']:.4f}")
    for note in (*document.get("assumptions", ()), *facts["warnings"]):
        typer.echo(f"note: {note}")
    if document["gate"] is not None and document["gate"]["passed"]:
        typer.echo(f"gate met: {document['gate']['condition']}, bound {document['gate']['bound']:.4g}")


def _show_metric(name: str, metric: dict[str, Any], difference: tuple[float, float] | None) -> None:
    typer.echo(f"\n{name}: logged {metric['logged']:.4g} in {metric['n']} rows")
    for key, value in metric["estimates"].items():
        typer.echo(f"  {key:<18}{value['value']:>10.4g}   normal   {_range(value['intervals']['normal'])}")
    for method, interval in list(metric["anytime"].items())[:1]:
        typer.echo(f"  {'value':<28}   anytime  {_range(interval)}   ({method.replace('_', ' ')}, {metric['scores']})")
    shown = _why_none(name, metric) if difference is None else _range(difference)
    typer.echo(f"  {'difference':<28}   anytime  {shown}")


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4g} .. {interval[1]:.4g}"


def _why_none(name: str, metric: dict[str, Any]) -> str:
    """Why a metric has no anytime-valid interval, and the way out."""
    if metric["bounds"] is None:
        return f"none without a range; declare it with --bound {name}=LOW:HIGH"
    return "none for rows that stand for several decisions each, in unequal numbers (pdrop); the normal one above holds"


def save(document: dict[str, Any], folder: Path) -> None:
    """replay.json, and replay.html where the document holds what it draws."""
    import msgspec

    pages = {"replay.json": msgspec.json.format(msgspec.json.encode(document), indent=1)}
    if "slices" in document:
        from bandit_router.replay.report import html_report

        pages["replay.html"] = html_report(document).encode()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pages.items():
            (folder / name).write_bytes(content)
            typer.echo(f"wrote {folder / name}", err=True)


def leave(document: dict[str, Any]) -> None:
    """Exit 3 where the log could not answer or the gate is not met."""
    if not document["answered"]:
        fail("the log cannot answer: " + "; ".join(document["refusals"]), GATE)
    gate = document["gate"]
    if gate is not None and not gate["passed"]:
        why = _without_bound(document) if gate["bound"] is None else f"bound {gate['bound']:.4g}"
        fail(f"gate not met: {gate['condition']}, {why}", GATE)


def _without_bound(document: dict[str, Any]) -> str:
    """Why there is no interval that the gate could look at, and the way out."""
    from bandit_router.replay.compare import parse_gate

    name = parse_gate(document["gate"]["condition"]).metric
    metric = document["metrics"].get(name)
    if metric is None:
        return f"there is no value of {name}; there are {', '.join(document['metrics'])}"
    if metric["bounds"] is None:
        return f"there is no interval without a range; declare it with --bound {name}=LOW:HIGH"
    return "there is no anytime-valid interval for rows that stand for several decisions"
