"""Databases that have lost something: commits, decisions, bytes. Nothing that is left becomes unreadable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from test_store import same_state
from typer.testing import CliRunner

from bandit_router.cli.state import app
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from conftest import execute
from support.databases import count, query

OpenRouter = Callable[..., Router]
ORPHANS = "SELECT 1 FROM log LEFT JOIN decisions USING (event_id) WHERE kind = 'settled' AND decisions.event_id IS NULL"


def serve(router: Router, count: int, prefix: str) -> None:
    for number in range(count):
        router.decide([1.0, 0.0, float(number)], event_id=f"{prefix}{number}")
        assert router.observe(f"{prefix}{number}", Outcome(quality=number / count)).refused is None


def tick(router: Router) -> None:
    router.events._writer._next_tick = 0.0
    for _ in range(2):
        router.flush()


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_a_reward_writes_the_remembered_decision(url: str, open_router: OpenRouter) -> None:
    """A reward writes the remembered decision that the database has lost."""
    router = open_router(url)
    decision = router.decide([1.0, 0.0, 0.0], event_id="e")
    router.flush()
    execute(url, "DELETE FROM decisions")
    assert router.observe("e", Outcome(quality=0.5)).reward == 0.5
    assert [row.arm for row in query(url, "SELECT arm FROM decisions")] == [decision.arm]
    assert query(url, ORPHANS) == []
    router.close()
    assert same_state(router.learner, open_router(url).learner)


def test_a_reward_of_a_decision_that_nobody_remembers_is_refused(url: str, open_router: OpenRouter) -> None:
    first, second = open_router(url, store={"early_s": 0.0}), open_router(url, store={"early_s": 0.0})
    first.decide([1.0, 0.0, 0.0], event_id="e")
    first.flush()
    execute(url, "DELETE FROM decisions")
    assert second.observe("e", Outcome(quality=0.5)).refused == "unknown"
    assert count(url, "log") == 0


def test_a_decision_that_differs_in_the_database_is_a_conflict(url: str, open_router: OpenRouter) -> None:
    """For the rewards of either."""
    router, other = open_router(url), open_router(url)
    arm = router.decide([1.0, 0.0, 0.0], event_id="e").arm
    router.flush()
    execute(url, "DELETE FROM decisions")
    other.decide([1.0, 0.0, 0.0], event_id="e", eligible=["large" if arm == "small" else "small"])
    other.flush()
    assert router.observe("e", Outcome(quality=0.5)).refused == "settled"
    assert router.counters["conflicting_decisions"] == 1
    assert router.policy.steps == 0


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM decisions WHERE event_id = 'e3'",
        "UPDATE log SET body = decisions.record FROM decisions WHERE position = 4",
    ],
)
def test_an_entry_that_cannot_be_read_is_skipped_reported_and_repaired(
    damage: str, url: str, open_router: OpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_router(url, store={"snapshot_every": 4})
    serve(first, 10, "e")
    first.close()
    execute(url, damage)
    execute(url, "DELETE FROM snapshots WHERE position > 0")
    second = open_router(url)
    assert (second.learner.position, second.policy.steps) == (10, 9)
    tick(second)
    assert second.counters["unreadable_entries"] == 1
    assert [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()] != []
    serve(second, 3, "new")
    second.close()
    assert "log entry 4 cannot be read" in run("verify", url, code=3).output
    assert "log entry 4 cannot be read" in run("rebuild", url).output
    assert json.loads(run("repair", url, "--json").stdout) == {"lost": [4]}
    assert json.loads(run("repair", url, "--json").stdout) == {"lost": []}
    run("verify", url)
    third = open_router(url)
    assert same_state(second.learner, third.learner)
    assert third.observe("e3", Outcome(quality=0.5)).reward is None
    assert third.learner.position == 13


def test_repair_drops_snapshots_that_learned_what_is_lost(url: str, open_router: OpenRouter) -> None:
    with open_router(url, store={"snapshot_every": 4}) as router:
        serve(router, 10, "e")
    execute(url, "DELETE FROM decisions WHERE event_id = 'e3'")
    run("verify", url, code=3)
    run("repair", url)
    run("verify", url)
    assert open_router(url).policy.steps == 9


def go_back(url: str, position: int, lost: str) -> None:
    """What a failover leaves that has lost the last commits."""
    execute(url, f"DELETE FROM log WHERE position > {position}")
    for table in ("decisions", "rewards"):
        execute(url, f"DELETE FROM {table} WHERE event_id LIKE '{lost}%'")
    execute(url, f"UPDATE head SET position = {position}")


def restarted(router: Router) -> None:
    for _ in range(500):
        tick(router)
        if router.counters["log_restarts"]:
            return
        time.sleep(0.01)
    raise AssertionError(router.counters)


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_router_notices_that_its_database_has_gone_back(
    overtaken: bool, url: str, open_router: OpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    router = open_router(url)
    serve(router, 10, "kept")
    serve(router, 5, "lost")
    router.decide([1.0, 0.0, 0.0], event_id="lost-open")
    router.pause("adapter")
    router.events._writer._next_tick = float("inf")
    router.flush()
    go_back(url, 10, "lost")
    execute(url, "UPDATE arms SET status = 'active'")
    if overtaken:
        other = open_router(url)
        serve(other, 8, "other")
        other.close()
    restarted(router)
    assert router.counters["log_restarts"] == 1
    assert any("older than what was read" in record.getMessage() for record in caplog.records)
    assert router.learner.position == (18 if overtaken else 10)
    assert count(url, "decisions") == (24 if overtaken else 16)
    assert router.healthy
    assert router.learner.catalogue.status("adapter").value == "paused"
    assert router.observe("lost-open", Outcome(quality=0.5)).reward == 0.5
    assert router.observe("lost0", Outcome(quality=0.5)).reward == 0.5
    assert query(url, ORPHANS) == []
    router.close()
    assert same_state(router.learner, open_router(url).learner)


def test_a_reward_is_right_even_before_the_router_notices(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    serve(router, 10, "kept")
    serve(router, 5, "lost")
    router.events._writer._next_tick = float("inf")
    router.flush()
    go_back(url, 10, "lost")
    serve(router, 8, "new")
    assert query(url, ORPHANS) == []
    router.flush()
    assert router.counters["log_restarts"] == 1
    router.close()
    assert same_state(router.learner, open_router(url).learner)
