"""`bandit-router config check|show|schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandit_router.cli import app

GOOD = 'context = 2\narms = [{id = "a"}, {id = "b"}]\n[rollout]\nbaseline = "a"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.toml"
    path.write_text(GOOD)
    return path


def test_a_good_file_is_checked_and_shown_with_its_defaults(file: Path) -> None:
    checked = CliRunner().invoke(app, ["config", "check", str(file), "--json"])
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["arms"] == ["a", "b"]
    shown = json.loads(CliRunner().invoke(app, ["config", "show", str(file)]).stdout)
    assert shown["policy"]["name"] == "EvidenceThompson"
    assert shown["rollout"]["baseline"] == "a"


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_mistake_ends_with_4_and_says_the_line(file: Path, command: str) -> None:
    file.write_text(GOOD.replace("baseline", "baselin"))
    result = CliRunner().invoke(app, ["config", command, str(file)])
    assert result.exit_code == 4
    assert "router.toml, line 4: unknown name 'baselin'" in result.stderr


def test_what_only_the_whole_router_can_tell_is_checked_too(file: Path) -> None:
    file.write_text(GOOD + 'guard = {slack = 0.1}\n[policy]\nname = "UniformRandom"\n')
    result = CliRunner().invoke(app, ["config", "check", str(file)])
    assert result.exit_code == 4
    assert "a guard needs a policy that estimates utilities" in result.stderr


def test_the_schema_is_printed() -> None:
    document = json.loads(CliRunner().invoke(app, ["config", "schema"]).stdout)
    assert "gateway" in document["$defs"]["ServedConfig"]["properties"]
