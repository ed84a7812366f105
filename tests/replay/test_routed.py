"""A router's file valued on a log: its policy within its floors, caps, holdout and mode, arms by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli import app
from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import write_log
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.routed import routed_target
from bandit_router.routing.config import RouterConfig
from bandit_router.toml_files import parse_toml

BASE = 'context = 0\narms = [{id = "b"}, {id = "a"}]\n[policy]\nname = "Fixed"\nsettings = {arm = 0}\n'


def config(rollout: str = "", text: str = BASE) -> RouterConfig:
    return parse_toml(f"{text}{rollout}", RouterConfig, name="router.toml")


def log(arms: tuple[str, ...] = ("a", "b"), rows: int = 4, **columns: Any) -> LoggedEvents:
    chosen = np.arange(rows) % len(arms)
    return LoggedEvents.of(arms=arms, arm=chosen, propensity=np.full(rows, 1 / len(arms)), **columns)


# The policy always plays the log's first arm, "a": what is left of it by hand.
@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ("", [1.0, 0.0]),
        ("[rollout]\ncaps = {a = 0.8}\n", [0.8, 0.2]),
        ("[rollout]\nfloors = {b = 0.3}\n", [0.7, 0.3]),
        ('[rollout]\ncaps = {a = 0.8}\nholdout = 0.1\nbaseline = "b"\n', [0.72, 0.28]),
        ('[rollout]\nmode = "off"\nbaseline = "b"\n', [0.0, 1.0]),
        ('[rollout]\nallowed = ["b"]\nbaseline = "a"\n', [0.0, 1.0]),
    ],
)
def test_the_distribution_is_what_the_rollout_lets_through(rollout: str, expected: list[float]) -> None:
    table = routed_target(config(rollout), log()).table
    assert table == pytest.approx(np.tile(expected, (4, 1)))


def test_an_arm_of_the_log_that_the_router_lacks_gets_nothing() -> None:
    table = routed_target(config(), log(("c", "b", "a"))).table  # Fixed plays "c", which is not the router's
    assert table == pytest.approx(np.tile([0.0, 0.5, 0.5], (4, 1)))


def test_a_log_without_an_arm_of_the_router_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no arm 'b', which the router has; it has a, c"):
        routed_target(config(), log(("a", "c")))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, 2000)
    outcomes = np.full((2000, len(CHANNELS)), np.nan)
    outcomes[:, 0] = (rng.random(2000) < np.array([0.3, 0.8])[arm]).astype(float)
    events = LoggedEvents.of(arms=("a", "b"), arm=arm, propensity=np.full(2000, 0.5), outcomes=outcomes)
    write_log(events, tmp_path / "log.jsonl")
    (tmp_path / "router.toml").write_text(
        BASE + '[rollout]\nfloors = {b = 0.4}\nbaseline = "a"\nguard = {slack = 0.1}\n'
    )
    return str(tmp_path / "log.jsonl"), str(tmp_path / "router.toml")


def test_the_command_values_the_file_and_says_what_it_left_out(files: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["replay", files[0], "--router", files[1], "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    intervals = document["metrics"]["quality"]["anytime"].values()
    assert intervals
    assert all(low < 0.6 * 0.3 + 0.4 * 0.8 < high for low, high in intervals)
    assert document["assumptions"] == ["the router's guard depends on what it would have served, and is left out"]


@pytest.mark.parametrize(
    "options", [["--policy", "arm=a"], ["--price", "cost_usd=1"], ["--set", "alpha=1"], ["--stream"]]
)
def test_what_the_file_says_is_not_said_again(files: tuple[str, str], options: list[str]) -> None:
    result = CliRunner().invoke(app, ["replay", files[0], "--router", files[1], *options])
    assert result.exit_code == 2
    assert f"{options[0]} does not go with --router" in result.stderr


def test_neither_policy_nor_router_is_a_wrong_command(files: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["replay", files[0]])
    assert result.exit_code == 2
    assert "give --policy, or a router's file" in result.stderr
