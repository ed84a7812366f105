"""The contract of a router in memory, over every policy: what is drawn, what is learned, what is refused."""

import math
import threading
from collections import Counter

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, Fixed, LinUCB, UniformRandom
from bandit_router.policies.distributions import draw
from bandit_router.records.arms import Arm, Status
from bandit_router.records.decisions import REFUSALS, event_uniform
from bandit_router.records.outcomes import CHANNELS, Outcome, Utility
from bandit_router.routing.groups import PolicySpec
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import RewardRule
from support.routers import make_router

X = [1.0, 0.5]
IDS = ("a", "b", "c")


class Clock:
    """A clock that the test turns."""

    now = 1000.0

    def __call__(self):
        return self.now


class Failing(UniformRandom):
    """Works until it is told not to."""

    mode = "works"

    def _distribution(self, x, arms, prices, penalty):
        if self.mode == "raises":
            raise np.linalg.LinAlgError("singular")
        p = super()._distribution(x, arms, prices, penalty)
        return {"works": p, "nan": p * math.nan, "zeros": p * 0.0, "negative": -p}[self.mode]


def router(policy="LinUCB", **options):
    return make_router(arms=[Arm(id=arm_id) for arm_id in IDS], context=2, policy=policy, **{"key": b"k", **options})


def failing(mode, **options):
    policy = Failing(n_arms=3, dim=2, channels=len(CHANNELS))
    policy.mode = mode
    return router(policy, **options)


def outcome(quality=0.5, **channels):
    return Outcome(quality=quality, **channels)


def serve(engine, n, *, start=0, quality=lambda arm: 0.5):
    """Decide and observe n requests; returns the arms."""
    arms = []
    for i in range(start, start + n):
        decision = engine.decide([1.0, math.sin(i)], event_id=f"e{i}")
        assert engine.observe(f"e{i}", outcome(quality(decision.arm), cost_usd=0.1)).refused is None
        arms.append(decision.arm)
    return arms


def snapshot(engine):
    """Everything that a refused outcome must leave as it is."""
    return {name: array.tobytes() for name, array in engine.policy.state().items()}


def every_policy(test):
    return pytest.mark.parametrize("policy", POLICIES)(test)


# -- the draw --------------------------------------------------------------------------------------------------------


@every_policy
def test_the_arm_is_drawn_from_the_stated_distribution_by_the_keyed_hash(policy):
    engine = router(policy)
    for i in range(40):
        decision = engine.decide(X, event_id=f"e{i}")
        expected = engine.policy.probabilities(X, None, np.eye(len(CHANNELS))[0])
        np.testing.assert_array_equal(decision.probabilities, expected)
        assert decision.arm_index == draw(expected, event_uniform(b"k", f"e{i}"))
        assert decision.arm == IDS[decision.arm_index]
        assert decision.propensity == min(expected[decision.arm_index], 1.0)
        engine.observe(f"e{i}", outcome(0.2 * decision.arm_index))


@every_policy
def test_a_repeated_event_gets_the_same_decision_whatever_happened_since(policy):
    engine = router(policy)
    first = engine.decide(X, event_id="r-1")
    serve(engine, 30, quality=lambda arm: float(arm != first.arm))
    assert engine.decide([0.0, -9.0], event_id="r-1", eligible=[]) is first
    engine.observe("r-1", outcome())
    assert engine.decide(X, event_id="r-1") is first
    assert engine.counters["decided"] == 31


def test_replicas_with_one_key_draw_alike_and_another_key_draws_otherwise():
    ours, replica, other = (router("UniformRandom", key=key) for key in (b"1", b"1", b"2"))
    arms = [[engine.decide(X, event_id=f"e{i}").arm for i in range(60)] for engine in (ours, replica, other)]
    assert arms[0] == arms[1] != arms[2]


def test_frequencies_over_event_ids_match_the_propensities():
    """Chi-square with 2 degrees of freedom: 99.9 % of fair draws stay below 13.8."""
    engine = router("UniformRandom")
    counts = Counter(engine.decide(X, event_id=f"e{i}").arm for i in range(6000))
    assert sum((counts[arm] - 2000) ** 2 / 2000 for arm in IDS) < 13.8


@every_policy
def test_an_ineligible_arm_is_never_drawn(policy):
    engine = router(policy)
    engine.pause("a")
    decisions = [engine.decide(X, event_id=f"e{i}", eligible=["a", "c"]) for i in range(50)]
    assert {decision.arm for decision in decisions} == {"c"}
    assert decisions[0].propensity == 1.0
    assert decisions[0].eligible.tolist() == [False, False, True]


@every_policy
def test_a_penalty_reaches_the_policy_in_catalogue_order(policy):
    engine = router(policy)
    expected = engine.policy.probabilities(X, None, None, np.array([0.0, 0.4, 0.0]))
    decision = engine.decide(X, event_id="e", penalty={"b": 0.4})
    np.testing.assert_array_equal(decision.probabilities, expected)
    assert decision.penalty.tolist() == [0.0, 0.4, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": [1.0]},
        {"context": [1.0, math.nan]},
        {"context": "text"},
        {"context": [[1.0], [2.0, 3.0]]},
        {"event_id": 7},
        {"event_id": "\ud800"},
        {"eligible": []},
        {"eligible": ["nobody"]},
        {"penalty": {"nobody": 1.0}},
        {"penalty": {"a": math.inf}},
    ],
    ids=str,
)
def test_unusable_arguments_are_refused_before_anything_changes(wrong):
    engine = router()
    counters, before = dict(engine.counters), snapshot(engine)
    arguments = {"context": X, "event_id": "r-1", **wrong}
    with pytest.raises(InvalidInput):
        engine.decide(arguments.pop("context"), **arguments)
    assert (engine.counters, snapshot(engine)) == (counters, before)
    assert engine.observe("r-1", outcome()).refused == "unknown"


def test_what_a_caller_does_to_its_context_later_is_not_learned():
    ours, theirs = router(), router()
    x = np.array(X)
    decision = ours.decide(x, event_id="r-1")
    x[:] = 77.0
    ours.observe("r-1", outcome())
    theirs.decide(X, event_id="r-1")
    theirs.observe("r-1", outcome())
    assert decision.context.tolist() == X
    assert snapshot(ours) == snapshot(theirs)


# -- rewards ---------------------------------------------------------------------------------------------------------


@every_policy
def test_each_reward_is_learned_once_as_the_policy_alone_would_learn_it(policy):
    engine = router(policy)
    alone = POLICIES[policy](n_arms=3, dim=2, channels=len(CHANNELS))
    for i in range(50):
        x = [1.0, math.cos(i)]
        decision = engine.decide(x, event_id=f"e{i}")
        result = outcome((i % 5) / 4, cost_usd=0.1 * decision.arm_index)
        settlement = engine.observe(f"e{i}", result)
        assert (settlement.arm, settlement.reward, settlement.refused) == (decision.arm, result.quality, None)
        assert engine.observe(f"e{i}", result).refused == "duplicate"
        alone.learn(x, decision.arm_index, result.succeeded().vector(), propensity=decision.propensity)
    assert snapshot(engine) == {name: array.tobytes() for name, array in alone.state().items()}
    assert (engine.counters["settled"], engine.counters["refused_duplicate"]) == (50, 50)


REFUSED = {
    "unknown": lambda engine, clock: ("never decided", outcome()),
    "duplicate": lambda engine, clock: engine.observe("r-1", outcome(0.4)) and ("r-1", outcome(0.4)),
    "settled": lambda engine, clock: engine.observe("r-1", outcome(0.4)) and ("r-1", outcome(0.4, tokens=5.0)),
    "late": lambda engine, clock: setattr(clock, "now", clock.now + 60.1) or ("r-1", outcome()),
    "invalid": lambda engine, clock: ("r-1", outcome(math.nan)),
    "out_of_range": lambda engine, clock: ("r-1", outcome(1.5)),
    "degraded": lambda engine, clock: (
        setattr(engine.policy, "mode", "raises") or (engine.decide(X, event_id="r-2").event_id, outcome())
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_outcome_is_counted_and_changes_nothing_else(reason):
    clock = Clock()
    engine = failing("works", clock=clock, rewards=RewardRule(window_s=60.0))
    serve(engine, 5)
    engine.decide(X, event_id="r-1")
    event_id, result = REFUSED[reason](engine, clock)
    counters, before = dict(engine.counters), snapshot(engine)
    settlement = engine.observe(event_id, result)
    assert (settlement.refused, settlement.reward, settlement.outcome) == (reason, None, result)
    assert (settlement.arm is None) == (reason == "unknown")
    refused = {f"refused_{name}": counters[f"refused_{name}"] + (name == reason) for name in REFUSALS}
    assert {name: engine.counters[name] for name in refused} == refused
    assert snapshot(engine) == before


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (outcome(math.inf), "invalid"),
        (outcome("good"), "invalid"),
        (outcome(0.5, latency_s=math.nan), "invalid"),
        (outcome(-0.1), "out_of_range"),
        (outcome(0.5, cost_usd=-1.0), "out_of_range"),
    ],
)
def test_a_corrected_outcome_is_still_accepted(result, reason):
    engine = router(prices={"cost_usd": 0.5})
    engine.decide(X, event_id="r-1")
    assert engine.observe("r-1", result).refused == reason
    assert engine.observe("r-1", outcome(0.5, cost_usd=0.2)).reward == pytest.approx(0.4)


def test_an_outcome_at_the_end_of_the_window_is_in_time():
    clock = Clock()
    engine = router(clock=clock, rewards=RewardRule(window_s=60.0))
    decision = engine.decide(X, event_id="r-1")
    clock.now += 60.0
    assert decision.timestamp_s == 1000.0
    assert engine.observe("r-1", outcome()).refused is None


# -- prices ----------------------------------------------------------------------------------------------------------


def test_a_price_change_counts_from_the_next_decision_without_relearning():
    engine = Router(
        arms=[Arm(id="cheap"), Arm(id="dear")],
        context=1,
        policy=PolicySpec(name="LinUCB", settings={"alpha": 0.0}),
        key=b"k",
    )
    for i in range(60):
        arm = ("cheap", "dear")[i % 2]
        engine.decide([1.0], event_id=f"e{i}", eligible=[arm])
        engine.observe(f"e{i}", outcome(0.8 if arm == "dear" else 0.6, cost_usd=1.0 if arm == "dear" else 0.1))
    learned = snapshot(engine)
    assert engine.decide([1.0], event_id="before").probabilities.argmax() == 1
    engine.set_prices({"cost_usd": 0.5})  # 0.6 - 0.05 beats 0.8 - 0.5
    assert engine.decide([1.0], event_id="after").probabilities.argmax() == 0
    assert engine.decide([1.0], event_id="before").probabilities.argmax() == 1
    engine.set_prices({"cost_usd": 0.0})
    assert engine.decide([1.0], event_id="back").probabilities.argmax() == 1
    assert snapshot(engine) == learned


def test_a_reward_is_settled_at_the_prices_of_its_settlement():
    engine = router()
    engine.decide(X, event_id="r-1")
    engine.set_prices({"cost_usd": 0.5})
    assert engine.observe("r-1", outcome(0.8, cost_usd=0.4)).reward == pytest.approx(0.6)


def test_a_price_on_a_channel_that_was_never_metered_is_refused():
    engine = router()
    serve(engine, 3)
    with pytest.raises(InvalidInput, match="energy_j was never metered"):
        engine.set_prices({"energy_j": 0.1})
    assert engine.utility == Utility()
    engine.set_prices({"cost_usd": 0.1})
    assert engine.utility.prices == {"cost_usd": 0.1}


@pytest.mark.parametrize("prices", [{"carbon": 1.0}, {"cost_usd": math.nan}])
def test_an_unusable_price_is_refused(prices):
    engine = router(channels=("quality", "cost_usd"))
    with pytest.raises(InvalidInput):
        engine.set_prices(prices)
    with pytest.raises(InvalidInput, match="priced but not metered"):
        engine.set_prices({"energy_j": 0.1})


# -- arms ------------------------------------------------------------------------------------------------------------


@every_policy
def test_a_retired_arm_is_never_drawn_and_keeps_its_late_reward(policy):
    """A retired arm is never drawn and its late reward is accounted to it."""
    engine = router(policy)
    serve(engine, 20)
    pending = engine.decide(X, event_id="pending", eligible=["b"])
    engine.retire("b")
    steps = engine.policy.steps
    settlement = engine.observe("pending", outcome(1.0))
    assert (pending.arm, settlement.arm, settlement.reward) == ("b", "b", 1.0)
    assert engine.policy.steps == steps + 1
    assert "b" not in serve(engine, 200, start=100)
    assert engine.catalogue.status("b") is Status.RETIRED
    with pytest.raises(InvalidInput, match="no arm is eligible"):
        engine.decide(X, event_id="only b", eligible=["b"])


@every_policy
def test_an_arm_added_while_running_is_drawn_and_learned(policy):
    engine = router(policy)
    serve(engine, 20)
    engine.add_arm(Arm(id="d"), like="a", strength=2.0)
    decision = engine.decide(X, event_id="new", eligible=["d"])
    assert (decision.arm, decision.arm_index, decision.propensity) == ("d", 3, 1.0)
    assert engine.observe("new", outcome(1.0)).reward == 1.0
    assert len(engine.decide(X, event_id="all").probabilities) == 4


def test_a_refused_arm_leaves_policy_and_catalogue_alike():
    engine = router()
    for arguments in ({"arm": Arm(id="a")}, {"arm": Arm(id="d"), "like": "x"}, {"arm": Arm(id="d"), "strength": 0.0}):
        with pytest.raises(InvalidInput):
            engine.add_arm(**arguments)
        assert len(engine.catalogue) == engine.policy.n_arms == 3


def test_a_paused_arm_rests_until_it_is_resumed():
    engine = router("RoundRobin")
    engine.pause("a")
    assert set(serve(engine, 10)) == {"b", "c"}
    engine.resume("a")
    assert serve(engine, 1, start=10) == ["a"]


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["raises", "nan", "zeros", "negative"])
def test_a_failing_policy_serves_the_baseline_unlearned(mode, caplog):
    """A failing policy serves the baseline marked degraded and never learned."""
    engine = failing(mode, baseline="b")
    decision = engine.decide(X, event_id="r-1")
    assert (decision.arm, decision.degraded, decision.propensity, decision.probabilities) == ("b", True, 1.0, None)
    assert "Failing failed" in caplog.text
    assert engine.observe("r-1", outcome(1.0)).refused == "degraded"
    assert (engine.counters["degraded_decisions"], engine.counters["settled"], engine.policy.steps) == (1, 0, 0)
    engine.policy.mode = "works"
    assert not engine.decide(X, event_id="r-2").degraded
    assert engine.decide(X, event_id="r-1") is decision


@pytest.mark.parametrize(("eligible", "served"), [(None, "a"), (["a", "c"], "a"), (["c"], "c")])
def test_an_ineligible_baseline_gives_way_to_the_first_arm(eligible, served):
    """A baseline that is not eligible gives way to the first arm that is."""
    engine = failing("raises", baseline="b")
    engine.pause("b")
    engine.policy._eligible = lambda mask: np.flatnonzero(np.ones(3))  # so that it fails for a single arm too
    assert engine.decide(X, event_id="r-1", eligible=eligible).arm == served


# -- explanations ----------------------------------------------------------------------------------------------------


def test_an_explanation_adds_up():
    engine = router(LinUCB(n_arms=3, dim=2, channels=len(CHANNELS)), prices={"cost_usd": 0.5})
    serve(engine, 60, quality=lambda arm: {"a": 0.9, "b": 0.6, "c": 0.1}[arm])
    engine.pause("c")
    decision = engine.decide(X, event_id="r-1", penalty={"a": 0.05})
    explanation = engine.explain(decision)
    arms = {arm.arm: arm for arm in explanation.arms}
    assert explanation.state_version == decision.state_version == 60
    assert explanation.chosen == decision.arm
    assert explanation.runner_up == ({"a", "b"} - {decision.arm}).pop()
    assert [arm.propensity for arm in explanation.arms] == sorted(decision.probabilities, reverse=True)
    assert (arms["a"].penalty, arms["b"].penalty, arms["c"].eligible) == (0.05, 0.0, False)
    estimate = engine.policy.estimate(X)
    for i, arm_id in enumerate(IDS):
        arm = arms[arm_id]
        assert arm.propensity == decision.probabilities[i]
        assert arm.channels["quality"] == pytest.approx(estimate.mean[i, 0])
        assert arm.priced["cost_usd"] == pytest.approx(-0.5 * estimate.mean[i, 1])
        assert arm.mean == pytest.approx(estimate.mean[i, 0] - 0.5 * estimate.mean[i, 1])
        assert arm.bonus == estimate.bonus[i] > 0


@every_policy
def test_every_policy_can_be_explained(policy):
    engine = router(policy)
    serve(engine, 10)
    decision = engine.decide(X, event_id="r-1")
    explanation = engine.explain(decision)
    assert sum(arm.propensity for arm in explanation.arms) == pytest.approx(1.0)
    assert explanation.chosen == decision.arm != explanation.runner_up


# -- limits ----------------------------------------------------------------------------------------------------------


def test_only_so_many_events_are_remembered():
    """Only so many events are remembered and unsettled ones are counted when forgotten."""
    engine = router(store=Memory(max_events=10))
    for i in range(25):
        engine.decide(X, event_id=f"e{i}")
        if i % 2:
            engine.observe(f"e{i}", outcome())
    assert engine.counters["forgotten"] == 8  # e0, e2, ... e14
    assert engine.observe("e14", outcome()).refused == "unknown"
    assert engine.observe("e24", outcome()).refused is None


def test_eight_threads_lose_nothing_and_count_nothing_twice():
    engine, threads, each = router(prices={"cost_usd": 0.1}), 8, 60
    results, start = [], threading.Barrier(threads)

    def work(me):
        start.wait()
        for i in range(each):
            own, shared = f"{me}-{i}", f"shared-{i}"
            for event in (own, shared):  # everyone decides and reports the shared events too
                engine.decide([1.0, me / threads], event_id=event)
                results.append((event, engine.observe(event, outcome(0.5, cost_usd=1.0)).refused))

    workers = [threading.Thread(target=work, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 2 * threads * each
    events = (threads + 1) * each
    assert Counter(reason for _, reason in results) == {None: events, "duplicate": (threads - 1) * each}
    assert len({event for event, reason in results if reason is None}) == events
    counters = engine.counters
    assert (counters["decided"], counters["settled"], engine.policy.steps) == (events, events, events)
    assert counters["refused_duplicate"] == (threads - 1) * each


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"arms": ["a", "b"]}, "arms must be a list of Arm"),
        ({"arms": "ab"}, "arms must be a list of Arm"),
        ({"context": "2"}, "context must be a length or an encoder"),
        ({"objective": {"prices": {}}}, "objective must be an instance of Objective"),
        ({"rollout": "off"}, "rollout must be an instance of Rollout"),
        ({"clock": 5}, "clock must be a function"),
    ],
)
def test_a_group_of_another_kind_is_refused_in_words(wrong, said):
    with pytest.raises(InvalidInput, match=said):
        Router(**{"arms": [Arm(id="a")], "context": 2, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "LinUBC"},
        {"policy": Fixed(n_arms=2, dim=2, channels=len(CHANNELS))},
        {"policy": Fixed(n_arms=3, dim=2, channels=1)},
        {"settings": {"floor": 2.0}},
        {"channels": ("cost_usd", "quality")},
        {"channels": ("quality", "carbon")},
        {"channels": ("quality",), "prices": {"cost_usd": 1.0}},
        {"baseline": "nobody"},
        {"key": b"k" * 65},
    ],
    ids=str,
)
def test_a_router_that_could_not_work_is_refused_when_it_is_made(wrong):
    with pytest.raises(ValueError, match=r"."):
        router(**wrong)
