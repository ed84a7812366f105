"""Windows that close: however many at once, whatever arrives meanwhile, and never over rewards that came in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc

from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.settling.rules import RewardRule
from bandit_router.store.ledger import Ledger
from support.databases import count, locked, query

OpenRouter = Callable[..., Router]
X = [1.0, 0.0, 0.0]
LATER_S = RewardRule().window_s + 3600.0


def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def decide(router: Router, count: int, *, apart_s: float = 0.0) -> None:
    for number in range(count):
        router.clock.now += apart_s
        router.decide(X, event_id=f"e{number}")
    router.flush()


def settled(url: str) -> int:
    return len(query(url, "SELECT 1 FROM log WHERE NOT learned"))


@pytest.mark.parametrize("apart_s", [0.0, 1e-3])
@pytest.mark.parametrize("windows", [999, 1000, 1001, 5000])
def test_any_number_of_windows_closes_at_one_tick(
    windows: int, apart_s: float, url: str, open_router: OpenRouter
) -> None:
    router = open_router(url)
    decide(router, windows, apart_s=apart_s)
    router.clock.now += LATER_S
    router.decide(X, event_id="new")
    assert router.observe("new", Outcome(quality=0.5)).reward == 0.5
    until(lambda: router.learner.position == windows + 1)
    assert settled(url) == windows
    assert router.counters["settled_expired"] == windows
    assert router.counters["store_errors"] == 0


def test_a_backlog_closes_after_a_restart(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    decide(first, 1500)
    first.close()
    second = open_router(url)
    second.clock.now += LATER_S
    until(lambda: second.learner.position == 1500)
    assert settled(url) == 1500


def test_rewards_are_counted_between_the_pages_of_a_backlog(url: str, open_router: OpenRouter) -> None:
    router = open_router(url)
    decide(router, 4000)
    pages: list[int] = []
    close = router.events._writer.committer.close_windows

    def a_reward_comes(now_s: float) -> bool:
        done = bool(close(now_s))
        if router.learner.position > len(pages):
            pages.append(router.learner.position)
            assert router.events._submit(reward(len(pages))) is not None
        return done

    def reward(number: int) -> Any:
        router.decide(X, event_id=f"new{number}")
        return router._reward(f"new{number}", Outcome(quality=0.5))

    router.events._writer.committer.close_windows = a_reward_comes
    router.clock.now += LATER_S
    until(lambda: len(pages) >= 4 and router.learner.position == 4000 + len(pages))
    learned = [row.position for row in query(url, "SELECT position FROM log WHERE learned ORDER BY position")]
    assert learned[:3] == [1001, 2002, 3003]


def test_a_decision_that_is_written_between_two_pages_is_not_passed_over(url: str, open_router: OpenRouter) -> None:
    one, two = open_router(url), open_router(url)
    one.events._writer._next_tick = float("inf")
    one.flush()
    decide(one, 1500)
    committer, later_s = one.events._writer.committer, one.clock.now + LATER_S
    assert not committer.close_windows(later_s)
    two.decide(X, event_id="a")  # of the same moment, and before all others in the order of ids
    two.flush()
    while not committer.close_windows(later_s):
        pass
    assert settled(url) == 1501


def test_rewards_that_waited_in_the_queue_for_longer_than_the_window_count(
    tmp_path: Path, open_router: OpenRouter
) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    rule = RewardRule(window_s=100.0, default=Outcome(quality=0.0))
    router = open_router(url, rewards=rule)
    router.events.settings.wait_s = 0.0
    spool = router.events._spool
    with locked(url):
        for number in range(20):
            router.decide(X, event_id=f"e{number}")
        until(lambda: len(spool._back.items) == 20)
        assert all(router.observe(f"e{number}", Outcome(quality=1.0)).pending for number in range(20))
        router.clock.now += 200.0
        router.events._writer._next_tick = 0.0
    until(lambda: router.learner.position == 20)
    assert [row.reward for row in query(url, "SELECT reward FROM log")] == [1.0] * 20
    assert count(url, "quarantine") == 0


def test_after_an_outage_windows_wait_for_the_queues_of_other_processes(url: str, open_router: OpenRouter) -> None:
    rule = RewardRule(window_s=100.0, default=Outcome(quality=0.0))
    one, two = (open_router(url, rewards=rule) for _ in range(2))
    one.decide(X, event_id="e")
    one.flush()
    two.events.settings.wait_s = 0.0

    @contextmanager
    def away(ledger: Ledger) -> Iterator[Any]:
        raise exc.OperationalError("UPDATE head", {}, Exception("away"))
        yield

    back = two.events._writer.ledger
    with pytest.MonkeyPatch.context() as other:
        other.setattr(back, "writing", lambda: away(back), raising=False)
        with pytest.MonkeyPatch.context() as both:
            both.setattr(Ledger, "writing", away)
            assert two.observe("e", Outcome(quality=1.0)).pending
            until(lambda: not one.healthy and not two.healthy)
            for router in (one, two):
                router.clock.now += 200.0
        until(lambda: one.healthy)
        ticks = one.events._writer._next_tick
        until(lambda: one.events._writer._next_tick > ticks)
    until(lambda: two.learner.position == 1)
    assert [row.reward for row in query(url, "SELECT reward FROM log")] == [1.0]
