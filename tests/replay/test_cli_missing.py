"""Commands whose packages are not installed name the extra that brings them."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner, Result

from bandit_router.cli import app
from bandit_router.paging.adapter_files import make_adapters
from bandit_router.paging.adapter_library import TINY
from bandit_router.records.arms import Arm
from bandit_router.replay.logs import write_log
from bandit_router.routing.router import Router
from bandit_router.store import Store
from support.logs import uniform_log


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def adapter_folder(tmp_path):
    folder = tmp_path / "adapters"
    folder.mkdir()
    make_adapters(folder, shape=TINY, ranks=[2])
    return folder


@pytest.mark.parametrize(
    ("policy", "package", "extra"),
    [("DriftLinTS", "river", "river"), ("RiverSoftmax", "river", "river"), ("VWBag", "vowpal_wabbit_next", "vw")],
)
def test_simulate_names_the_extra_of_a_policy(policy, package, extra, write_table, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = run("simulate", "--table", write_table(), "--policy", policy, "--seeds", 1, "--jobs", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"pip install 'bandit-router[{extra}]'" in result.stderr


@pytest.mark.parametrize("command", ["tune", "replay"])
def test_tune_and_replay_name_the_extra_of_a_policy(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    write_log(uniform_log(), tmp_path / "log.parquet")
    result = run(command, tmp_path / "log.parquet", "--policy", "RiverSoftmax", "--set", "temperature=0.1")
    assert result.exit_code == 1
    assert "pip install 'bandit-router[river]'" in result.stderr


def test_calibrate_names_its_extra(adapter_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for source in (["--base", "tiny", "--ranks", 2, "--storage", tmp_path], ["--adapters", adapter_folder]):
        result = run("calibrate", "paging", *source, "--out", tmp_path / "mine.json")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "pip install 'bandit-router[calibrate]'" in result.stderr
    assert list(tmp_path.iterdir()) == [adapter_folder]


def test_a_postgresql_store_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql://localhost:1/x"
    result = run("state", "show", url)
    assert result.exit_code == 5
    assert "pip install 'bandit-router[postgres]'" in result.stderr
    with pytest.raises(ImportError, match="postgres"):
        Router(arms=[Arm(id="small")], dim=1, store=Store(url, durability="relaxed"))
