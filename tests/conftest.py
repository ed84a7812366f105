"""Tiny outcome tables for the tests that read one."""

import sys
from pathlib import Path

import polars as pl
import pytest

# Tests share code with benchmarks; last on the path, so that the installed package is what is tested.
sys.path.append(str(Path(__file__).parent.parent))

VW = sys.version_info < (3, 13)  # the last Python that Vowpal Wabbit has a wheel for
NEEDS_VW = ("[VW", "-VW", "policies.vw", "test_vw_itself")
collect_ignore = [] if VW else ["policies/test_vw.py"]


def pytest_collection_modifyitems(config, items):
    """Vowpal Wabbit's policies are left out where it has no wheel.

    Slow tests run without the tracer, which would make them several times slower; the others are the measure.
    """
    if not VW:
        foreign = [item for item in items if any(part in item.name for part in NEEDS_VW)]
        config.hook.pytest_deselected(items=foreign)
        items[:] = [item for item in items if item not in foreign]
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker("no_cover")


@pytest.fixture
def write_table(tmp_path):
    """A function that writes an outcome table and returns its folder.

    By default three queries and two arms; quality and cost are small enough to add up by hand.
    """

    def write(name="tiny", queries=None, outcomes=None, features=None):
        folder = tmp_path / name
        folder.mkdir()
        queries = {"query_id": [0, 1, 2], "task": ["code", "chat", None]} if queries is None else queries
        pl.DataFrame(queries).write_parquet(folder / "queries.parquet")
        pl.DataFrame(CELLS if outcomes is None else outcomes).write_parquet(folder / "outcomes.parquet")
        if features is not None:
            pl.DataFrame(features).write_parquet(folder / "features.parquet")
        return folder

    return write


CELLS = {
    "query_id": [0, 0, 1, 1, 2, 2],
    "arm": ["small", "large"] * 3,
    "quality": [0.25, 1.0, 0.5, 0.75, 0.5, 0.0],
    "cost_usd": [1.0, 4.0, 1.0, 4.0, 1.0, 4.0],
}


@pytest.fixture
def cells():
    """A copy of the default cells, for a test to spoil."""
    return {name: list(values) for name, values in CELLS.items()}
