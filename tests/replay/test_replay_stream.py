"""`replay --stream`: it refuses what the replay in memory refuses, and sums of something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import LoggedEvents, write_log
from bandit_router.replay.stream import stream as one_pass
from bandit_router.replay.stream_replay import streamed_document
from support.cli import run
from support.logs import uniform_log


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    write_log(uniform_log(), path)
    return path


def stream(*arguments: object, policy: str = "arm=d") -> Result:
    return run("replay", *arguments, "--policy", policy, "--stream")


def five_star_log() -> LoggedEvents:
    """Quality from 0 to 5, which is no quality."""
    outcomes = uniform_log().outcomes.copy()
    outcomes[:, 0] *= 5
    return uniform_log(outcomes=outcomes)


# -- the utility -----------------------------------------------------------------------------------------------------


def test_a_price_on_an_unmetered_channel_leaves_no_utility(log_file: Path) -> None:
    """A price on a channel that was never metered leaves no utility to stream."""
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


# -- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--stream",)])
def test_values_outside_their_range_are_refused_on_both_paths(
    more: tuple[str, ...], log_file: Path, tmp_path: Path
) -> None:
    """Values outside their declared range are refused in memory and streamed."""
    costs = run("replay", log_file, "--policy", "arm=d", "--bound", "cost_usd=0:0.001", *more)
    assert costs.exit_code == 4
    assert "cost_usd was logged in 0..0.03, outside its range 0:0.001" in costs.stderr
    write_log(five_star_log(), tmp_path / "stars.parquet")
    stars = run("replay", tmp_path / "stars.parquet", "--policy", "arm=d", "--gate", "quality > 0.99", *more)
    assert stars.exit_code == 4
    assert "was logged in 0..5, outside its range 0:1" in stars.stderr


@pytest.mark.parametrize("more", [(), ("--stream",)])
@pytest.mark.parametrize("bound", ["carbon=0:1", "cost_usd=1:0", "cost_usd=0:inf", "cost_usd=0:nan"])
def test_a_range_of_no_channel_and_no_range_are_usage_errors(bound: str, more: tuple[str, ...], log_file: Path) -> None:
    assert run("replay", log_file, "--policy", "arm=d", "--bound", bound, *more).exit_code == 2


def test_the_streamed_utility_has_the_range_of_what_it_prices(log_file: Path) -> None:
    result = stream(log_file, "--price", "cost_usd=2", "--bound", "cost_usd=0:0.1", "--json")
    assert json.loads(result.stdout)["metrics"]["utility"]["bounds"] == [-0.2, 1.0]


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        ("--baseline", "arm=a"),
        ("--estimator", "dr"),
        ("--slice", "mode"),
        ("--group", "a=x"),
        ("--cache", "LRU:2"),
        ("--paging", "peft-local"),
        ("--size", "a=1"),
        ("--learn", "every"),
        ("--set", "alpha=1"),
        ("--arms", "a,b,c,d"),
        ("--format", "parquet"),
        ("--columns", "arm=model"),
        ("--strict",),
    ],
)
def test_what_streaming_cannot_do_is_a_usage_error(option: tuple[str, ...]) -> None:
    result = stream("nowhere.parquet", *option)
    assert result.exit_code == 2
    assert f"--stream does not take {option[0]}" in result.stderr


def test_moments_without_stream_are_a_usage_error(log_file: Path, tmp_path: Path) -> None:
    result = run("replay", log_file, "--policy", "arm=d", "--moments", tmp_path / "sums.json")
    assert result.exit_code == 2
    assert "--moments needs --stream" in result.stderr


# -- saved sums ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "more"),
    [
        ("arm=a", ()),
        ("uniform", ()),
        ("arm=nonexistent", ()),
        ("arm=d", ("--price", "cost_usd=0.5", "--scale", "cost_usd=0.01")),
    ],
)
def test_saved_sums_answer_only_for_the_policy_and_prices_they_are_of(
    policy: str, more: tuple[str, ...], log_file: Path, tmp_path: Path
) -> None:
    sums = tmp_path / "sums.json"
    assert stream(log_file, "--moments", sums).exit_code == 0
    result = stream(sums, *more, policy=policy)
    assert result.exit_code == 4
    assert f"{sums}: expected the sums of {policy}" in result.stderr
    assert result.stdout == ""


def test_a_price_of_nothing_and_a_scale_without_a_price_change_no_sums(log_file: Path, tmp_path: Path) -> None:
    sums = tmp_path / "sums.json"
    stream(log_file, "--moments", sums)
    assert stream(sums, "--price", "cost_usd=0", "--scale", "energy_j=3").exit_code == 0


def test_a_document_is_made_only_of_sums_of_its_policy(log_file: Path) -> None:
    with pytest.raises(InvalidInput, match="expected the sums of arm=a, utility quality, got arm=d, utility quality"):
        streamed_document(one_pass([log_file], "d"), policy="arm=a")


def test_sums_that_cannot_be_saved_cost_only_the_file(log_file: Path, tmp_path: Path) -> None:
    result = stream(log_file, "--moments", tmp_path / "missing" / "sums.json", "--json")
    assert result.exit_code == 1
    assert f"cannot write {tmp_path / 'missing' / 'sums.json'}" in result.stderr
    assert json.loads(result.stdout)["answered"]


# -- columns and arms --------------------------------------------------------------------------------------------------


def save_columns(path: Path, **columns: object) -> Path:
    """A Parquet log of 100 rows by another writer."""
    import polars as pl

    common = {"arm": ["a", "b"] * 50, "propensity": [0.5] * 100, "quality": [1.0, 0.0] * 50}
    pl.DataFrame({**common, **columns}).write_parquet(path)
    return path


def in_memory_and_streamed(*paths: Path, policy: str) -> list[float]:
    """The value that IPS gives either way."""
    results = [run("replay", *paths, "--policy", policy, "--json", *more) for more in ((), ("--stream",))]
    return [json.loads(r.stdout)["metrics"]["quality"]["estimates"]["ips"]["value"] for r in results]


@pytest.mark.parametrize("policy", ["arm=a", "uniform"])
@pytest.mark.parametrize("name", ["propensity", "quality", "eligible", "degraded"])
def test_a_column_of_text_is_invalid_data(name: str, policy: str, tmp_path: Path) -> None:
    path = save_columns(tmp_path / "log.parquet", **{name: ["text"] * 100})
    result = stream(path, policy=policy)
    assert result.exit_code == 4
    assert f"{path}: expected" in result.stderr


@pytest.mark.parametrize("policy", ["arm=a", "uniform"])
def test_a_file_without_rows_is_invalid_data(policy: str, tmp_path: Path) -> None:
    path = save_columns(tmp_path / "log.parquet", arm=[], propensity=[], quality=[])
    result = stream(path, policy=policy)
    assert result.exit_code == 4
    assert "none of the 0 rows" in result.stderr


def test_a_row_without_an_arm_is_no_arm(tmp_path: Path) -> None:
    path = save_columns(tmp_path / "log.parquet", arm=["a", "b"] * 49 + [None, None])
    both = [
        json.loads(run("replay", path, "--policy", "uniform", "--json", *more).stdout) for more in ((), ("--stream",))
    ]
    values = [document["metrics"]["quality"]["estimates"]["ips"]["value"] for document in both]
    assert values[0] == pytest.approx(values[1])


def test_an_unknown_arm_is_a_usage_error_and_leaves_no_sums(log_file: Path, tmp_path: Path) -> None:
    """An arm that the log does not know is a usage error and leaves no sums."""
    for path in (log_file, save_columns(tmp_path / "log.parquet")):
        result = stream(path, "--moments", tmp_path / "sums.json", policy="arm=nope")
        assert result.exit_code == 2
        assert "unknown arm 'nope'; the log has a, b" in result.stderr
        assert not (tmp_path / "sums.json").exists()


def test_a_file_that_does_not_know_the_arm_shares_the_rest(tmp_path: Path) -> None:
    """Where one file does not know the arm the rest is shared as in memory."""
    first = save_columns(tmp_path / "first.parquet")
    second = save_columns(tmp_path / "second.parquet", arm=["c", "b"] * 50)
    values = in_memory_and_streamed(first, second, policy="arm=c")
    assert values[0] == pytest.approx(values[1])


def test_saved_sums_of_an_older_version_are_refused(log_file: Path, tmp_path: Path) -> None:
    sums = tmp_path / "sums.json"
    stream(log_file, "--moments", sums)
    older = json.loads(sums.read_text())
    del older["arms"]
    sums.write_text(json.dumps(older))
    assert stream(sums).exit_code == 4


def test_a_channel_the_policy_omits_does_not_cost_the_answer(tmp_path: Path) -> None:
    """A channel that the policy says nothing of does not cost the answer."""
    log = uniform_log()
    outcomes = log.outcomes.copy()
    outcomes[log.arm == 0, CHANNELS.index("latency_s")] = 1.0
    outcomes[0, CHANNELS.index("tokens")] = 1.0
    write_log(uniform_log(outcomes=outcomes), tmp_path / "log.parquet")
    result = stream(tmp_path / "log.parquet")
    assert result.exit_code == 0
    assert "latency_s is left out: no overlap" in result.stdout
    assert "tokens is left out: expected at least two rows" in result.stdout


def test_rows_that_stand_for_several_decisions_are_not_streamed(tmp_path: Path) -> None:
    path = save_columns(tmp_path / "log.parquet", weight=[1.0, 2.0] * 50)
    result = stream(path, policy="arm=a")
    assert result.exit_code == 4
    assert "expected a weight of 1 in every row" in result.stderr
