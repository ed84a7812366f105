"""What `replay`, `logs` and `tune` say of a wrong command, a damaged file and a place where nothing can be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bandit_router.policies.linucb import LinUCB
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import write_log
from bandit_router.store.saved import save_state
from bandit_router.store.snapshot import decode, encode
from support.cli import run
from support.logs import learner_of, uniform_log


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    write_log(uniform_log(), path)
    return path


def test_tuning_at_a_price_on_a_channel_that_was_never_metered_says_so(log_file: Path) -> None:
    result = run("tune", log_file, "--policy", "LinUCB", "--set", "alpha=0.1", "--price", "energy_j=1")
    assert result.exit_code == 3
    assert "no row has energy_j, which the utility prices" in result.stderr


def test_a_metric_that_equals_another_is_printed_as_that_one(tmp_path: Path) -> None:
    outcomes = uniform_log().outcomes.copy()
    outcomes[:, CHANNELS.index("energy_j")] = outcomes[:, CHANNELS.index("cost_usd")]
    write_log(uniform_log(outcomes=outcomes), tmp_path / "log.parquet")
    printed = run("replay", tmp_path / "log.parquet", "--policy", "arm=d").stdout
    assert "quality: as utility" in printed
    assert "energy_j: as cost_usd" in printed


@pytest.mark.parametrize("more", [(), ("--stream",)])
@pytest.mark.parametrize("where", ["taken", "taken/deeper"])
def test_a_folder_that_cannot_be_made_costs_only_the_files(
    where: str, more: tuple[str, ...], log_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    result = run("replay", log_file, "--policy", "arm=d", "--out", tmp_path / where, "--json", *more)
    assert result.exit_code == 1
    assert f"cannot write {tmp_path / where}" in result.stderr
    assert json.loads(result.stdout)["answered"]


@pytest.mark.parametrize("more", [(), ("--stream",)])
def test_a_gate_without_an_interval_says_what_is_missing(more: tuple[str, ...], log_file: Path) -> None:
    unbounded = run("replay", log_file, "--policy", "arm=d", "--gate", "cost_usd < 1", *more)
    assert unbounded.exit_code == 3
    assert "declare it with --bound cost_usd=LOW:HIGH" in unbounded.stderr
    unmetered = run("replay", log_file, "--policy", "arm=d", "--gate", "tokens < 1", *more)
    assert "there is no value of tokens; there are utility, " in unmetered.stderr


@pytest.mark.parametrize("name", ["missing/log", "."])
def test_a_log_that_cannot_be_written_is_no_traceback(name: str, log_file: Path, tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet", "dsjson", "otel", "obp"):
        result = run("logs", "convert", log_file, "--out", tmp_path / name, "--to", kind)
        assert result.exit_code == 1
        assert f"cannot write {tmp_path / name}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "LinUCB", "--set", "alpha=0.1,0.5"), "replay takes one value of alpha, got 0.1,0.5"),
        (("--policy", "uniform", "--set", "alpha=3"), "uniform takes no --set"),
        (("--policy", "arm=d", "--set", "alpha=3"), "arm=d takes no --set"),
        (("--policy", "state.safetensors", "--set", "alpha=3"), "state.safetensors takes no --set"),
        (("--policy", "arm=d", "--gate", "nonsense"), "expected a gate"),
        (("--policy", "arm=d", "--stream", "--gate", "nonsense"), "expected a gate"),
        (("--policy", "LinUCB", "--learn", "sometimes"), "--learn must be"),
        (("--policy", "NoSuchPolicy"), "unknown policy"),
        (("--policy", "arm=d", "--estimator", "magic"), "unknown estimator"),
        (("--policy", "arm=d", "--cache", "LRU"), "--cache must be"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_log_is_read(arguments: tuple[str, ...], message: str) -> None:
    result = run("replay", "nowhere.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "digest is wrong"),
        (lambda whole: b"\x00\x01" * 500, "digest is wrong"),
        (lambda whole: b"", "a snapshot has 41 to"),
        (lambda whole: whole[:200] + b"????" + whole[204:], "digest is wrong"),
        (
            lambda whole: encode(0, decode(whole).state, policy=decode(whole).policy),
            "the state is of 4 arms and names 0",
        ),
        (lambda whole: encode(0, {}, policy=decode(whole).policy, arms=["a"]), "lacks 'parameter.n_arms'"),
        (lambda whole: encode(0, decode(whole).state, policy="None()", arms=["a"]), "unknown policy 'None'"),
    ],
)
def test_a_damaged_saved_policy_is_told_from_a_good_one(
    damage: Callable[[bytes], bytes], message: str, log_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    save_state(learner_of(LinUCB(n_arms=4, dim=2, channels=len(CHANNELS)), "abcd"), path)
    path.write_bytes(damage(path.read_bytes()))
    result = run("replay", log_file, "--policy", path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_state_of_other_sizes_arms_or_prices_is_refused_with_a_sentence(log_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    for policy, arms, options, message in (
        (LinUCB(n_arms=4, dim=3, channels=len(CHANNELS)), "abcd", (), "takes contexts of 3 numbers, the log has 2"),
        (
            LinUCB(n_arms=2, dim=2, channels=len(CHANNELS)),
            "xy",
            (),
            "that the policy knows; it knows x, y",
        ),
        (LinUCB(n_arms=4, dim=2, channels=1), "abcd", ("--price", "cost_usd=1"), "cost_usd is priced but not metered"),
    ):
        save_state(learner_of(policy, arms), path)
        result = run("replay", log_file, "--policy", path, *options)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert "cannot read a saved state" in run("replay", log_file, "--policy", tmp_path / "no.safetensors").stderr


@pytest.mark.parametrize("arms", ["a,b,c,d,d", "a,,b"])
@pytest.mark.parametrize("name", ["log.parquet", "log.jsonl"])
def test_a_catalogue_with_an_arm_twice_or_without_a_name_is_a_usage_error(name: str, arms: str) -> None:
    for command in (("replay", name, "--policy", "uniform"), ("logs", "check", name)):
        result = run(*command, "--arms", arms)
        assert result.exit_code == 2
        assert "--arms" in result.stderr


@pytest.mark.parametrize("setting", ["alpha=abc,1", "alpha=-1,1"])
def test_tuning_refuses_values_that_the_policy_does_not_take(setting: str, log_file: Path) -> None:
    result = run("tune", log_file, "--policy", "LinUCB", "--set", setting)
    assert result.exit_code == 2
    assert "alpha" in result.stderr


def test_a_file_without_one_usable_line_shows_its_lines_and_is_named(log_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "binary.jsonl"
    path.write_bytes(b"\x00\xff\n" * 22)
    run("logs", "convert", log_file, "--out", tmp_path / "good.jsonl")
    result = run("logs", "check", tmp_path / "good.jsonl", path)
    assert result.exit_code == 4
    assert f"{path}:1: no event record" in result.stderr
    assert "22 of 4022 lines refused: 22 no event record" in result.stderr
    assert f"{path}: no usable line among 22: 22 no event record" in result.stderr


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.jsonl", "log.dsjson"])
def test_an_empty_file_is_called_empty(name: str, log_file: Path, tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / name
    if name == "log.parquet":
        pl.read_parquet(log_file).clear().write_parquet(path)
    else:
        path.touch()
    result = run("logs", "check", path)
    assert result.exit_code == 4
    assert f"{path}: no usable line, the file is empty" in result.stderr
