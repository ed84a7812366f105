"""Results documents as Markdown tables, best policy first: `... --json | python -m benchmarks.markdown [FILE]`.

Reads one document, or {"tables": [...]}, from standard input. With FILE, replaces what stands between the lines
`<!-- results -->` and `<!-- /results -->` there; otherwise prints.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

COLUMNS = ("", "utility", "95 % interval", "regret to best fixed", "quality", "US dollars a request")


def table(document: dict[str, Any]) -> str:
    """One Markdown table: references and policies by utility."""
    references = document["references"]
    best = references["best_fixed"]
    rows = [
        (references["oracle"]["utility_mean"], "*oracle per request*", "", "", "", ""),
        (best["utility_mean"], f"*best fixed arm: {best['arm']}*", "", "", "", ""),
        *(_row(policy) for policy in document["policies"]),
    ]
    rows.sort(key=lambda row: -row[0])
    lines = [[name, f"{utility:.4f}", *rest] for utility, name, *rest in rows]
    ruler = ["---", *["---:"] * (len(COLUMNS) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (COLUMNS, ruler, *lines))


def _row(policy: dict[str, Any]) -> tuple[float, str, str, str, str, str]:
    regret = policy["regret"]["best_fixed"]["mean"]
    cost = policy["cost_usd_mean"]
    return (
        policy["utility_mean"]["mean"],
        policy["policy"] + (" (default)" if policy["default"] else ""),
        _interval(policy["utility_mean"]["ci95"]),
        f"{regret:.1f}",
        f"{policy['quality_mean']:.4f}",
        "" if cost is None else f"{cost:.6f}",
    )


def _interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def section(document: dict[str, Any]) -> str:
    """A table under its heading."""
    prices = ", ".join(f"{name} {value}" for name, value in document["environment"]["prices"].items()) or "none"
    facts = (
        f"{document['horizon']:,} requests, {document['seeds']} seeds, {len(document['arms'])} arms; prices: {prices}."
    )
    return f"## {document['scenario']}\n\n{facts}\n\n{table(document)}"


def replace(path: Path, text: str) -> None:
    """Write `text` between the marks of a document."""
    marks = r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)"
    page, found = re.subn(marks, lambda _: f"\n{text}\n\n", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{path} must have one <!-- results --> ... <!-- /results -->, has {found}")
    path.write_text(page, encoding="utf-8")


def main() -> None:
    """Print, or write into the file that is named."""
    results = json.load(sys.stdin)
    text = "\n\n".join(map(section, results["tables"])) if "tables" in results else table(results)
    if len(sys.argv) < 2:
        print(text)
    else:
        replace(Path(sys.argv[1]), text)


if __name__ == "__main__":
    main()
