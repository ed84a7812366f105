"""`replay --stream`: it refuses what the replay in memory refuses, and sums of something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_ope_diagnostics import uniform_log
from test_replay_cli import run
from typer.testing import Result

from bandit_router.simulators.logs import write_log


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    write_log(uniform_log(), path)
    return path


def stream(*arguments: object, policy: str = "arm=d") -> Result:
    return run("replay", *arguments, "--policy", policy, "--stream")


# -- the utility -----------------------------------------------------------------------------------------------------


def test_a_price_on_a_channel_that_was_never_metered_leaves_no_utility_to_stream(log_file: Path) -> None:
    for more in ((), ("--stream",)):
        result = run(
            "replay", log_file, "--policy", "arm=d", "--price", "energy_j=1", "--gate", "utility > 0.5", "--json", *more
        )
        assert result.exit_code == 3
        assert json.loads(result.stdout)["metrics"] == {}
        assert "no row has energy_j, which the utility prices" in result.stderr


def test_a_log_without_a_column_for_a_priced_channel_cannot_answer_either(tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "log.parquet"
    pl.DataFrame({"arm": ["a", "b"] * 50, "propensity": [0.5] * 100, "quality": [1.0] * 100}).write_parquet(path)
    assert stream(path, "--price", "energy_j=1", policy="arm=a").exit_code == 3
