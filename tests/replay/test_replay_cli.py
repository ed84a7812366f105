"""`replay`, `logs` and `tune` from the command line: answers, exit codes, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bandit_router.policies.linucb import LinUCB
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.compare import make_target
from bandit_router.replay.estimators import ESTIMATORS, GROUPED
from bandit_router.replay.logs import LoggedEvents, write_log
from bandit_router.replay.targets import follow
from bandit_router.store.saved import load_state, save_state
from support.cli import run
from support.logs import learner_of, uniform_log


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


def test_the_document_holds_every_channel_and_the_diagnostics(log_file: Path) -> None:
    """The json document holds values of every channel and the diagnostics."""
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


def test_the_text_says_why_mixed_weights_have_no_anytime_interval(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    write_log(uniform_log(n=400, weight=np.where(np.arange(400) % 2, 1.0, 2.0)), path)
    assert {json.loads(line).get("pdrop") for line in path.read_text().splitlines()} == {None, 0.5}
    result = run("replay", path, "--policy", "arm=d")
    assert result.exit_code == 0
    assert "none for rows that stand for several decisions each, in unequal numbers (pdrop)" in result.stdout


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
    save_state(learner_of(policy, log.arms), tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors").policy
    assert again.probabilities([1.0, 0.0]).tolist() == policy.probabilities([1.0, 0.0]).tolist()
    result = json.loads(run("replay", log_file, "--policy", tmp_path / "state.safetensors", "--json").stdout)
    assert result["learning"] == "frozen state"
    assert result["metrics"]["utility"]["estimates"]["dr"]["value"] > 0.75
    table = make_target(str(tmp_path / "state.safetensors"), log).table
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


def test_all_estimators_are_those_of_the_registry(tmp_path: Path) -> None:
    """Groups are needed for some."""
    log = uniform_log()
    write_log(replace(log, probabilities=np.full((len(log), 4), 0.25)), tmp_path / "log.parquet")
    command = ("replay", tmp_path / "log.parquet", "--policy", "arm=d", "--estimator")
    groups = [part for arm in "abcd" for part in ("--group", f"{arm}=one")]
    for options, expected in (((), set(ESTIMATORS) - GROUPED), (groups, set(ESTIMATORS))):
        document = json.loads(run(*command, "all", "--json", *options).stdout)
        assert set(document["metrics"]["utility"]["estimates"]) == expected
    assert "mips needs the group of every arm" in run(*command, "mips").stderr
