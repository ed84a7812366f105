"""What a store lets go, and rows that are damaged: the fold stays what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_lost import run, tick
from test_store import same_state

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.ledger import Ledger
from bandit_router.store.retention import Prune
from conftest import execute
from support.databases import count, query

OpenRouter = Callable[..., Router]
TABLES = ("decisions", "rewards", "log", "quarantine", "early")


def serve(router: Router, first: int, last: int, **terms: Any) -> None:
    for number in range(first, last):
        router.decide([1.0, 0.0, float(number % 7)], event_id=f"e{number}", **terms)
        router.observe(f"e{number}", Outcome(quality=number % 5 / 5))
    router.events.flush()


def prune(url: str, before_s: float) -> Prune:
    ledger = Ledger(url, "power", "test")
    work = Prune(ledger, before_s, key=None)
    work.begin()
    while work.page():
        pass
    ledger.close()
    return work


def test_what_is_old_goes_and_what_was_learned_stays(url: str, open_router: OpenRouter) -> None:
    first = open_router(url, store={"snapshot_every": 30})
    serve(first, 0, 100)
    first.observe("nobody", Outcome(quality=7.0))
    first.clock.now += 10_000.0
    serve(first, 100, 150)
    first.close()
    work = prune(url, 1_004_000.0)
    assert work.held_by is None
    assert query(url, "SELECT origin FROM head") == [(100,)]
    assert [count(url, table) for table in TABLES] == [50, 50, 50, 0, 0]
    second = open_router(url)
    assert second.learner.position == 150
    assert same_state(first.learner, second.learner)
    serve(second, 150, 160)
    second.close()
    assert "equals the fold" in run("verify", url).output
    run("rebuild", url)
    third = open_router(url)
    assert same_state(second.learner, third.learner)


def test_the_log_is_kept_for_a_policy_that_has_no_newer_snapshot(url: str, open_router: OpenRouter) -> None:
    first = open_router(url, store={"snapshot_every": 10**6})
    serve(first, 0, 40)
    work = prune(url, 1_010_000.0)
    assert "LinUCB" in str(work.held_by)
    assert count(url, "log") == 40
    first.close()  # takes a snapshot
    assert prune(url, 1_010_000.0).held_by is None
    assert [count(url, table) for table in TABLES] == [0, 0, 0, 0, 0]
    second = open_router(url)
    assert same_state(first.learner, second.learner)
    other = open_router(url, policy="LinTS")
    assert (other.learner.position, other.policy.steps) == (40, 0)
    serve(other, 100, 110)
    other.close()
    assert open_router(url, policy="LinTS").policy.steps == 10


def test_an_arm_added_before_the_log_begins_is_there(url: str, open_router: OpenRouter) -> None:
    from bandit_router.records.arms import Arm

    first = open_router(url)
    first.add_arm(Arm(id="new"))
    serve(first, 0, 20)
    first.close()
    prune(url, 1_010_000.0)
    assert open_router(url, policy="LinTS").policy.n_arms == 4
    assert same_state(first.learner, open_router(url).learner)


def test_a_live_process_goes_on_over_a_prune(url: str, open_router: OpenRouter) -> None:
    router, other = open_router(url, store={"snapshot_every": 10}), open_router(url)
    serve(router, 0, 55)
    tick(other)
    prune(url, 1_010_000.0)
    assert query(url, "SELECT origin FROM head")[0][0] >= 50
    tick(router)
    tick(other)
    serve(router, 55, 70)
    tick(other)
    assert router.counters["log_restarts"] == other.counters["log_restarts"] == 0
    assert same_state(router.learner, other.learner)


def test_a_process_that_is_behind_the_beginning_of_the_log(url: str, open_router: OpenRouter) -> None:
    """A process that is behind the beginning of the log starts from a snapshot."""
    router, behind = open_router(url, store={"snapshot_every": 10}), open_router(url)
    behind.events._writer._next_tick = float("inf")
    serve(router, 0, 55)
    prune(url, 1_010_000.0)
    tick(behind)
    assert same_state(router.learner, behind.learner)
    assert behind.counters["store_errors"] == 0


def test_retention_keeps_every_table_bounded(
    url: str, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bandit_router.store.writer._PRUNE_S", 0.0)
    router = open_router(url, store={"snapshot_every": 20, "retention_s": 5000.0})
    most = 0
    for start in range(0, 600, 100):
        serve(router, start, start + 100)
        for number in range(30):
            router.observe(f"e{start}", Outcome(quality=0.1), reward_id=f"again{number}")
            router.observe(f"nobody{start}-{number}", Outcome(quality=0.1))
        router.clock.now += 4000.0
        for _ in range(3):
            tick(router)
        most = max(most, max(count(url, table) for table in TABLES))
    assert most <= 320
    assert router.policy.steps == 600
    router.close()
    assert same_state(router.learner, open_router(url).learner)


def test_retention_is_part_of_a_stores_settings(tmp_path: Path) -> None:
    assert Store(f"sqlite:///{tmp_path}/e.db", retention_s=60.0).retention_s == 60.0
    with pytest.raises(InvalidInput, match="retention_s must be at least 0"):
        Store(f"sqlite:///{tmp_path}/e.db", retention_s=-1.0)


def test_the_command_drops_what_closed_before_a_day(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    serve(router, 0, 10)
    router.close()
    shown = json.loads(run("prune", url, "--before", "1980-01-01", "--vacuum", "--json").stdout)
    assert (shown["dropped"]["log"], shown["dropped"]["decisions"], shown["held_by"]) == (10, 10, None)
    assert "must be in the past" in run("prune", url, "--before", "2999-01-01", code=4).output
    assert same_state(router.learner, open_router(url).learner)


def test_a_forgotten_unit_leaves_no_trace_and_the_others_stay(tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url)
    serve(router, 0, 10, unit="alice-unit")
    serve(router, 10, 20, unit="bob-unit")
    assert "run `bandit-router state rebuild`" in run("forget", url, "--unit", "alice-unit", code=4).output
    router.close()
    run("rebuild", url)
    assert json.loads(run("forget", url, "--unit", "alice-unit", "--json").stdout) == {"decisions": 10}
    left = b"".join(file.read_bytes() for file in tmp_path.glob("events.db*") if file.is_file())
    assert b"alice-unit" not in left
    assert b"bob-unit" in left
    assert [count(url, table) for table in TABLES] == [10, 10, 10, 0, 0]
    again = open_router(url)
    assert same_state(router.learner, again.learner)
    serve(again, 20, 25)
    again.close()
    run("verify", url)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE log SET reward = 0.25 WHERE position = 4",
        "UPDATE log SET learned = NOT learned WHERE position = 4",
        "UPDATE log SET event_id = 'e3x' WHERE position = 4",
        "UPDATE log SET replica = 'other' WHERE position = 4",
        "UPDATE decisions SET record = (SELECT record FROM decisions WHERE event_id = 'e5') WHERE event_id = 'e3'",
    ],
)
def test_a_row_that_is_readable_but_not_what_was_written(damage: str, url: str, open_router: OpenRouter) -> None:
    """A row that is readable but not what was written is found and repaired."""
    first = open_router(url)
    serve(first, 0, 10)
    first.close()
    execute(url, damage)
    execute(url, "DELETE FROM snapshots WHERE position > 0")
    second = open_router(url)
    assert (second.learner.position, second.policy.steps) == (10, 9)
    second.close()
    assert "log entry 4 cannot be read" in run("verify", url, code=3).output
    assert json.loads(run("repair", url, "--json").stdout) == {"lost": [4]}
    run("verify", url)


@pytest.mark.parametrize("table", ["rewards", "early"])
def test_a_damaged_reward_does_not_hold_up_the_others(table: str, url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    router.decide([1.0, 0.0, 0.0], event_id="e")
    router.observe("e" if table == "rewards" else "later", Outcome(cost_usd=0.1))
    router.events.flush()
    column = "outcome" if table == "rewards" else "reward"
    other = "SELECT record FROM decisions WHERE event_id = 'e'"
    execute(url, f"UPDATE {table} SET {column} = ({other})")
    router.decide([1.0, 0.0, 0.0], event_id="later")
    assert router.observe("e", Outcome(quality=0.5)).reward == 0.5
    assert router.observe("later", Outcome(quality=0.5)).reward == 0.5
    assert router.counters["store_errors"] == router.counters["failed_records"] == 0


def test_a_database_from_before_checksums_is_brought_up_to_date(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    serve(first, 0, 10)
    first.close()
    for table, column in (("log", "crc"), ("decisions", "crc"), ("head", "origin")):
        execute(url, f"ALTER TABLE {table} DROP COLUMN {column}")
    execute(url, "UPDATE schema_version SET version = 3")
    execute(url, "DELETE FROM snapshots WHERE position > 0")
    second = open_router(url)
    assert same_state(first.learner, second.learner)
    serve(second, 10, 20)
    assert second.policy.steps == 20
