"""Replicas that share by deltas: exact merging, each delta once, few syncs, little regret."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import LinUCB
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Sharing
from bandit_router.store.inspection import Inspection
from bandit_router.store.replicas import Delta, SharedStatistics
from bandit_router.store.snapshot import decode
from support.shared_stream import replay_shared

ARMS, DIM, CHANNELS = 3, 4, 2


def fresh() -> RidgeStatistics:
    return RidgeStatistics(ARMS, DIM, CHANNELS, ridge=1.0)


def whole_numbers(count: int, seed: int = 0) -> list[tuple[int, Any, Any]]:
    """Observations whose sums are exact in floating point, in any order."""
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(ARMS)), rng.integers(-3, 4, DIM).astype(float), rng.integers(0, 3, CHANNELS).astype(float))
        for _ in range(count)
    ]


def assert_equal(one: RidgeStatistics, other: RidgeStatistics) -> None:
    for name in ("gram", "moment", "counts"):
        np.testing.assert_array_equal(one.sums()[name], other.sums()[name])
    for name in ("inverse", "theta"):
        np.testing.assert_allclose(one.arrays()[name], other.arrays()[name], rtol=1e-9, atol=1e-9)


def test_merged_replicas_hold_the_sums_of_one_stream() -> None:
    """Merged replicas hold exactly the sums of one stream in any order of merging."""
    stream = whole_numbers(90)
    single = fresh()
    replicas = [SharedStatistics(fresh(), replica=str(number)) for number in range(3)]
    deltas: list[Delta] = []
    for number, (arm, x, y) in enumerate(stream):
        single.learn(arm, x, y, 1.0)
        replica = replicas[number % 3]
        replica.learn(arm, x, y, 1.0)
        if number % 10 == 9 and (delta := replica.publish()) is not None:
            deltas.append(delta)
            replica.published()
    for replica in replicas:
        if (delta := replica.publish()) is not None:
            deltas.append(delta)
            replica.published()
    for shift, replica in enumerate(replicas):
        order = sorted(deltas, key=lambda delta: (delta.sequence, (int(delta.replica) + shift) % 3))
        assert replica.merge(order) == len([delta for delta in deltas if delta.replica != replica.replica])
        assert replica.merge(deltas) == 0
        assert_equal(replica.statistics, single)


def test_own_deltas_are_taken_in_again_after_a_restart() -> None:
    before = SharedStatistics(fresh(), replica="a")
    for arm, x, y in whole_numbers(20):
        before.learn(arm, x, y, 1.0)
    delta = before.publish()
    assert delta is not None
    after = SharedStatistics(fresh(), replica="a")
    assert after.merge([delta]) == 1
    assert_equal(before.statistics, after.statistics)
    after.learn(0, np.ones(DIM), np.ones(CHANNELS), 1.0)
    following = after.publish()
    assert following is not None
    assert following.sequence == 2


def test_the_same_delta_is_published_until_it_has_arrived() -> None:
    replica = SharedStatistics(fresh(), replica="a")
    replica.learn(0, np.ones(DIM), np.ones(CHANNELS), 1.0)
    first = replica.publish()
    replica.learn(0, np.ones(DIM), np.ones(CHANNELS), 1.0)
    assert replica.publish() is first
    replica.published()
    second = replica.publish()
    assert second is not None
    assert (second.sequence, second.counts.tolist()) == (2, [1])
    replica.published()
    assert replica.publish() is None


def test_a_delta_out_of_order_or_about_an_unknown_arm_is_refused() -> None:
    source, target = SharedStatistics(fresh(), replica="a"), SharedStatistics(fresh(), replica="b")
    deltas = []
    for _ in range(2):
        source.learn(2, np.ones(DIM), np.ones(CHANNELS), 1.0)
        deltas.append(source.publish())
        source.published()
    with pytest.raises(InvalidInput, match="predecessor"):
        target.merge([deltas[1]])
    small = SharedStatistics(RidgeStatistics(2, DIM, CHANNELS, ridge=1.0), replica="c")
    with pytest.raises(InvalidInput, match="not here yet"):
        small.merge([deltas[0]])


def test_the_trigger_is_the_growth_of_the_determinant() -> None:
    replica = SharedStatistics(fresh(), replica="a", gamma=0.5, max_age_s=10.0)
    replica.published(now_s=0.0)
    rng, published = np.random.default_rng(0), 0.0
    for _ in range(40):
        grown = np.linalg.slogdet(replica.statistics.sums()["gram"][1])[1] - published
        assert replica.due(1.0) == (grown > np.log(1.5))
        if replica.due(1.0):
            replica.publish()
            replica.published(now_s=1.0)
            published = np.linalg.slogdet(replica.statistics.sums()["gram"][1])[1]
        replica.learn(1, 0.4 * rng.normal(size=DIM), np.ones(CHANNELS), 1.0)
    assert not replica.due(11.0)
    assert replica.due(11.1)


def test_an_epoch_forgets_alike_whether_evidence_came_before_or_after_it() -> None:
    stream = whole_numbers(30)
    one, two = (SharedStatistics(fresh(), replica=name, keep=0.5) for name in "ab")
    for arm, x, y in stream:
        one.learn(arm, x, y, 1.0)
    early = one.publish()
    one.published()
    assert early is not None
    one.advance(2)
    two.advance(2)
    two.merge([early])
    for name, array in one.statistics.arrays().items():
        np.testing.assert_allclose(array, two.statistics.arrays()[name], rtol=1e-9, atol=1e-12)
    expected = np.eye(DIM) + 0.25 * sum(np.outer(x, x) for arm, x, _ in stream if arm == 1)
    np.testing.assert_allclose(one.statistics.sums()["gram"][1], expected, rtol=1e-9, atol=1e-9)
    one.learn(0, np.ones(DIM), np.ones(CHANNELS), 1.0)
    with pytest.raises(InvalidInput, match="publish what is new"):
        one.advance(3)


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"keep": 0.0}, {"gamma": float("nan")}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        SharedStatistics(fresh(), replica="a", **wrong)
    with pytest.raises(InvalidInput, match="not sums"):
        SharedStatistics(RidgeStatistics(1, 1, 1, ridge=1.0, forgetting=0.9), replica="a")


@pytest.mark.slow
def test_four_replicas_come_near_one_learner_with_few_syncs() -> None:
    """Four replicas come within 15 percent of one learner with 5 percent of the syncs."""
    central = replay_shared(replicas=4, horizon=4000, gamma=0.0, seed=1)
    shared = replay_shared(replicas=4, horizon=4000, gamma=0.5, seed=1)
    alone = replay_shared(replicas=4, horizon=4000, gamma=np.inf, seed=1)
    assert central["syncs"] == 4000
    assert shared["syncs"] <= 0.05 * 4000
    assert shared["regret"] <= 1.15 * central["regret"]
    assert alone["regret"] > 1.5 * central["regret"]  # sharing has something to win here


# -- through a store -----------------------------------------------------------------------------------------

OpenRouter = Callable[..., Router]


def serve(router: Router, stream: list[tuple[int, Any, Any]], name: str) -> None:
    for number, (_, x, y) in enumerate(stream):
        router.decide(x[:3], event_id=f"{name}-{number}")
        assert router.observe(f"{name}-{number}", Outcome(quality=float(y[0] > 0))).reward is not None


def settle_down(routers: list[Router], entries: int) -> None:
    """Wait until every replica has everything the others learned."""
    for _ in range(500):
        if all(router.policy.state()["counts"].sum() == entries for router in routers):
            return
        time.sleep(0.01)
    raise AssertionError([router.policy.state()["counts"] for router in routers])


def test_replicas_on_one_database_end_up_with_the_sums_of_its_whole_log(
    url: str, open_router: OpenRouter, tmp_path: Path
) -> None:
    def join(name: str) -> Router:
        share = Sharing(gamma=0.5, max_age_s=0.05, fetch_s=0.05)
        return open_router(url, store={"share": share, "replica": name}, channels=["quality"])

    one, two = join("one"), join("two")
    serve(one, whole_numbers(20, seed=1), "a")
    serve(two, whole_numbers(20, seed=2), "b")
    settle_down([one, two], 40)
    one.add_arm(Arm(id="new"))
    serve(one, whole_numbers(5, seed=3), "c")
    settle_down([one, two], 45)
    two.close()
    two = join("two")
    settle_down([one, two], 45)
    serve(two, whole_numbers(5, seed=4), "d")
    settle_down([one, two], 50)
    one.close()
    two.close()
    store = Inspection(url)
    store.export(tmp_path / "state")
    store.close()
    rebuilt = decode((tmp_path / "state").read_bytes()).state
    for router in (one, two):
        np.testing.assert_array_equal(router.policy.state()["counts"], rebuilt["counts"])
        for name in ("inverse", "theta"):
            np.testing.assert_allclose(router.policy.state()[name], rebuilt[name], rtol=1e-9, atol=1e-9)
    central = open_router(url, channels=["quality"])
    assert all(central.policy.state()[name].tobytes() == rebuilt[name].tobytes() for name in central.policy.state())


def test_sharing_needs_a_lasting_name_and_a_policy_of_sums(tmp_path: Path, open_router: OpenRouter) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    with pytest.raises(InvalidInput, match="outlives the process"):
        open_router(url, store={"share": Sharing(), "replica": None})
    with pytest.raises(InvalidInput, match="only policies whose statistics are sums"):
        open_router(url, store={"share": Sharing()}, policy="UCB1")
    with pytest.raises(InvalidInput, match="not sums"):
        open_router(url, store={"share": Sharing()}, settings={"forgetting": 0.9})
    assert LinUCB(n_arms=1, dim=1).statistics.forgetting == 1.0
