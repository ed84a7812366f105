"""Several policies on one log: the table, paired differences, the interval that was asked for, and one document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bandit_router.replay.compare import Target, compare
from bandit_router.replay.estimators.intervals import normal
from bandit_router.replay.estimators.sample import Sample
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import LoggedEvents, write_log
from bandit_router.replay.paired import differences
from bandit_router.replay.several import compare_several
from bandit_router.replay.targets import one_arm
from support.cli import run
from support.logs import uniform_log


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    write_log(uniform_log(), path)
    return path


def arm_target(log: LoggedEvents, arm: str) -> Target:
    return Target(f"arm={arm}", one_arm(log, arm), None, "fixed")


def difference_of(log: LoggedEvents, one: str, other: str, **options: object) -> tuple[float, float]:
    found = differences(log, one_arm(log, one), one_arm(log, other), **options)["utility"]
    assert found is not None
    return found


# -- paired differences ----------------------------------------------------------------------------------------------


def test_a_policy_minus_itself_is_nothing() -> None:
    assert difference_of(uniform_log(), "c", "c", interval="fixed") == pytest.approx((0, 0))
    low, high = difference_of(uniform_log(), "c", "c")
    assert low < 0 < high


def test_two_policies_that_mostly_agree_differ_narrowly() -> None:
    """Apart, each has the width of its own value; paired, what both do alike cancels."""
    log = uniform_log()
    one = one_arm(log, "c")
    other = one.copy()
    other[::20] = one_arm(log, "d")[::20]
    for interval in ("anytime", "fixed"):
        paired = differences(log, other, one, interval=interval)["utility"]
        width = {
            "anytime": lambda m: m.anytime["gamma_mixture"],
            "fixed": lambda m: m.estimates["dr"].intervals["normal"],
        }
        alone = width[interval](evaluate(log, one).metrics["utility"])
        assert paired is not None
        assert paired[0] < 0.01 < paired[1]
        if interval == "fixed":
            assert np.ptp(paired) < 0.5 * np.ptp(alone)
        else:
            assert np.ptp(paired) < 2 * np.ptp(alone)


def test_the_fixed_difference_without_a_model_is_the_textbook_one() -> None:
    """With one arm a row has no information about the other: by hand, w r of both, for a constant reward."""
    log = LoggedEvents.of(arms=("a", "b"), arm=[0, 1] * 200, propensity=[0.5] * 400, quality=[0.25, 0.75] * 200)
    assert difference_of(log, "b", "a", interval="fixed") == pytest.approx((0.5, 0.5), abs=0.01)
    sample = Sample(arm=log.arm, propensity=log.propensity, reward=log.channel("quality"), target=one_arm(log, "b"))
    assert normal(sample.weight * sample.reward, 0.05)[0] > 0.6


@pytest.mark.parametrize(("interval", "arms"), [("fixed", ("d", "b")), ("anytime", ("d", "b"))])
def test_differences_cover_the_truth(interval: str, arms: tuple[str, str]) -> None:
    """Over 200 logs a 95 % interval misses 0.4 at most 20 times: 4 standard errors above 10."""
    missed = 0
    for seed in range(200):
        low, high = difference_of(uniform_log(500, seed=seed), *arms, interval=interval)
        missed += not low <= 0.4 <= high
    assert missed <= 20


def test_rows_of_weight_have_a_fixed_difference_and_no_sequence() -> None:
    log = uniform_log(1000, weight=np.where(np.arange(1000) % 2, 3.0, 1.0))
    assert differences(log, one_arm(log, "d"), one_arm(log, "a"))["utility"] is None
    low, high = difference_of(log, "d", "a", interval="fixed")
    assert low < 0.6 < high


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_the_logging_policy_and_the_baseline() -> None:
    log = uniform_log()
    document = compare_several(log, [arm_target(log, "c"), arm_target(log, "d")], baseline=arm_target(log, "a"))
    assert [row["policy"] for row in document["table"]] == ["logging policy", "arm=a", "arm=c", "arm=d"]
    logged, base, c, d = document["table"]
    assert logged["value"] == pytest.approx(log.channel("quality").mean())
    assert base["value"] == pytest.approx(0.2, abs=0.05)
    single = compare(log, arm_target(log, "d"), baseline=arm_target(log, "a"))
    assert document["policies"][1] == single
    assert d["difference"] == single["differences"]["utility"]
    assert d["interval"] == single["metrics"]["utility"]["anytime"]["gamma_mixture"]
    assert [(pair["policy"], pair["than"]) for pair in document["pairs"]] == [("arm=c", "arm=d")]
    assert document["pairs"][0]["difference"] == pytest.approx(difference_of(log, "c", "d"))
    assert c["ess"] == pytest.approx(1000, abs=100)


def test_a_second_policy_is_answered_in_text_json_and_the_report(log_file: Path, tmp_path: Path) -> None:
    common = (
        "replay",
        log_file,
        "--policy",
        "arm=d",
        "--policy",
        "arm=<b>c",
        "--policy",
        "LinUCB",
        "--set",
        "alpha=0.2",
    )
    unknown = run(*common)
    assert unknown.exit_code == 2
    common = (*common[:4], "--policy", "arm=c", *common[6:], "--out", tmp_path)
    result = run(*common)
    assert result.exit_code == 0, result.output
    for name in ("logging policy", "arm=d", "arm=c", "LinUCB", "arm=d minus arm=c"):
        assert name in result.stdout
    page = (tmp_path / "replay.html").read_text()
    assert "3 policies on one log" in page
    assert page.count("<h1>") == 4
    assert len(json.loads((tmp_path / "replay.json").read_text())["policies"]) == 3


def test_every_policy_must_pass_the_gate(log_file: Path) -> None:
    both = run("replay", log_file, "--policy", "arm=d", "--policy", "arm=a", "--gate", "utility > baseline")
    assert both.exit_code == 3
    assert "gate not met: utility > baseline, by arm=a" in both.stderr
    good = run("replay", log_file, "--policy", "arm=d", "--policy", "arm=c", "--gate", "utility > baseline - 0.1")
    assert good.exit_code == 0
    assert "gate met" in good.stdout


def test_what_takes_one_policy_says_so(log_file: Path) -> None:
    for more in (("--stream",), ("--cache", "LRU:2")):
        result = run("replay", log_file, "--policy", "arm=d", "--policy", "arm=c", *more)
        assert result.exit_code == 2
        assert "takes one --policy" in result.stderr


# -- the interval that was asked for ---------------------------------------------------------------------------------


def test_the_fixed_interval_decides_the_gate_where_it_is_asked_for(tmp_path: Path) -> None:
    """A difference of 0.1 in 2,000 rows: within the sequence, outside the fixed interval."""
    log = uniform_log(700)
    write_log(log, tmp_path / "log.parquet")
    common = ("replay", tmp_path / "log.parquet", "--policy", "arm=c", "--gate", "utility > baseline", "--json")
    anytime, fixed = (run(*common, *more) for more in ((), ("--interval", "fixed")))
    assert (anytime.exit_code, fixed.exit_code) == (3, 0)
    document = json.loads(fixed.stdout)
    assert document["interval"] == "fixed"
    assert document["gate"]["bound"] == document["differences"]["utility"][0]
    assert document["differences"]["utility"] == document["metrics"]["utility"]["difference_normal"]
    assert run(*common, "--interval", "never").exit_code == 2


def test_a_level_is_compared_with_the_fixed_doubly_robust_interval() -> None:
    log = uniform_log(700)
    document = compare(log, arm_target(log, "d"), gate="utility > 0.72", interval="fixed")
    assert document["gate"]["bound"] == document["metrics"]["utility"]["estimates"]["dr"]["intervals"]["normal"][0]


# -- one document ----------------------------------------------------------------------------------------------------


def test_the_streamed_document_has_the_keys_of_the_one_in_memory(log_file: Path, tmp_path: Path) -> None:
    def keys(value: object) -> object:
        return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None

    whole, streamed = (
        json.loads(run("replay", log_file, "--policy", "arm=d", "--json", *more).stdout) for more in ((), ("--stream",))
    )
    for document in (whole, streamed):
        del document["intake"]
        for metric in document["metrics"].values():
            del metric["estimates"], metric["anytime"]
        del document["diagnostics"]["weight_percentiles"]
    assert keys(whole) == keys(streamed)
    for name in ("left_out", "unjoined", "answered", "alpha", "interval", "utility"):
        assert whole[name] == streamed[name]
    for name in ("rows", "weight_mean", "smallest_propensity", "ess"):
        assert whole["diagnostics"][name] == pytest.approx(streamed["diagnostics"][name])
    logged = whole["metrics"]["quality"], streamed["metrics"]["quality"]
    assert logged[0]["logged_anytime"] == pytest.approx(logged[1]["logged_anytime"], abs=0.02)
    result = run("replay", log_file, "--policy", "arm=d", "--stream", "--out", tmp_path)
    assert result.exit_code == 0
    assert "<svg" in (tmp_path / "replay.html").read_text()


# -- slices, tune ----------------------------------------------------------------------------------------------------


def test_slices_are_printed(tmp_path: Path) -> None:
    task = np.arange(2000) % 2
    log = uniform_log(2000, policy=np.where(task, "old", "new").astype(object))
    write_log(log, tmp_path / "log.parquet")
    result = run("replay", tmp_path / "log.parquet", "--policy", "arm=d", "--slice", "policy")
    assert "utility by policy" in result.stdout
    assert "old" in result.stdout
    assert "new" in result.stdout


def test_tune_writes_what_it_found(log_file: Path, tmp_path: Path) -> None:
    result = run("tune", log_file, "--policy", "LinUCB", "--set", "alpha=0.1,1", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "tune.json").read_text())
    assert found["policy"] == "LinUCB"
    assert len(found["trials"]) == 2
