"""What is far beyond all that was learned ruins nothing, and a price that has risen is learned."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router import CHANNELS, Arm, Objective, Outcome, Router
from bandit_router.policies import POLICIES
from bandit_router.policies.base import Policy
from bandit_router.settling.door import CONFIRMATIONS, Door
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import MAX_REWARDS, RewardRule

ARMS = ("small", "medium", "large")
QUALITY = dict(zip(ARMS, (0.5, 0.8, 0.6), strict=True))
COST = dict(zip(ARMS, (0.1, 0.2, 1.0), strict=True))


def router(policy="EvidenceThompson", **rule):
    objective = Objective(prices={"cost_usd": 0.2}, rewards=RewardRule(**rule))
    return Router(arms=[Arm(id=a) for a in ARMS], context=3, policy=policy, objective=objective, key=b"k")


class Stream:
    """Requests of a router, each with its outcome; `best` tells how often the best arm served."""

    def __init__(self, router, seed=0):
        self.router, self.rng, self.n = router, np.random.default_rng(seed), 0

    def context(self):
        return np.r_[1.0, self.rng.normal(size=2)]

    def one(self, context=None, only=None, **outcome):
        self.n += 1
        x = self.context() if context is None else context
        decision = self.router.decide(x, event_id=f"e{self.n}", eligible=only)
        usual = {
            "quality": float(np.clip(QUALITY[decision.arm] + 0.1 * self.rng.normal(), 0, 1)),
            "cost_usd": COST[decision.arm] * float(np.exp(0.3 * self.rng.normal())),
        }
        return decision, self.router.observe(decision.event_id, Outcome(**{**usual, **outcome}))

    def best(self, count):
        return np.mean([self.one()[0].arm == "medium" for _ in range(count)])


def finite(router):
    return all(np.isfinite(a).all() for a in router.policy.state().values() if a.dtype.kind == "f")


@pytest.mark.parametrize("amount", [1e4, 1e12])
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_one_bill_in_a_wrong_unit_changes_nothing_in_any_policy(name, amount):
    stream = Stream(router(name))
    for _ in range(60):
        stream.one(only=[ARMS[stream.n % 3]])
    before = stream.router.policy.state()
    decision, settlement = stream.one(only=["medium"], cost_usd=amount)
    assert settlement.refused == "suspect"
    assert settlement.reward is None
    assert all(np.array_equal(a, stream.router.policy.state()[n]) for n, a in before.items())
    assert stream.router.counters["settled_suspect"] == stream.router.counters["refused_suspect"] == 1
    assert stream.router.observe(decision.event_id, Outcome(quality=0.8), reward_id="again").refused == "settled"


@pytest.mark.parametrize("amount", [1e13, 1e160])
def test_a_bill_above_every_range_is_refused_and_can_be_corrected(amount):
    r = router()
    r.decide([1.0, 0.0, 0.0], event_id="e")
    assert r.observe("e", Outcome(quality=0.8, cost_usd=amount)).refused == "out_of_range"
    assert r.observe("e", Outcome(quality=0.8, cost_usd=0.2)).reward == pytest.approx(0.76)


@pytest.mark.parametrize("size", [1e6, 1e18, 1e150])
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_one_huge_feature_leaves_every_policy_finite_and_serving(name, size):
    stream = Stream(router(name))
    for _ in range(60):
        stream.one(only=[ARMS[stream.n % 3]])
    usual = np.abs(stream.router.learner.door.features)
    decision, settlement = stream.one(np.array([1.0, size, 0.0]), only=["medium"])
    assert settlement.refused is None
    assert np.abs(decision.context).tolist() == [1.0, 10 * usual[1], 0.0]
    assert stream.router.counters["clipped_contexts"] == 1
    for _ in range(20):
        assert not stream.one()[0].degraded
    assert finite(stream.router)


@pytest.mark.parametrize("name", ["EvidenceThompson", "LinTS", "LinUCB"])
def test_the_best_arm_keeps_its_traffic_after_a_huge_feature_and_bill(name):
    stream = Stream(router(name))
    stream.best(300)
    stream.one(np.array([1.0, 1e18, 0.0]), only=["medium"])
    stream.one(only=["medium"], cost_usd=1e4)
    stream.best(300)
    assert stream.best(300) > 0.95


def test_a_tenfold_price_is_learned_at_once_a_hundredfold_at_the_fifth():
    for factor, refused in ((10.0, 0), (100.0, CONFIRMATIONS - 1)):
        stream = Stream(router())
        for _ in range(60):
            stream.one(only=["medium"], cost_usd=0.2)
        said = [stream.one(only=["medium"], cost_usd=0.2 * factor)[1].refused for _ in range(20)]
        assert said == ["suspect"] * refused + [None] * (20 - refused)
        assert stream.router.policy.model.mean_costs()[1, 0] > 0.3 * factor / 10


def test_suspects_of_all_sizes_or_between_usual_bills_confirm_nothing():
    stream = Stream(router())
    for _ in range(60):
        stream.one(only=["medium"])
    assert all(stream.one(only=["medium"], cost_usd=10.0 ** (3 + i))[1].refused == "suspect" for i in range(8))
    for _ in range(10):
        assert stream.one(only=["medium"], cost_usd=1e4)[1].refused == "suspect"
        assert stream.one(only=["medium"])[1].refused is None


def test_outcomes_can_raise_what_is_usual_by_a_factor_of_two_each():
    door = Door(n_arms=1, dim=1, channels=2)
    for _ in range(5):
        door.learned(0, np.ones(1), np.array([0.5, 1.0]))
    for amount in (20.0, 39.0, 79.0):
        assert not door.suspects(0, np.array([0.5, amount]))
        door.learned(0, np.ones(1), np.array([0.5, amount]))
    assert door.largest[0] == [0.5, 8.0]
    assert door.suspects(0, np.array([0.5, 161.0]))


def test_a_feature_that_was_zero_so_far_may_appear_and_a_free_arm_may_cost():
    door = Door(n_arms=2, dim=3, channels=2)
    for _ in range(50):
        door.learned(0, np.array([1.0, 0.0, 0.01]), np.array([0.5, 0.0]))
        door.learned(1, np.array([1.0, 0.0, 0.01]), np.array([0.5, 0.1]))
    assert door.clip(np.array([1.0, 1.0, 0.05])).tolist() == [1.0, 1.0, 0.05]
    assert not door.suspects(0, np.array([0.5, 0.9]))


class Broken(Policy):
    """Overflows at large outcomes."""

    def _start(self):
        super()._start()
        self.sums = np.zeros(self.n_arms)

    def _distribution(self, x, arms, prices, penalty):
        return np.full(len(arms), 1 / len(arms))

    def _learn(self, x, arm, y, weight, propensity):
        self.sums[arm] += np.exp(x[0])

    def _arrays(self):
        return {"sums": self.sums}

    def _restore(self, arrays):
        self.sums = arrays["sums"]


def test_a_state_that_is_not_finite_afterwards_is_put_back_and_counted():
    r = Router(
        arms=[Arm(id="a"), Arm(id="b")], context=1, policy=Broken(n_arms=2, dim=1, channels=len(CHANNELS)), key=b"k"
    )
    for i, x in enumerate((5e3, 1.0, 1.0)):
        with np.errstate(over="ignore"):
            r.decide([x], event_id=f"e{i}", eligible=["a"])
            r.observe(f"e{i}", Outcome(quality=0.5))
    assert r.learner.rolled_back == r.learner.skipped == 1
    assert r.policy.sums.tolist() == pytest.approx([2 * np.e, 0.0])
    assert r.policy.steps == 2


def test_the_door_is_part_of_what_is_learned_and_an_older_state_has_none():
    stream = Stream(router())
    for _ in range(40):
        stream.one()
    learner: Learner = stream.router.learner
    position, state = learner.capture()
    twin = learner.copy()
    for other in (twin, router().learner):
        other.restore(position, state)
        assert all(np.array_equal(a, other.door.arrays()[n]) for n, a in learner.door.arrays().items())
    twin.restore(position, {name: a for name, a in state.items() if not name.startswith("door.")})
    assert not np.any(twin.door.largest)


def test_a_decision_takes_a_hundred_rewards_and_no_more():
    r = router(window_s=60.0)
    r.decide([1.0, 0.0, 0.0], event_id="e")
    said = [r.observe("e", Outcome(latency_s=0.1), reward_id=str(i)).refused for i in range(MAX_REWARDS + 3)]
    assert said == [None] * MAX_REWARDS + ["too_many"] * 3
    assert r.counters["refused_too_many"] == 3


def test_a_source_counts_so_often_an_hour_and_the_others_go_on():
    clock = [0.0]
    r = router(per_source=2)
    r.clock = lambda: clock[0]
    said = []
    for i, (source, at_s) in enumerate([("x", 0), ("x", 1), ("x", 2), ("y", 3), (None, 4), ("x", 3600)]):
        clock[0] = float(at_s)
        r.decide([1.0, 0.0, 0.0], event_id=f"e{i}")
        said.append(r.observe(f"e{i}", Outcome(quality=0.5, cost_usd=0.1), source=source).refused)
    assert said == [None, None, "too_many", None, None, None]
    assert r.observe("e2", Outcome(quality=0.5, cost_usd=0.1), source="").refused == "invalid"


def test_a_clock_that_was_a_day_ahead_takes_nothing_from_a_source():
    clock = [86_400.0]
    r = router(per_source=2)
    r.clock = lambda: clock[0]
    said = []
    for hour in (24, 0, 0, 0, 1, 1, 1):
        clock[0] = 3600.0 * hour
        r.decide([1.0, 0.0, 0.0], event_id=f"e{len(said)}")
        said.append(r.observe(f"e{len(said)}", Outcome(quality=0.5, cost_usd=0.1), source="x").refused)
    assert said == [None, None, None, "too_many", None, None, "too_many"]
