"""What a store served is a log: replayed, checked and converted by its URL."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router import Arm, Outcome, Rollout, Router, evaluate, one_arm
from bandit_router.cli import app
from bandit_router.errors import InvalidLog
from bandit_router.replay.logs import Intake, read_logs
from bandit_router.replay.logs.store import DIVERTED, UNSETTLED, _row, shown
from bandit_router.settling.rules import Settled
from conftest import Clock

TRUTH = {"10": 0.2, "2": 0.7, "b": 0.5}
ARMS = [Arm(id=arm) for arm in TRUTH]


def served(open_router, url, count, **settings):
    """Requests through a store: each arm earns by its truth, every fifth reward has not come yet."""
    rng, clock = np.random.default_rng(3), Clock()
    options = {"arms": ARMS, "context": 2, "policy": "UniformRandom", "clock": clock, **settings}
    router = open_router(url, **options)
    decisions = []
    for number in range(count):
        clock.now += 1.0
        context = [1.0, float(rng.random())]
        decision = router.decide(context, event_id=f"r-{number}", tenant=f"t{number % 2}", resident=["2"])
        decisions.append(decision)
        if number % 5:
            router.observe(decision.event_id, Outcome(quality=float(rng.random() < TRUTH[decision.arm]), tokens=7.0))
    return router, decisions


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_two_thousand_served_requests_give_the_truth_of_an_arm(open_router, tmp_path):
    url = f"sqlite:///{tmp_path}/events.db"
    served(open_router, url, 2000)[0].close()
    result = run("replay", url, "--policy", "arm=2", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    metric = document["metrics"]["quality"]
    low, high = metric["estimates"]["dr"]["intervals"]["normal"]
    assert low < 0.7 < high
    low, high = metric["anytime"]["gamma_mixture"]
    assert low < 0.7 < high
    assert high - low < 0.2
    assert document["intake"]["notes"] == {UNSETTLED: 400}
    assert document["log"]["arms"] == list(TRUTH)
    assert document["files"] == [url]


def test_rows_are_the_decisions_in_order_with_all_that_they_recorded(open_router, url):
    router, decisions = served(open_router, url, 40)
    router.close()
    intake = Intake(strict=True)
    log = read_logs([url], intake)
    assert (intake.lines, intake.taken) == (40, 40)
    assert log.arms == ("10", "2", "b")  # the catalogue's order
    assert log.event_id.tolist() == [decision.event_id for decision in decisions]
    assert log.arm.tolist() == [decision.arm_index for decision in decisions]
    assert log.propensity.tolist() == [decision.propensity for decision in decisions]
    assert np.array_equal(log.contexts, [decision.context for decision in decisions])
    assert np.array_equal(log.probabilities, [decision.probabilities for decision in decisions])
    assert log.state_version.tolist() == [decision.state_version for decision in decisions]
    assert log.timestamp_s.tolist() == [decision.timestamp_s for decision in decisions]
    assert log.tenant.tolist() == ["t0", "t1"] * 20
    assert log.resident.tolist() == [[False, True, False]] * 40
    assert np.isnan(log.channel("tokens")).tolist() == [number % 5 == 0 for number in range(40)]
    assert np.array_equal(log.reward, log.channel("quality"), equal_nan=True)


def test_what_the_baseline_served_speaks_of_that_arm_alone(open_router, url):
    """And keeps its mode."""
    router, decisions = served(open_router, url, 60, rollout=Rollout(holdout=0.5, baseline="b"))
    router.close()
    log = read_logs([url], Intake())
    held = log.mode == "holdout"
    assert log.mode.tolist() == [decision.mode for decision in decisions]
    assert 0 < held.sum() < 60
    assert set(log.propensity[held]) == {1.0}
    assert log.probabilities[held].tolist() == [[0.0, 0.0, 1.0]] * int(held.sum())


def test_anothers_outcome_is_not_counted_for_the_drawn_arm(open_router, url):
    """An outcome of another arm is not counted for the one that was drawn."""
    router = open_router(url, arms=ARMS, context=1, policy="UniformRandom")
    decision = router.decide([1.0], event_id="r")
    other = next(arm for arm in TRUTH if arm != decision.arm)
    assert router.observe("r", Outcome(quality=1.0), served_arm=other).refused == "diverted"
    router.close()
    intake = Intake()
    log = read_logs([url], intake)
    assert (log.arms[log.arm[0]], log.failure[0], log.reward[0]) == (decision.arm, "diverted", 0.0)
    assert (log.channel("quality")[0], log.channel("failed")[0]) == (0.0, 1.0)
    assert not intake.notes


def test_a_diverted_row_of_before_has_no_outcome():
    decision = Router(arms=ARMS, context=1).decide([1.0], event_id="r")
    entry = Settled(
        position=1, decision=decision, outcome=Outcome(quality=1.0), reward=1.0, status="diverted", learned=False
    )
    intake = Intake()
    assert _row(decision, entry, tuple(TRUTH), intake).quality is None
    assert intake.notes == {DIVERTED: 1}


def test_an_arm_added_later_was_not_eligible_before(open_router, url):
    router = open_router(url, arms=ARMS[:2], context=1, policy="UniformRandom")
    router.decide([1.0], event_id="before")
    router.add_arm(ARMS[2])
    router.decide([1.0], event_id="later")
    router.close()
    log = read_logs([url], Intake())
    assert log.arms == tuple(TRUTH)
    assert sorted(log.allowed().sum(axis=1).tolist()) == [2, 3]


def test_a_store_converts_into_every_format_of_files_and_back(open_router, tmp_path):
    url = f"sqlite:///{tmp_path}/events.db"
    served(open_router, url, 50)[0].close()
    log = read_logs([url], Intake())
    for name in ("log.parquet", "log.jsonl"):
        assert run("logs", "convert", url, "--out", tmp_path / name).exit_code == 0
        again = read_logs([tmp_path / name], Intake(), arms=log.arms)
        assert np.array_equal(again.outcomes, log.outcomes, equal_nan=True)
        assert np.array_equal(again.probabilities, log.probabilities)
        assert again.tenant.tolist() == log.tenant.tolist()
        assert again.resident.tolist() == log.resident.tolist()
        value, once_more = (evaluate(x, one_arm(x, "2")).metrics["quality"].estimates["dr"] for x in (log, again))
        assert value == once_more


def test_logs_check_counts_what_is_not_settled(open_router, tmp_path):
    url = f"sqlite:///{tmp_path}/events.db"
    served(open_router, url, 50)[0].close()
    result = run("logs", "check", url)
    assert result.exit_code == 0
    assert "50 of 50 lines taken, 3 arms, 2 features" in result.stdout
    assert f"10 {UNSETTLED}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("logs", "check", "sqlite:///none.db"), 4, "there is no store at sqlite:///none.db"),
        (("logs", "check", "mysql://u:secret@host/x"), 4, "runs on sqlite:/// and postgresql:// URLs, got mysql"),
        (("replay", "sqlite:///none.db", "--policy", "uniform", "--stream"), 2, "--stream reads Parquet, not a store"),
        (("logs", "check", "postgresql://u:secret@127.0.0.1:1/x"), 5, "the store is not available"),
    ],
)
def test_what_is_no_store_is_said_without_the_password(arguments, code, message):
    result = run(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert "secret" not in result.stderr


def test_an_empty_store_has_no_usable_line(open_router, url):
    open_router(url, context=1).close()
    with pytest.raises(InvalidLog, match="no usable line"):
        read_logs([url], Intake())


def test_a_password_is_not_shown():
    assert shown("postgresql://me:secret@host/name") == "postgresql://me@host/name"
    assert shown("sqlite:////var/events.db") == "sqlite:////var/events.db"
