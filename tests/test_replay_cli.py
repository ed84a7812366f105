"""`replay`, `logs` and `tune` from the command line: answers, exit codes, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_ope_diagnostics import uniform_log
from typer.testing import CliRunner, Result

from bandit_router.cli import app
from bandit_router.outcomes import CHANNELS
from bandit_router.policies.linucb import LinUCB
from bandit_router.simulators.logs import LoggedEvents, write_log
from bandit_router.simulators.ope.comparison import load_policy, make_target, save_policy
from bandit_router.simulators.ope.targets import follow


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    write_log(uniform_log(), path)
    return path


def test_a_better_arm_passes_the_gate_and_a_worse_one_exits_3(log_file: Path) -> None:
    better = run("replay", log_file, "--policy", "arm=d", "--gate", "utility > baseline")
    assert better.exit_code == 0
    assert "gate met" in better.stdout
    worse = run("replay", log_file, "--policy", "arm=a", "--gate", "utility > baseline")
    assert worse.exit_code == 3
    assert "gate not met" in worse.stderr


@pytest.mark.parametrize(
    ("gate", "code"),
    [("quality > 0.7", 0), ("quality > 0.85", 3), ("cost_usd < baseline + 0.1", 3), ("quality > baseline - 0.1", 0)],
)
def test_gates_compare_with_numbers_margins_and_unbounded_channels(gate: str, code: int, log_file: Path) -> None:
    assert run("replay", log_file, "--policy", "arm=d", "--gate", gate).exit_code == code


def test_the_json_document_holds_values_of_every_channel_and_the_diagnostics(log_file: Path) -> None:
    result = run(
        "replay", log_file, "--policy", "arm=d", "--price", "cost_usd=2", "--bound", "cost_usd=0:0.1", "--json"
    )
    document = json.loads(result.stdout)
    assert set(document["metrics"]) == {"utility", "reward", "quality", "cost_usd"}
    assert document["metrics"]["utility"]["bounds"] == [-0.2, 1.0]
    assert document["metrics"]["cost_usd"]["estimates"]["snips"]["value"] == pytest.approx(0.03)
    assert document["diagnostics"]["weight_mean"] == pytest.approx(1.0, abs=0.1)
    assert document["intake"]["taken"] == 4000
    assert len(document["log"]["sha256"]) == 64


def test_a_log_that_cannot_answer_gives_no_number_and_exits_3(tmp_path: Path) -> None:
    write_log(uniform_log(propensity=np.ones(4000)), tmp_path / "log.parquet")
    result = run("replay", tmp_path / "log.parquet", "--policy", "arm=d", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["metrics"] == {}
    assert "deterministic logging" in result.stderr


def test_bad_lines_are_shown_and_counted_and_strict_exits_4(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(uniform_log(n=400), path)
    with path.open("a") as file:
        file.write('{"event_id": "x"}\n')
    lenient = run("replay", path, "--policy", "arm=d")
    assert lenient.exit_code == 0
    assert f"{path}:401: no event record" in lenient.stderr
    assert "1 of 401 lines refused" in lenient.stderr
    assert run("replay", path, "--policy", "arm=d", "--strict").exit_code == 4
    assert run("logs", "check", path).exit_code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "NoSuchPolicy"),
        ("--policy", "arm=zzz"),
        ("--policy", "arm=d", "--gate", "beauty > 3"),
        ("--policy", "arm=d", "--estimator", "magic"),
        ("--policy", "arm=d", "--price", "cost_usd"),
        ("--policy", "arm=d", "--bound", "cost_usd=1"),
        ("--policy", "LinUCB", "--set", "temperature=1"),
        ("--policy", "LinUCB", "--learn", "sometimes"),
        ("--policy", "LinUCB", "--stream"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: tuple[str, ...], log_file: Path) -> None:
    assert run("replay", log_file, *arguments).exit_code == 2


def test_a_missing_file_is_invalid_data() -> None:
    assert run("replay", "nowhere.jsonl", "--policy", "arm=d").exit_code == 4


def test_a_learning_policy_a_baseline_slices_and_a_report(log_file: Path, tmp_path: Path) -> None:
    result = run(
        "replay", log_file, "--policy", "LinUCB", "--baseline", "arm=a", "--learn", "every", "--set", "alpha=0.2",
        "--slice", "mode", "--out", tmp_path, "--json",
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert document["differences"]["utility"][0] > 0.3
    assert document["slices"]["mode"][0]["dr"] == pytest.approx(
        document["metrics"]["utility"]["estimates"]["dr"]["value"]
    )
    page = (tmp_path / "replay.html").read_text()
    assert len(page) < 500_000
    assert page.count("<svg") >= 2
    assert "http" not in page
    assert "<script" not in page
    assert json.loads((tmp_path / "replay.json").read_text())["policy"] == "LinUCB"


def test_names_in_a_report_are_escaped(tmp_path: Path) -> None:
    log = LoggedEvents.of(arms=("<b>", "&"), arm=[0, 1] * 50, propensity=[0.5] * 100, quality=[1.0, 0.0] * 50)
    write_log(log, tmp_path / "log.parquet")
    run("replay", tmp_path / "log.parquet", "--policy", "arm=<b>", "--out", tmp_path)
    page = (tmp_path / "replay.html").read_text()
    assert "<b>" not in page.replace("<b>utility", "").split("<h2>Arms</h2>")[1]
    assert "&lt;b&gt;" in page


def test_the_streamed_answer_is_the_one_in_memory(log_file: Path) -> None:
    both = [
        json.loads(run("replay", log_file, "--policy", "arm=d", "--json", *more).stdout) for more in ((), ("--stream",))
    ]
    for name in ("ips", "snips"):
        whole, streamed = (document["metrics"]["quality"]["estimates"][name] for document in both)
        assert streamed["value"] == pytest.approx(whole["value"], rel=1e-12)
        assert streamed["standard_error"] == pytest.approx(whole["standard_error"], rel=1e-9)


def test_machines_that_each_stream_a_part_agree_with_one_that_streams_all(tmp_path: Path) -> None:
    log, parts = uniform_log(), []
    for name, rows in (("a", slice(0, 1500)), ("b", slice(1500, None))):
        write_log(log.take(rows), tmp_path / f"{name}.parquet")
        parts.append(tmp_path / f"{name}.json")
        run("replay", tmp_path / f"{name}.parquet", "--policy", "arm=d", "--stream", "--moments", parts[-1])
    common = ("--policy", "arm=d", "--stream", "--json")
    merged = run("replay", *parts, *common)
    whole = run("replay", tmp_path / "a.parquet", tmp_path / "b.parquet", *common)
    assert json.loads(merged.stdout)["metrics"] == json.loads(whole.stdout)["metrics"]
    write_log(log, tmp_path / "c.parquet")
    assert run("replay", parts[0], tmp_path / "c.parquet", "--policy", "arm=a", "--stream").exit_code == 4


def test_a_saved_policy_is_replayed_frozen(log_file: Path, tmp_path: Path) -> None:
    log = uniform_log()
    policy = LinUCB(n_arms=4, dim=2, channels=len(CHANNELS))
    follow(policy, log, learning="every")
    save_policy(policy, tmp_path / "state.npz")
    assert (
        load_policy(tmp_path / "state.npz").probabilities([1.0, 0.0]).tolist()
        == policy.probabilities([1.0, 0.0]).tolist()
    )
    result = json.loads(run("replay", log_file, "--policy", tmp_path / "state.npz", "--json").stdout)
    assert result["learning"] == "frozen state"
    assert result["metrics"]["utility"]["estimates"]["dr"]["value"] > 0.75
    table = make_target(str(tmp_path / "state.npz"), log).table
    assert table[0].tolist() == policy.probabilities(log.contexts[0]).tolist()


def test_conversion_keeps_the_log(log_file: Path, tmp_path: Path) -> None:
    assert run("logs", "convert", log_file, "--out", tmp_path / "log.jsonl").exit_code == 0
    assert run("logs", "convert", tmp_path / "log.jsonl", "--out", tmp_path / "log.dsjson").exit_code == 0
    hashes = [
        json.loads(run("logs", "check", path, "--json").stdout)["log"]["sha256"]
        for path in (log_file, tmp_path / "log.jsonl", tmp_path / "log.dsjson")
    ]
    assert len(set(hashes)) == 1
    assert run("logs", "convert", log_file, "--out", tmp_path / "x", "--to", "litellm").exit_code == 2


def test_tuning_reports_the_winner_on_rows_that_did_not_choose_it(log_file: Path) -> None:
    result = run("tune", log_file, "--policy", "LinUCB", "--set", "alpha=0.1,3.0", "--json")
    tuned = json.loads(result.stdout)
    assert tuned["head_rows"] + tuned["tail_rows"] == 4000
    assert tuned["settings"] == {"alpha": 0.1}
    assert tuned["optimism"] == pytest.approx(tuned["head_value"] - tuned["value"])
    assert tuned["value"] > tuned["logged"]
    assert run("tune", log_file, "--policy", "LinUCB", "--set", "speed=1").exit_code == 2


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
    assert "the log has no tokens of its own; there are utility, " in unmetered.stderr


@pytest.mark.parametrize("name", ["missing/log", "."])
def test_a_log_that_cannot_be_written_is_no_traceback(name: str, log_file: Path, tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet", "dsjson", "otel", "obp"):
        result = run("logs", "convert", log_file, "--out", tmp_path / name, "--to", kind)
        assert result.exit_code == 1
        assert f"cannot write {tmp_path / name}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "LinUCB", "--set", "alpha=0.1,0.5"), "replay takes one value of alpha, got 0.1, 0.5"),
        (("--policy", "uniform", "--set", "alpha=3"), "uniform takes no --set"),
        (("--policy", "arm=d", "--set", "alpha=3"), "arm=d takes no --set"),
        (("--policy", "state.npz", "--set", "alpha=3"), "state.npz takes no --set"),
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
        (lambda whole: whole[: len(whole) // 2], "a file that is no .npz archive, or a part of one"),
        (lambda whole: b"\x00\x01" * 500, "a file that is no .npz archive, or a part of one"),
        (lambda whole: whole.replace(b"parameter", b"peremeter"), "lacks 'parameter.n_arms'"),
        (lambda whole: whole[:200] + b"????" + whole[204:], "a damaged archive, or arrays of Python objects"),
    ],
)
def test_a_damaged_saved_policy_is_told_from_a_good_one(
    damage: Callable[[bytes], bytes], message: str, log_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state.npz"
    save_policy(LinUCB(n_arms=4, dim=2, channels=len(CHANNELS)), path)
    path.write_bytes(damage(path.read_bytes()))
    result = run("replay", log_file, "--policy", path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "pickle" not in result.stderr


def test_an_npz_that_is_no_saved_policy_says_what_it_holds(log_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", weights=np.ones(3))
    result = run("replay", log_file, "--policy", tmp_path / "state.npz")
    assert "expected an .npz with 'policy' and the arrays of its state, got one with weights" in result.stderr


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
