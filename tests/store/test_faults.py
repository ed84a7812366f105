"""Databases that fail: decisions go on while they do, and what was promised is kept.

Every test decides while the fault is there, so it ends only if no decision waits for the fault to end. How long
decisions take is measured by `benchmarks.store`.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg import errors
from sqlalchemy import exc

from bandit_router.errors import StoreUnavailable
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import group
from bandit_router.store.faults import is_outage
from bandit_router.store.ledger import Ledger
from conftest import execute
from support.databases import count, locked, query
from support.postgres import Postgres

OpenRouter = Callable[..., Router]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/events.db"


def decide(router: Router, count: int, prefix: str) -> None:
    """Decide `count` events, none of them degraded."""
    for number in range(count):
        assert not router.decide([1.0, 0.0, float(number)], event_id=f"{prefix}{number}").degraded


def recovers(router: Router, url: str, decisions: int) -> None:
    """Wait until everything decided is in the database."""
    for _ in range(1000):
        with suppress(exc.OperationalError):  # a slow start: the tables are not there yet
            if router.healthy and count(url, "decisions") == decisions:
                return
        time.sleep(0.02)
    raise AssertionError((router.counters, count(url, "decisions")))


@contextmanager
def failing(error: Exception) -> Iterator[None]:
    """Every transaction fails with this error."""
    with pytest.MonkeyPatch.context() as patch:

        def fail(_: Ledger) -> None:
            raise error

        patch.setattr(Ledger, "writing", fail)
        yield


def operational(message: str) -> Exception:
    return exc.OperationalError("UPDATE head", {}, sqlite3.OperationalError(message))


@pytest.mark.parametrize(
    "error",
    [
        operational("database or disk is full"),
        operational("attempt to write a readonly database"),
        operational("disk I/O error"),
        OSError(28, "No space left on device"),
    ],
)
def test_decisions_outlive_a_failing_database(error: Exception, sqlite_url: str, open_router: OpenRouter) -> None:
    """Decisions go on while the database fails and are written when it is back."""
    router = open_router(sqlite_url, store={"wait_s": 0.2})
    decide(router, 5, "before")
    recovers(router, sqlite_url, 5)
    with failing(error):
        decide(router, 20, "during")
        assert router.observe("before0", Outcome(quality=0.5)).pending
        assert router.observe("during0", Outcome(quality=0.5)).pending
        assert router.counters["store_errors"] >= 1
    recovers(router, sqlite_url, 25)
    for _ in range(200):
        if router.learner.position == 2:
            break
        time.sleep(0.01)
    assert router.policy.steps == 2
    assert router.counters["shed_decisions"] == 0


@pytest.mark.slow
def test_a_full_disk_is_survived_for_real(tmp_path: Path) -> None:
    """The database is limited to a few pages, so that SQLite itself says that the disk is full."""
    code = """
import sqlite3, sys, time
from bandit_router.routing.router import Arm, Outcome, Router
from bandit_router.store import Store
from bandit_router.store import engine

connect = engine._on_connect_sqlite
engine._on_connect_sqlite = lambda e, settings: connect(e, (*settings, "max_page_count=60"))
store = Store(sys.argv[1], wait_s=0.2, queue_bytes=1 << 16)
router = Router(arms=[Arm(id="a"), Arm(id="b")], context=64, policy="LinUCB", store=store)
for number in range(3000):
    assert not router.decide([float(number)] * 64, event_id=str(number)).degraded
    if number % 100 == 0:
        time.sleep(0.01)
print(router.counters["store_errors"] > 0, router.counters["shed_decisions"] > 0, router.healthy)
import os
os._exit(0)
"""
    arguments = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/events.db"]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["True", "True", "False"], result.stderr
    assert "database or disk is full" in result.stderr


def test_a_locked_database_delays_no_decision(sqlite_url: str, open_router: OpenRouter) -> None:
    router = open_router(sqlite_url, store={"wait_s": 0.1})
    decide(router, 5, "before")
    recovers(router, sqlite_url, 5)
    with locked(sqlite_url):
        decide(router, 50, "during")
        assert router.observe("during0", Outcome(quality=0.5)).pending
        with pytest.raises(StoreUnavailable):
            router.pause("small")
    recovers(router, sqlite_url, 55)
    assert router.counters["unconfirmed"] >= 1


def test_a_slow_database_delays_no_decision(sqlite_url: str, open_router: OpenRouter) -> None:
    router = open_router(sqlite_url, store={"wait_s": 0.1})
    commit = Ledger.writing

    @contextmanager
    def slowly(ledger: Ledger) -> Iterator[Any]:
        time.sleep(0.3)
        with commit(ledger) as transaction:
            yield transaction

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "writing", slowly)
        decide(router, 200, "e")
        assert router.observe("e0", Outcome(quality=0.5)).pending
    recovers(router, sqlite_url, 200)


def test_at_the_power_level_a_decision_waits_within_its_bound(sqlite_url: str, open_router: OpenRouter) -> None:
    """At the power level a decision waits for its commit but not beyond its bound."""
    router = open_router(sqlite_url, store={"durability": "power", "bound_s": 2.0})
    router.decide([1.0, 0.0, 0.0], event_id="e")
    assert count(sqlite_url, "decisions") == 1
    router.events.settings.bound_s = 0.05
    with locked(sqlite_url):
        router.decide([1.0, 0.0, 0.0], event_id="f")
    assert router.counters["unconfirmed"] == 1


@pytest.mark.parametrize(
    ("back_pressure", "counter"),
    [("shed", "shed_decisions"), ("block", "shed_decisions"), ("degrade", "degraded_decisions")],
)
def test_a_full_queue_does_what_the_setting_says_and_counts_it(
    back_pressure: str, counter: str, sqlite_url: str, open_router: OpenRouter
) -> None:
    store = {"back_pressure": back_pressure, "queue_bytes": 4096, "bound_s": 0.005, "wait_s": 0.1}
    router = open_router(sqlite_url, store=store, baseline="large")
    recovers(router, sqlite_url, 0)
    with failing(operational("database is locked")):
        decisions = [router.decide([1.0, 0.0, 0.0], event_id=str(number)) for number in range(120)]
        refused = router.observe("119", Outcome(quality=0.5)).refused
    assert router.counters[counter] > 0
    assert any(decision.degraded for decision in decisions) == (back_pressure == "degrade")
    assert all(decision.arm == "large" for decision in decisions if decision.degraded)
    assert refused in ("unavailable", None)
    for _ in range(6000):
        if router.healthy and not len(router.events._spool):
            break
        time.sleep(0.01)
    kept = count(sqlite_url, "decisions")
    assert kept + router.counters["shed_decisions"] == 120
    if back_pressure != "degrade":
        assert router.observe("119", Outcome(quality=0.5)).refused in ("unavailable", "unknown", None)
        assert router.policy.steps == 0


def test_a_blocked_decision_goes_on_when_there_is_room(sqlite_url: str, open_router: OpenRouter) -> None:
    store = {"back_pressure": "block", "queue_bytes": 4096, "bound_s": 10.0}
    router = open_router(sqlite_url, store=store)
    decide(router, 300, "e")
    recovers(router, sqlite_url, 300)
    assert router.counters["shed_decisions"] == 0


def test_a_record_that_no_database_takes_does_not_hold_up_the_others(sqlite_url: str, open_router: OpenRouter) -> None:
    router = open_router(sqlite_url)
    with pytest.MonkeyPatch.context() as patch:
        failing_rows(patch, lambda event_id: event_id == "poison")
        for event_id in ("a", "poison", "b"):
            router.decide([1.0, 0.0, 0.0], event_id=event_id)
        router.flush()
    assert count(sqlite_url, "decisions") == 2
    assert router.counters["failed_records"] == 1
    assert router.observe("b", Outcome(quality=0.5)).reward == 0.5


def test_a_router_starts_without_its_database_and_catches_up_later(
    tmp_path: Path, postgres: Postgres, open_router: OpenRouter
) -> None:
    url = postgres.new_database()
    first = open_router(url)
    for number in range(10):
        first.decide([1.0, 0.0, float(number)], event_id=f"first{number}")
        first.observe(f"first{number}", Outcome(quality=0.5))
    first.close()
    postgres.crash()
    try:
        router = open_router(url, store={"wait_s": 0.3})
        assert router.policy.steps == 0
        decide(router, 10, "without")
        assert router.observe("without0", Outcome(quality=0.5)).pending
    finally:
        postgres.start()
    recovers(router, url, 20)
    for _ in range(200):
        if router.policy.steps == 11:
            break
        time.sleep(0.01)
    assert router.policy.steps == 11


def test_postgresql_may_crash_in_mid_traffic(postgres: Postgres, open_router: OpenRouter) -> None:
    url = postgres.new_database()
    router = open_router(url, store={"wait_s": 0.3})
    decide(router, 10, "before")
    postgres.crash()
    try:
        decide(router, 10, "during")
        assert router.observe("before0", Outcome(quality=0.5)).pending
    finally:
        postgres.start()
    recovers(router, url, 20)
    assert router.observe("before1", Outcome(quality=0.5)).refused is None
    assert router.counters["store_errors"] >= 1


def psycopg_error(name: str, message: str = "") -> Exception:
    error = exc.DBAPIError.instance("INSERT", {"x": 12345.0}, getattr(errors, name)(message), errors.Error)
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg_error("InsufficientPrivilege"), True),
        (psycopg_error("UndefinedTable"), True),
        (psycopg_error("DiskFull"), True),
        (psycopg_error("AdminShutdown"), True),
        (psycopg_error("ReadOnlySqlTransaction"), True),
        (psycopg_error("OperationalError"), True),
        (psycopg_error("ProgramLimitExceeded"), False),
        (psycopg_error("CharacterNotInRepertoire"), False),
        (psycopg_error("DataError"), False),
        (exc.DBAPIError.instance("INSERT", {}, sqlite3.DatabaseError("malformed"), sqlite3.Error), True),
        (exc.DBAPIError.instance("INSERT", {}, sqlite3.IntegrityError("NOT NULL"), sqlite3.Error), False),
        (exc.NoResultFound(), True),
        (OSError(30, "Read-only file system"), True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), False),
        (OverflowError("too large"), False),
    ],
)
def test_an_error_is_an_outage_unless_a_record_can_cause_it(error: Exception, outage: bool) -> None:
    assert is_outage(error) == outage


def failing_rows(patch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    """Decisions of these events cannot be written, on their own account as it looks."""
    original = group.Group._row

    def row(self: Any, decision: Any, payload: bytes) -> Any:
        if fails(decision.event_id):
            raise ValueError(f"no row from {decision.context}")
        return original(self, decision, payload)

    patch.setattr(group.Group, "_row", row)


def test_what_is_left_out_is_kept_and_logged_in_one_line(
    url: str, open_router: OpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """The line has nothing of its context."""
    router = open_router(url)
    with pytest.MonkeyPatch.context() as patch:
        original = group.Group.keep

        def keep(self: Any, reward: Any) -> None:
            if reward.reward_id == "poison":
                raise psycopg_error("ProgramLimitExceeded", "index row size 3088\nDETAIL: (12345)")
            original(self, reward)

        patch.setattr(group.Group, "keep", keep)
        router.decide([12345.0, 0.0, 0.0], event_id="e")
        assert router.observe("e", Outcome(quality=0.5), reward_id="poison").refused == "invalid"
        assert router.observe("e", Outcome(quality=0.5), reward_id="sound").reward == 0.5
    assert router.counters["failed_records"] == router.counters["refused_invalid"] == 1
    assert [row.reason for row in query(url, "SELECT reason FROM quarantine")] == ["failed reward"]
    (line,) = (record.getMessage() for record in caplog.records)
    assert "'e'" in line
    assert "12345" not in line


def test_nothing_is_left_out_when_no_record_at_all_can_be_written(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    with pytest.MonkeyPatch.context() as patch:
        failing_rows(patch, lambda event_id: True)
        decide(router, 20, "e")
        for _ in range(1000):
            if router.counters["store_errors"] >= 3:
                break
            time.sleep(0.01)
        assert not router.healthy
        assert router.counters["failed_records"] == 0
    recovers(router, url, 20)


def test_many_bad_records_among_sound_ones_are_all_found(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    with pytest.MonkeyPatch.context() as patch:
        failing_rows(patch, lambda event_id: event_id.startswith("bad"))
        for number in range(30):
            decide(router, 1, f"good{number}-")
            decide(router, 1, f"bad{number}-")
        router.flush()
    assert count(url, "decisions") == router.counters["failed_records"] == 30
    assert router.observe("good29-0", Outcome(quality=0.5)).reward == 0.5
    assert router.observe("bad29-0", Outcome(quality=0.5)).reward is None


def test_long_ids_do_not_stop_the_writer(postgres: Postgres, open_router: OpenRouter) -> None:
    url = postgres.new_database()
    router = open_router(url)
    rng = np.random.default_rng(0)
    event_id, reward_id = ("".join(map(chr, rng.integers(0x4E00, 0x9FA0, 170))) for _ in range(2))  # 510 bytes each
    router.decide([1.0, 0.0, 0.0], event_id=event_id)
    assert router.observe(event_id, Outcome(quality=0.5), reward_id=reward_id).reward == 0.5
    assert router.observe(event_id, Outcome(quality=0.5), reward_id=f"{reward_id}{reward_id}").refused == "invalid"
    decide(router, 20, "e")
    recovers(router, url, 21)


def test_decisions_are_kept_while_the_table_is_away(url: str, open_router: OpenRouter) -> None:
    router = open_router(url, store={"wait_s": 1.0})
    decide(router, 5, "before")
    recovers(router, url, 5)
    execute(url, "ALTER TABLE decisions RENAME TO elsewhere")
    decide(router, 20, "during")
    assert router.observe("during0", Outcome(quality=0.5)).pending
    assert not router.healthy
    execute(url, "ALTER TABLE elsewhere RENAME TO decisions")
    recovers(router, url, 25)
    assert router.counters["failed_records"] == 0


def test_decisions_are_kept_while_the_file_is_damaged(sqlite_url: str, open_router: OpenRouter) -> None:
    router = open_router(sqlite_url, store={"wait_s": 1.0})
    decide(router, 300, "before")
    recovers(router, sqlite_url, 300)
    execute(sqlite_url, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    good = file.read_bytes()
    file.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
    decide(router, 200, "during")
    for _ in range(1000):
        if not router.healthy:
            break
        time.sleep(0.01)
    with file.open("r+b") as damaged:
        damaged.write(good)
    recovers(router, sqlite_url, 500)
    assert router.counters["failed_records"] == 0
