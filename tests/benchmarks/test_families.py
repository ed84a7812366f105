"""The families cover the registry, and the page and pictures come from the rows alone."""

from pathlib import Path

import pytest

from bandit_router.policies import POLICIES
from benchmarks import families
from benchmarks.markdown import replace

DOCS = Path(__file__).parents[2] / "docs"


def row(utility, regret, oracle, steps=20):
    """A measured row, as `families.regret` returns it."""
    interval = {"mean": utility, "ci95": [utility - 0.01, utility + 0.01]}
    regrets = {"mean": regret, "ci95": [regret - 2, regret + 2]}
    curve = [regret * i / steps for i in range(steps)]
    return {
        "utility_mean": interval,
        "regret": {"best_fixed": regrets, "oracle": {"mean": oracle}},
        "curves": [curve, [v - 1 for v in curve], [v + 1 for v in curve]],
    }


@pytest.fixture
def known():
    """Made-up rows: uniform play loses 100 to the oracle, everything else 50, LinTS 10; BetaThompson cannot run."""
    rows = {}
    for name in families.CONFIGS:
        lost = {"UniformRandom": 100.0, "LinTS": 10.0}.get(name, 50.0)
        for preset in families.PRESETS:
            rows[preset, name] = row(0.9, lost - 20, lost)
        rows["cost", name] = {"microseconds": [1.2, 3.4, 5.6]}
    rows["adapters/zipf", "BetaThompson"] = {"refused": "quality"}
    return rows


def test_every_policy_has_a_family_with_page_and_picture():
    """Every registered policy belongs to a family that has a page and a picture."""
    placed = {name for members in families.FAMILIES.values() for name in members} | set(families.BASELINES)
    assert set(POLICIES) <= placed
    for family in families.FAMILIES:
        page = (DOCS / "explanation" / "policies" / f"{family}.md").read_text()
        assert f"figures/family-{family}.png" in page
        assert all(name in page for name in families.FAMILIES[family] if name in POLICIES)


def test_the_table_is_sorted_and_leaves_gaps(known):
    """The table is sorted by the share of random regret and leaves gaps where a policy cannot run."""
    lines = families.table(known, list(families.CONFIGS)).splitlines()
    assert lines[2].startswith("| LinTS | [linear](../explanation/policies/linear.md) | 0.900 ± 0.010 | -10 ± 2 |")
    assert lines[2].endswith("| 0.10 | 1 | 3 | 6 |")
    assert lines[-1].startswith("| BetaThompson ")
    assert "| refused |  |" in lines[-1]
    assert len(lines) == 2 + len(families.CONFIGS)


def test_a_picture_leaves_out_what_could_not_run(known, tmp_path):
    families.picture("context-free", known, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_rows_that_are_in_the_file_are_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "PRESETS", {"models/llm": (2, 20)})
    path = tmp_path / "rows.jsonl"
    first = families.rows(path, ["Fixed"])
    assert first["models/llm", "Fixed"]["utility_mean"]["mean"] > 0.5
    monkeypatch.setattr(families, "regret", None)
    monkeypatch.setattr(families, "cost", None)
    assert families.rows(path, ["Fixed"]).keys() == first.keys()


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results -->\nold\n<!-- /results -->\nb\n")
    replace(page, "new")
    assert page.read_text() == "a\n<!-- results -->\n\nnew\n\n<!-- /results -->\nb\n"
