"""Files and networks that go away, and queues in wrong places: noticed, said, and nothing that was answered is lost."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.settling.rules import RewardRule
from bandit_router.store import spool, writer
from bandit_router.store.engine import place_of
from bandit_router.store.ledger import Head, Ledger
from bandit_router.store.spool import Item
from bandit_router.store.wire import encode_decision
from support.databases import ARMS, Clock, count, locked
from support.postgres import Postgres
from support.proxy import Proxy
from support.routers import make_router

OpenRouter = Callable[..., Router]
X = [1.0, 0.0, 0.0]


def until(condition: Callable[[], Any]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def serve(router: Router, first: int, last: int) -> list[Any]:
    """Decide and reward; what each reward was answered."""
    answers = []
    for number in range(first, last):
        router.decide(X, event_id=f"e{number}")
        answers.append(router.observe(f"e{number}", Outcome(quality=1.0)))
    return answers


def database(url: str) -> list[Path]:
    """The files of a SQLite database."""
    path = url.removeprefix("sqlite:///")
    return [Path(f"{path}{end}") for end in ("", "-wal", "-shm") if os.path.exists(f"{path}{end}")]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/events.db"


# -- the network ---------------------------------------------------------------------------------------------------


def test_a_network_that_swallows_packets_is_an_outage_that_ends(
    postgres: Postgres, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "Ledger", partial(Ledger, patience_s=0.5))
    monkeypatch.setattr("bandit_router.store.engine._MARGIN_S", 0.5)
    with tempfile.TemporaryDirectory() as folder:
        proxy = Proxy(postgres.new_database(), Path(folder))
        router = open_router(proxy.url, store={"wait_s": 0.2})
        router.decide(X, event_id="before")
        proxy.swallow()
        opened = proxy.connections
        router.decide(X, event_id="during")
        until(lambda: router.counters["store_errors"] > 0)
        until(lambda: router.events.healthy)
        assert proxy.connections > opened
        until(lambda: router.observe("during", Outcome(quality=0.5), reward_id="r").refused == "duplicate")
        assert router.policy.steps == 1
        router.close()
        proxy.close()


# -- the database's file -------------------------------------------------------------------------------------------


def test_a_database_file_that_is_deleted_is_an_outage_and_no(
    sqlite_url: str, open_router: OpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """A database file that is deleted is an outage and no answer is lost."""
    router = open_router(sqlite_url, store={"wait_s": 0.5})
    serve(router, 0, 10)
    for file in database(sqlite_url):
        file.unlink()
    answers = serve(router, 10, 60)
    until(lambda: not router.events.healthy)
    assert "is gone; put it, or a backup of it, back" in caplog.text
    assert all(answer.pending for answer in answers)
    router.close()
    assert database(sqlite_url) == []
    second = open_router(sqlite_url)
    assert second.policy.steps == 50


def test_a_database_file_that_is_replaced_by_a_backup_is_opened(sqlite_url: str, open_router: OpenRouter) -> None:
    """A database file that is replaced by a backup is opened and brought up to date."""
    router = open_router(sqlite_url, store={"wait_s": 5.0})
    serve(router, 0, 10)
    router.events.flush()
    with locked(sqlite_url):
        files = [(file, Path(f"{file}.backup")) for file in database(sqlite_url)]
        for file, backup in files:
            shutil.copy(file, backup)
    serve(router, 10, 20)
    for file, backup in files:
        os.replace(backup, file)
    answers = serve(router, 20, 40)
    until(lambda: router.counters["files_replaced"] == 1 and router.events.healthy)
    assert [answer.refused for answer in answers] == [None] * 20
    router.events.flush()
    assert count(sqlite_url, "decisions") == 40
    assert router.policy.steps == 30
    assert router.observe("e10", Outcome(quality=1.0)).reward == 1.0  # it was lost with the file, and counts again


def test_only_the_owner_may_read_what_is_on_disk(sqlite_url: str, open_router: OpenRouter, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        router = open_router(sqlite_url)
        serve(router, 0, 5)
        files = [*database(sqlite_url), *(tmp_path / "spool").iterdir()]
        assert len(files) == 5
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(old)


# -- the queue -----------------------------------------------------------------------------------------------------


def test_a_queue_of_another_database_is_left_alone_and_said(
    tmp_path: Path, open_router: OpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    queue = spool.Spool(folder=tmp_path / "spool", capacity_bytes=1 << 16, owner=place_of(urls[0]))
    made = open_router(urls[0], store={"spool": tmp_path / "other"})
    decision = made.decide(X, event_id="of a")

    queue.offer(Item(decision, encode_decision(decision), None))
    queue.close()  # with a record in it: the files stay, as after a kill
    other = open_router(urls[1])
    assert other.counters["recovered_records"] == 0
    assert "belong to another database and are left alone" in caplog.text
    right = open_router(urls[0])
    assert right.counters["recovered_records"] == 1


def test_a_place_is_where_a_database_is_and_not_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("sqlite:///e.db") == place_of(f"sqlite:///{tmp_path}/e.db") != place_of("sqlite:///f.db")
    one = place_of("postgresql://me:secret@host/name")
    assert one == place_of("postgresql+psycopg://you@host:5432/name")
    assert len({one, place_of("postgresql://host:5433/name"), place_of("postgresql://host/other")}) == 3


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_at_the_start_is_served_through(
    sqlite_url: str, open_router: OpenRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the start is served through and leaves nothing behind."""
    open_files = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        queue = spool.Spool(folder=tmp_path / "alone", capacity_bytes=4096)
        assert list((tmp_path / "alone").iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == open_files
        queue.close()
        patch.setattr(os, "open", full)
        router = open_router(sqlite_url, store={"wait_s": 0.2})
        assert not router.decide(X, event_id="e").degraded
        assert router.events.healthy is False
    until(lambda: router.events.healthy)
    assert router.observe("e", Outcome(quality=0.5), reward_id="r").refused in (None, "duplicate")
    router.events.flush()
    assert count(sqlite_url, "decisions") == 1


def test_a_queue_that_began_in_memory_moves_into_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_AGAIN_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        queue = spool.Spool(folder=tmp_path, capacity_bytes=4096)
        assert queue.in_memory == 2
    for _ in range(3):
        queue.take()
        queue.done()
    assert queue.in_memory == 0
    assert len(list(tmp_path.glob("*.spool"))) == 2
    queue.close()


def test_a_folder_that_cannot_be_written_does_not_keep_a_router(
    sqlite_url: str, open_router: OpenRouter, tmp_path: Path
) -> None:
    """A folder that cannot be written does not keep a router from starting."""
    (tmp_path / "file").write_text("no folder")
    router = open_router(sqlite_url, store={"spool": tmp_path / "file"})
    assert serve(router, 0, 1)[0].reward == 1.0


# -- the clock -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_clock_that_is_set_back_refuses_no_reward(kind: str, sqlite_url: str, open_router: OpenRouter) -> None:
    clock = Clock()
    router = (
        make_router(arms=ARMS, context=3, policy="LinUCB", key=b"k", clock=clock)
        if kind == "memory"
        else open_router(sqlite_url, clock=clock)
    )
    for number in range(20):
        router.decide(X, event_id=f"before{number}")
    clock.now -= 3600.0
    for number in range(20):
        router.decide(X, event_id=f"after{number}")
    answers = [router.observe(f"{when}{n}", Outcome(quality=1.0)) for when in ("before", "after") for n in range(20)]
    assert [answer.reward for answer in answers] == [1.0] * 40
    assert router.policy.steps == 40


def test_transactions_that_were_taken_back_take_nothing_from_a_source(url: str, open_router: OpenRouter) -> None:
    router = open_router(url, store={"wait_s": 0.2}, rewards=RewardRule(per_source=3))
    for number in range(4):
        router.decide(X, event_id=str(number))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Head, "write", fail)
        assert router.observe("0", Outcome(quality=1.0), source="client").pending
        until(lambda: router.counters["store_errors"] >= 4)
    for number in range(1, 4):
        router.observe(str(number), Outcome(quality=1.0), source="client")
    until(lambda: router.counters["settled"] + router.counters["refused_too_many"] == 4)
    assert router.counters["refused_too_many"] == 1
