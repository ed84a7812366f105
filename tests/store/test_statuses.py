"""Pausing, resuming and retiring arms with a store: in force at once, kept, and the same in every process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bandit_router.errors import InvalidInput, StoreUnavailable
from bandit_router.records.arms import Status
from bandit_router.routing.router import Router
from bandit_router.store.ledger import Ledger
from bandit_router.store.statuses import Statuses
from support.databases import locked

OpenRouter = Callable[..., Router]


def status(router: Router) -> Status:
    return router.catalogue.status("small")


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(condition)


def test_a_pause_stands_whatever_the_writer_had_read_before_it(
    url: str, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = open_router(url)
    read, paused = threading.Event(), threading.Event()
    arms = Ledger.arms

    def between(ledger: Ledger) -> Any:
        found = arms(ledger)
        read.set()
        assert paused.wait(10)
        return found

    monkeypatch.setattr(Ledger, "arms", between)
    assert read.wait(10)
    caller = threading.Thread(target=router.pause, args=("small",))
    caller.start()
    eventually(lambda: status(router) is Status.PAUSED)
    paused.set()
    caller.join()
    assert status(router) is Status.PAUSED


def test_a_pause_undone_under_way_is_in_force_on_return(
    url: str, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that the writer undoes under way is in force when it returns."""
    router = open_router(url)
    keep = router.events.set_status

    def undone(arm_id: str, status: str, *, by: str | None) -> None:
        router.catalogue.resume(arm_id)
        keep(arm_id, status, by=by)

    monkeypatch.setattr(router.events, "set_status", undone)
    router.pause("small")
    assert status(router) is Status.PAUSED


@pytest.mark.parametrize("reached", [True, False], ids=["since the start", "not yet"])
def test_a_pause_the_store_could_not_take_is_saved_later(
    reached: bool, tmp_path: Path, open_router: OpenRouter
) -> None:
    """A pause that the store could not take holds here and is saved later."""
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url, store={"wait_s": 0.1})
    if not reached:
        router.close()
    with locked(url):
        router = router if reached else open_router(url, store={"wait_s": 0.1})
        with pytest.raises(StoreUnavailable):
            router.pause("small")
    ledger = Ledger(url, "process", "reader")
    eventually(lambda: ledger.arms()[0][1] == "paused" or status(router) is not Status.PAUSED)
    assert status(router) is Status.PAUSED
    ledger.close()
    assert status(open_router(url)) is Status.PAUSED


def test_no_process_brings_back_an_arm_that_another_has_retired(
    url: str, open_router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_router(url), open_router(url)
    monkeypatch.setattr(Statuses, "follow", lambda *_: None)  # the other process does not know yet
    one.retire("small")
    for change in (two.pause, two.resume, two.retire):
        with pytest.raises(InvalidInput, match="retired"):
            change("small")
        assert status(two) is Status.RETIRED
    one.close()
    assert status(open_router(url)) is Status.RETIRED


def test_two_processes_may_retire_the_same_arm(url: str, open_router: OpenRouter) -> None:
    one, two = open_router(url), open_router(url)
    one.retire("small")
    two.events.set_status("small", "retired")
    assert status(two) is Status.RETIRED


def test_a_pause_does_not_replace_an_unsaved_retirement(tmp_path: Path, open_router: OpenRouter) -> None:
    """A pause on its way does not replace a retirement that is not saved yet."""
    url = f"sqlite:///{tmp_path}/events.db"
    router = open_router(url, store={"wait_s": 0.1})
    with locked(url):
        with pytest.raises(StoreUnavailable):
            router.retire("small")
        with pytest.raises(StoreUnavailable):
            router.events.set_status("small", "paused")
    ledger = Ledger(url, "process", "reader")
    eventually(lambda: ledger.arms()[0][1] != "active")
    assert ledger.arms()[0][1] == "retired"
    ledger.close()
