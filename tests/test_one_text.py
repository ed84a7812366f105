"""One text: a file is served from SQLite, simulated, replayed from its store, its state exported and valued."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli import app
from bandit_router.records.outcomes import Utility
from bandit_router.replay.compare import make_target
from bandit_router.replay.logs import Intake, read_logs
from bandit_router.simulators.table import load_table

EXAMPLES = Path(__file__).parent.parent / "examples"
URL, PRICES = "sqlite:///events.db", ["--price", "cost_usd=0.2", "--scale", "cost_usd=0.0145"]
UTILITY = Utility(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.0145})


def command(*words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where 2,000 requests were served."""
    folder = tmp_path_factory.mktemp("served")
    subprocess.run([sys.executable, "-P", EXAMPLES / "serve.py"], check=True, cwd=folder, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def truth(policy: str) -> float:
    """What the policy's probabilities along the log come to on every arm's known outcome."""
    log = read_logs([URL], Intake())
    table, chance = load_table("models_llm"), random.Random(0)
    rows = []
    for _ in range(len(log)):  # as serve.py draws its requests
        rows.append(chance.randrange(len(table.tasks)))
        chance.random()
    assert log.arms == table.arms
    value = table.outcomes[rows] @ UTILITY.weights(table.channels)
    return float((make_target(policy, log, utility=UTILITY).table * value).sum(axis=1).mean())


def assert_covered(document: Any, value: float) -> None:
    estimates = document["metrics"]["utility"]["estimates"]
    low, high = estimates["dr"]["intervals"]["normal"]
    assert low <= value <= high
    assert high - low < 0.05  # it says something


def test_the_file_is_simulated() -> None:
    row = command("simulate", str(EXAMPLES / "scenario.toml"))["policies"][0]
    assert row["policy"] == "LinUCB"
    assert abs(row["router"]["counted"]["late"] - 400) < 4 * np.sqrt(2000 * 0.16 / 3)
    assert row["router"]["counted"]["settled"] == 2000
    assert min(row["arm_share"].values()) > 0.05  # the floors


def test_its_store_is_replayed_with_another_policy() -> None:
    assert_covered(command("replay", URL, "--policy", "LinTS", *PRICES), truth("LinTS"))


def test_its_file_is_valued_on_its_store() -> None:
    document = command("replay", URL, "--router", str(EXAMPLES / "router.toml"))
    logged = document["metrics"]["utility"]["logged"]
    low, high = document["metrics"]["utility"]["estimates"]["dr"]["intervals"]["normal"]
    assert low - 0.01 < logged < high + 0.01  # it is what was served, learned from fewer rows


def test_its_state_is_exported_and_valued() -> None:
    command("state", "export", URL, "state.safetensors")
    assert_covered(command("replay", URL, "--policy", "state.safetensors", *PRICES), truth("state.safetensors"))
