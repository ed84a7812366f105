"""A replay as one standalone HTML page: static SVG, no scripts, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}
.no{background:#fdecea;padding:.6rem 1rem}.yes{background:#e8f5e9;padding:.6rem 1rem}
.warn{background:#fff8e1;padding:.6rem 1rem}.note{color:#555}svg text{font-size:12px}
"""
_WIDTH, _LEFT, _ROW = 760, 190, 24


def html_report(document: Mapping[str, Any]) -> str:
    """The page for a document of `compare`, `compare_several` or a stream; well under 500 KB for any log."""
    parts = document.get("policies", [document])
    body = _summary(document) if "policies" in document else ""
    body += "".join(_policy(part, document["assumptions"]) for part in parts)
    title = f"Replay of {_text(', '.join(part['policy'] for part in parts))}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _summary(document: Mapping[str, Any]) -> str:
    """Several policies beside the logging policy and the baseline, and the difference of every two."""
    head = ("policy", "utility", "interval", f"minus {document['baseline']}", "ESS")
    rows = [
        [
            *(_text(row["policy"]), _number(row["value"])),
            *(_range(row["interval"]), _range(row["difference"]), _number(row["ess"], 5)),
        ]
        for row in document["table"]
    ]
    pairs = [[_text(f"{p['policy']} minus {p['than']}"), _range(p["difference"])] for p in document["pairs"]]
    gate = _gate(document["gate"]) if document["gate"] else ""
    return (
        f"<h1>{len(document['policies'])} policies on one log</h1>{gate}{_table(head, rows)}"
        f'{_table(("pair", "difference in utility"), pairs)}<p class="note">{_text(document["interval"])} intervals at '
        f"{1 - document['alpha']:.0%}, each by itself.</p>"
    )


def _policy(document: Mapping[str, Any], assumptions: Sequence[str]) -> str:
    """One policy in full."""
    body = [f"<h1>Replay of {_text(document['policy'])} against {_text(document['baseline'])}</h1>", _log(document)]
    if document["gate"]:
        body.append(_gate(document["gate"]))
    if not document["answered"]:
        reasons = "".join(f"<li>{_text(reason)}</li>" for reason in document["refusals"])
        body.append(f'<div class="no"><b>The log cannot answer; no value is given.</b><ul>{reasons}</ul></div>')
    body += [f'<p class="note">Assumes: {_text(note)}.</p>' for note in assumptions]
    body += [_metric(name, metric, document) for name, metric in document["metrics"].items()]
    body += [_diagnostics(document["diagnostics"]), _arms(document["diagnostics"]["arms"])]
    body += [_slice(name, rows) for name, rows in document["slices"].items()]
    return "".join(body)


def _text(value: object) -> str:
    return escape(str(value))


def _number(value: object, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else _text(value)


def _range(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4g} … {interval[1]:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _log(document: Mapping[str, Any]) -> str:
    log = document["log"]
    span = "" if log["span_s"] is None else f" over {log['span_s'] / 3600:.1f} h"
    history = document["own_history"]
    own = "" if history is None else f", {history} of them its own history"
    features = "" if log["features"] is None else f", {log['features']} features"
    digest = "" if log["sha256"] is None else f'<span class="note">sha256 {_text(log["sha256"][:16])}</span>'
    return (
        f"<p>{log['rows']} decisions{span}, {len(log['arms'])} arms{features}. "
        f"Target: {_text(document['learning'])}{own}. Intervals at {1 - document['alpha']:.0%}. "
        f"{digest}</p>"
    )


def _gate(gate: Mapping[str, Any]) -> str:
    state = "yes" if gate["passed"] else "no"
    verdict = "met" if gate["passed"] else "not met"
    return f'<p class="{state}">Gate <b>{_text(gate["condition"])}</b>: {verdict}, bound {_number(gate["bound"])}.</p>'


def _metric(name: str, metric: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    marks = [("logging policy", metric["logged"], metric["logged_interval"])]
    marks += [
        (f"{key} (normal)", value["value"], value["intervals"]["normal"]) for key, value in metric["estimates"].items()
    ]
    marks += [(f"{key.replace('_', ' ')} (anytime)", None, interval) for key, interval in metric["anytime"].items()]
    rows = [
        [_text(key), _number(value["value"]), _number(value["standard_error"], 2), _number(value["ess"], 5)]
        + [_range(value["intervals"].get(method)) for method in ("normal", "bootstrap", "clopper-pearson")]
        for key, value in metric["estimates"].items()
    ]
    head = ("estimator", "value", "s.e.", "ESS", "normal", "bootstrap", "Clopper-Pearson")
    difference = document["differences"].get(name)
    valid = "anytime-valid" if document["interval"] == "anytime" else "fixed-n"
    against = f"Difference to {_text(document['baseline'])}, {valid}: <b>{_range(difference)}</b>."
    missing = "" if metric["anytime"] else " No anytime-valid interval: declare the range of this metric."
    return f"<h2>{_text(name)} ({metric['n']} rows)</h2><p>{against}{missing}</p>{_forest(marks)}{_table(head, rows)}"


def _forest(marks: Sequence[tuple[str, float | None, Sequence[float]]]) -> str:
    """One line per interval, a dot where there is a value."""
    low = min(interval[0] for _, _, interval in marks)
    high = max(interval[1] for _, _, interval in marks)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return _LEFT + (value - low) / span * (_WIDTH - _LEFT - 20)

    height = _ROW * len(marks) + 30
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" aria-label="intervals">']
    for i, (label, value, (start, end)) in enumerate(marks):
        y = _ROW * i + 16
        parts.append(f'<text x="0" y="{y + 4}">{_text(label)}</text>')
        parts.append(
            f'<line x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" stroke="#4878a8" stroke-width="3"/>'
        )
        if value is not None:
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="5" fill="#1a1a1a"/>')
    for value in (low, (low + high) / 2, high):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 6}" text-anchor="middle">{value:.4g}</text>')
    return "".join(parts) + "</svg>"


def _diagnostics(facts: Mapping[str, Any]) -> str:
    names = ("rows", "degraded", "joined", "ess", "ess_share", "weight_mean", "weight_p", "weight_max", "unsupported")
    rows = [[name.replace("_", " "), _number(facts[name])] for name in (*names, "ratio_p", "drift_p")]
    rows += [[f"weight percentile {level}", _number(value)] for level, value in facts["weight_percentiles"].items()]
    warnings = "".join(f'<p class="warn">{_text(warning)}</p>' for warning in facts["warnings"])
    blocks = [value for value in facts["block_reward"] if value is not None]
    drift = f"<p>Mean reward over ten consecutive parts of the log:</p>{_line(blocks)}" if len(blocks) > 1 else ""
    return f"<h2>Diagnostics</h2>{warnings}{_table(('check', 'value'), rows)}{drift}"


def _line(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    span, step = (high - low) or 1.0, (_WIDTH - 80) / (len(values) - 1)
    points = " ".join(f"{60 + i * step:.1f},{90 - (value - low) / span * 70:.1f}" for i, value in enumerate(values))
    return (
        f'<svg viewBox="0 0 {_WIDTH} 110" width="100%" role="img" aria-label="reward over the log">'
        f'<text x="0" y="24">{high:.4g}</text><text x="0" y="94">{low:.4g}</text>'
        f'<polyline points="{points}" fill="none" stroke="#4878a8" stroke-width="2"/></svg>'
    )


def _arms(arms: Sequence[Mapping[str, Any]]) -> str:
    head = ("arm", "plays", "share", "target share", "joined", "mean reward", "calibration", "z")
    keys = ("plays", "share", "target_share", "joined", "mean_reward", "calibration", "calibration_z")
    shown = sorted(arms, key=lambda arm: -arm["target_share"])[:100]
    rows = [[_text(arm["arm"]), *(_number(arm[key]) for key in keys)] for arm in shown]
    more = f"<p>{len(arms) - 100} more arms in the JSON.</p>" if len(arms) > 100 else ""
    return f"<h2>Arms</h2>{_table(head, rows)}{more}"


def _slice(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    head = (name, "rows", "ESS", "logged", "doubly robust", "normal", "anytime")
    lines = [
        [_text(row["value"])]
        + [_number(row.get(key)) for key in ("rows", "ess", "logged", "dr")]
        + [_range(row.get(key)) for key in ("normal", "anytime")]
        for row in rows
    ]
    return f"<h2>By {_text(name)}</h2>{_table(head, lines)}"
