"""The durable store behind a router, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import create_engine, text

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, Outcome
from bandit_router.routing.router import Router
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import RewardRule
from bandit_router.store import Store
from bandit_router.store.ledger import Ledger

OpenRouter = Callable[..., Router]


def serve(router: Router, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for number in range(count):
        event_id = f"{seed}-{number}"
        router.decide(rng.normal(size=3), event_id=event_id)
        assert router.observe(event_id, Outcome(quality=rng.random(), cost_usd=rng.random())).refused is None


def same_state(one: Learner, other: Learner) -> bool:
    (position, state), (other_position, other_state) = one.capture(), other.capture()
    return position == other_position and all(
        state[name].tobytes() == other_state[name].tobytes() for name in state.keys() | other_state.keys()
    )


def rows(router: Router, table: str) -> list[Any]:
    router.flush()
    url = router.events.settings.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(connection.execute(text(f"SELECT * FROM {table}")).mappings())
    engine.dispose()
    return found


def test_a_restarted_router_stands_at_the_same_bytes(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    serve(first, 30)
    first.close()
    second = open_router(url)
    assert second.learner.position == 30
    assert same_state(first.learner, second.learner)


def test_a_rebuild_from_the_log_alone_gives_the_same_bytes(url: str, open_router: OpenRouter) -> None:
    first = open_router(url, store={"snapshot_every": 7})
    serve(first, 20)
    first.add_arm(Arm(id="new"), like="small", strength=3.0)
    serve(first, 20, seed=1)
    first.close()
    assert first.counters["snapshots"] >= 2
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        assert connection.execute(text("DELETE FROM snapshots WHERE position > 0")).rowcount >= 2
    engine.dispose()
    assert same_state(first.learner, open_router(url).learner)


def test_a_decision_is_the_same_after_a_restart(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    serve(first, 5)
    made = first.decide([0.5, -1.0, 2.0], event_id="e", penalty={"small": 0.25}, eligible=["small", "large"])
    serve(first, 5, seed=1)
    first.close()
    again = open_router(url).decide([9.0, 9.0, 9.0], event_id="e")
    assert (again.arm, again.propensity, again.state_version) == (made.arm, made.propensity, made.state_version)
    for name in ("context", "probabilities", "eligible", "penalty"):
        assert getattr(again, name).tobytes() == getattr(made, name).tobytes()


def test_a_reward_reported_to_two_processes_is_counted_once(url: str, open_router: OpenRouter) -> None:
    one, two = open_router(url), open_router(url)
    one.decide([1.0, 0.0, 0.0], event_id="e")
    one.flush()
    assert two.observe("e", Outcome(quality=0.5)).reward == 0.5
    assert one.observe("e", Outcome(quality=0.5)).refused == "duplicate"
    assert len(rows(one, "log")) == 1


def test_what_one_process_settles_the_other_learns_in_the_same_order(url: str, open_router: OpenRouter) -> None:
    one, two = open_router(url), open_router(url)
    for seed, router in enumerate([one, two, one, two]):
        serve(router, 10, seed=seed)
    serve(one, 1, seed=9)
    serve(two, 1, seed=10)
    one.add_arm(Arm(id="last"))
    two.add_arm(Arm(id="very last"))
    one.flush()
    one.set_prices({})
    one.pause("small")
    assert two.learner.position == 44
    one.close()
    two.close()
    assert same_state(open_router(url).learner, two.learner)


def test_processes_that_decide_one_event_differently_never_learn_from_it(url: str, open_router: OpenRouter) -> None:
    one = open_router(url, policy="Fixed", settings={"arm": 0}, key=b"one")
    two = open_router(url, policy="Fixed", settings={"arm": 1}, key=b"two")
    assert one.decide([1.0, 0.0, 0.0], event_id="e").arm != two.decide([1.0, 0.0, 0.0], event_id="e").arm
    one.flush()
    two.flush()
    assert one.observe("e", Outcome(quality=1.0)).refused == "settled"
    (entry,) = rows(one, "log")
    assert not entry["learned"]
    assert one.counters["conflicting_decisions"] + two.counters["conflicting_decisions"] == 1


def test_windows_close_by_themselves_at_the_default(url: str, open_router: OpenRouter) -> None:
    rule = RewardRule(window_s=0.2, default=Outcome(quality=0.25))
    router = open_router(url, rewards=rule)
    router.decide([1.0, 0.0, 0.0], event_id="e")
    router.flush()
    router.clock.now += 1.0
    for _ in range(200):
        if router.learner.position:
            break
        router.events._writer._stop.wait(0.01)
    (entry,) = rows(router, "log")
    assert (entry["reward"], bool(entry["learned"])) == (0.25, True)
    assert router.observe("e", Outcome(quality=1.0)).refused == "late"


def test_refused_rewards_are_kept_with_their_reason(url: str, open_router: OpenRouter) -> None:
    router = open_router(url, rewards=RewardRule(window_s=10.0), store={"early_s": 0.0})
    router.decide([1.0, 0.0, 0.0], event_id="e")
    assert router.observe("nobody", Outcome(quality=0.5)).refused == "unknown"
    assert router.observe("e", Outcome(quality=2.0)).refused == "out_of_range"
    assert router.observe("e", Outcome(quality=float("nan"))).refused == "invalid"
    router.clock.now += 20.0
    assert router.observe("e", Outcome(quality=0.5)).refused == "late"
    assert [row["reason"] for row in rows(router, "quarantine")] == ["unknown", "out_of_range", "invalid", "late"]
    assert router.observe("a\0b", Outcome(quality=0.5)).refused == "invalid"


def test_an_early_reward_meets_its_decision_from_another_process(url: str, open_router: OpenRouter) -> None:
    one, two = open_router(url), open_router(url)
    assert one.observe("e", Outcome(quality=0.5)).pending
    assert one.observe("e", Outcome(quality=0.5)).pending
    two.decide([1.0, 0.0, 0.0], event_id="e")
    two.flush()
    assert len(rows(one, "log")) == len(rows(one, "rewards")) == 1
    assert rows(one, "early") == []


def test_partial_outcomes_merge_across_a_restart(url: str, open_router: OpenRouter) -> None:
    priced = {"cost_usd": 1.0}
    first = open_router(url, prices=priced)
    first.decide([1.0, 0.0, 0.0], event_id="e")
    assert first.observe("e", Outcome(cost_usd=0.25)).pending
    first.close()
    second = open_router(url, prices=priced)
    assert second.observe("e", Outcome(cost_usd=0.5)).refused == "duplicate"
    assert second.observe("e", Outcome(quality=1.0)).reward == 0.75


def test_another_policy_learns_from_the_whole_log(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    serve(first, 25)
    first.close()
    second = open_router(url, policy="EpsilonGreedy")
    assert (second.learner.position, second.policy.steps) == (25, 25)


def test_a_wrapped_policy_runs_with_the_settings_it_was_opened_with(url: str, open_router: OpenRouter) -> None:
    first = open_router(url, policy="DriftLinUCB", settings={"alpha": 0.1})
    serve(first, 5)
    first.close()
    second = open_router(url, policy="DriftLinUCB", settings={"alpha": 2.0, "ridge": 5.0})
    assert {"alpha": 2.0, "ridge": 5.0}.items() <= second.policy.settings().items()
    assert (second.learner.position, second.policy.steps) == (5, 5)


def test_a_log_older_than_a_channel_is_learned_with_it_null(url: str, open_router: OpenRouter) -> None:
    """A log from before a channel existed is learned with that channel null."""
    first = open_router(url, channels=[name for name in CHANNELS if name != "gpu_s"])
    serve(first, 10)
    first.close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for position, body in connection.execute(text("SELECT position, body FROM log")).all():
            outcome, status = msgspec.msgpack.decode(body)
            before = {name: outcome.get(name) for name in CHANNELS if name != "gpu_s"}
            old = {"body": msgspec.msgpack.encode([before, status]), "position": position}
            connection.execute(text("UPDATE log SET body = :body, crc = NULL WHERE position = :position"), old)
    engine.dispose()
    learner = open_router(url).learner
    assert (learner.position, learner.skipped) == (10, 0)
    assert dict(zip(CHANNELS, learner.metered.tolist(), strict=True))["gpu_s"] == 0
    assert np.array_equal(
        learner.policy.estimate([1.0, 0, 0]).mean[:, 0], first.policy.estimate([1.0, 0, 0]).mean[:, 0]
    )


def test_an_arm_that_cannot_be_added_leaves_a_store_that_opens_again(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    with pytest.raises(InvalidInput, match="strength"):
        first.add_arm(Arm(id="new"), like="small", strength=0.0)
    first.close()
    second = open_router(url)
    assert (second.policy.n_arms, second.learner.position) == (3, 0)


def test_arms_are_added_at_the_end_and_keep_their_status(url: str, open_router: OpenRouter) -> None:
    first = open_router(url)
    first.add_arm(Arm(id="new"))
    first.pause("small")
    first.close()
    second = open_router(url)
    assert second.catalogue.ids == ("small", "large", "adapter", "new")
    assert second.catalogue.status("small").value == "paused"
    second.close()
    grown = [*(Arm(id=i) for i in ("small", "large", "adapter", "new")), Arm(id="newest")]
    third = open_router(url, arms=grown)
    assert (third.policy.n_arms, third.learner.position) == (5, 2)
    with pytest.raises(InvalidInput, match="keep the order"):
        open_router(url, arms=[Arm(id="large"), Arm(id="small")])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_restarts_at_the_same_bytes(name: str, tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/{name}.db"
    first = open_router(url, policy=name, store={"snapshot_every": 5})
    serve(first, 8)
    first.close()
    second = open_router(url, policy=name)
    serve(second, 4, seed=1)
    second.close()
    assert same_state(second.learner, open_router(url, policy=name).learner)


def test_the_async_verbs_leave_the_event_loop_free(url: str, open_router: OpenRouter) -> None:
    router = open_router(url, store={"durability": "power", "bound_s": 30.0, "wait_s": 30.0})
    writing, may_write = Ledger.writing, threading.Event()

    @contextmanager
    def held(ledger: Ledger) -> Iterator[Any]:
        may_write.wait(30.0)
        with writing(ledger) as transaction:
            yield transaction

    async def one(number: int) -> float | None:
        await router.adecide([1.0, 0.0, 0.0], event_id=str(number))
        return (await router.aobserve(str(number), Outcome(quality=0.5))).reward

    async def serve_all() -> list[float | None]:
        tasks = [asyncio.create_task(one(number)) for number in range(40)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)  # all of them wait, and still the loop came round to here
        may_write.set()
        return await asyncio.gather(*tasks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "writing", held)
        assert asyncio.run(serve_all()) == [0.5] * 40
    assert router.counters["unconfirmed"] == 0


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("mysql://host/db", {"durability": "relaxed"}, "sqlite:/// and postgresql://"),
        ("postgresql://host/db", {}, "spool="),
        ("sqlite:///:memory:", {}, "spool="),
        ("sqlite:///x.db", {"durability": "eternal"}, "durability must be one of"),
        ("sqlite:///x.db", {"back_pressure": "panic"}, "back_pressure must be one of"),
        ("sqlite:///x.db", {"queue_bytes": 10}, "at least 4096"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    url: str, settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        Router(arms=[Arm(id="a")], context=1, store=Store(url, **settings))
