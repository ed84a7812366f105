"""What `bandit-router replay` prints and writes, and the exit code of its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bandit_router.cli.common import GATE, fail, writing


def show(document: dict[str, Any]) -> None:
    """One policy in full, or several as a table."""
    if "policies" in document:
        show_several(document)
    else:
        _show_one(document)
    gate = document["gate"]
    if gate is not None and gate["passed"]:
        bound = "" if gate["bound"] is None else f", bound {gate['bound']:.4g}"
        typer.echo(f"gate met: {gate['condition']}{bound}")


def show_several(document: dict[str, Any]) -> None:
    """Every policy's utility beside the logging policy and the baseline, and the difference of every two."""
    from bandit_router.cli.tables import print_table

    level, kind = f"{1 - document['alpha']:.0%}", document["interval"]
    rows = [
        (
            row["policy"],
            "-" if row["value"] is None else f"{row['value']:.4f}",
            *(_ends(row[name]) for name in ("interval", "difference")),
            f"{row['ess']:.0f}",
        )
        for row in document["table"]
    ]
    print_table(
        f"utility in {document['log']['rows']} rows, {level} {kind} intervals",
        ("policy", "value", "interval", f"minus\n{document['baseline']}", "effective\nrows"),
        rows,
        caption="each interval by itself; to choose the best of several, divide --alpha by their number",
    )
    for pair in document["pairs"]:
        typer.echo(f"{pair['policy']} minus {pair['than']}: {_range(pair['difference'])}")
    notes = [*document["assumptions"]]
    notes += [note for one in document["policies"] for note in one["diagnostics"]["warnings"]]
    for note in dict.fromkeys(notes):
        typer.echo(f"note: {note}")


def _ends(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} .. {interval[1]:.4f}"


def _show_one(document: dict[str, Any]) -> None:
    """Every metric with its estimates and intervals, the slices, and the diagnostics."""
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
        _show_metric(name, *found, kind=document["interval"])
    for name, parts in document["slices"].items():
        _show_slice(name, parts)
    facts = document["diagnostics"]
    typer.echo(f"\n{facts['rows']} rows, effective {facts['ess']:.0f}, weights' mean {facts['weight_mean']:.4f}")
    for note in (*document["assumptions"], *facts["warnings"]):
        typer.echo(f"note: {note}")


def _show_slice(name: str, parts: list[dict[str, Any]]) -> None:
    from bandit_router.cli.tables import print_table

    rows = [
        (
            str(part["value"]),
            str(part["rows"]),
            f"{part['ess']:.0f}",
            *(f"{part[key]:.4f}" if key in part else "-" for key in ("logged", "dr")),
            *(_ends(part.get(key)) for key in ("normal", "anytime")),
        )
        for part in parts
    ]
    heads = (name, "rows", "effective", "logged", "doubly\nrobust", "normal", "anytime")
    print_table(f"utility by {name}", heads, rows)


def _show_metric(name: str, metric: dict[str, Any], difference: tuple[float, float] | None, *, kind: str) -> None:
    typer.echo(f"\n{name}: logged {metric['logged']:.4g} in {metric['n']} rows")
    for key, value in metric["estimates"].items():
        typer.echo(f"  {key:<18}{value['value']:>10.4g}   normal   {_range(value['intervals']['normal'])}")
    for method, interval in list(metric["anytime"].items())[:1]:
        typer.echo(f"  {'value':<28}   anytime  {_range(interval)}   ({method.replace('_', ' ')}, {metric['scores']})")
    word = "anytime" if kind == "anytime" else "normal "
    shown = _why_none(name, metric) if difference is None else _range(difference)
    typer.echo(f"  {'difference':<28}   {word}  {shown}")


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4g} .. {interval[1]:.4g}"


def _why_none(name: str, metric: dict[str, Any]) -> str:
    """Why a metric has no anytime-valid interval, and the way out."""
    if metric["bounds"] is None:
        return f"none without a range; declare it with --bound {name}=LOW:HIGH"
    return "none for rows that stand for several decisions each, in unequal numbers (pdrop); the normal one above holds"


def save(document: dict[str, Any], folder: Path) -> None:
    """replay.json and replay.html."""
    import msgspec

    from bandit_router.replay.report import html_report

    pages = {"replay.json": msgspec.json.format(msgspec.json.encode(document), indent=1)}
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
    if "policies" in document and gate is not None and not gate["passed"]:
        short = [row["policy"] for row in document["table"] if row["gate"] is False]
        fail(f"gate not met: {gate['condition']}, by {', '.join(short)}", GATE)
    if gate is not None and not gate["passed"]:
        why = _without_bound(document) if gate["bound"] is None else f"bound {gate['bound']:.4g}"
        fail(f"gate not met: {gate['condition']}, {why}", GATE)


def _without_bound(document: dict[str, Any]) -> str:
    """Why there is no interval that the gate could look at, and the way out."""
    from bandit_router.replay.gate import parse_gate

    name = parse_gate(document["gate"]["condition"]).metric
    metric = document["metrics"].get(name)
    if metric is None:
        return f"there is no value of {name}; there are {', '.join(document['metrics'])}"
    if metric["bounds"] is None:
        return f"there is no interval without a range; declare it with --bound {name}=LOW:HIGH"
    return "there is no anytime-valid interval for rows that stand for several decisions"
