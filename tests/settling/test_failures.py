"""Failures are outcomes: settled at once, by a rule that says whose fault they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bandit_router import (
    Arm,
    Budgets,
    Failure,
    FailureRule,
    FailureRules,
    InvalidInput,
    Objective,
    Outcome,
    Rate,
    RewardRule,
    Router,
    Store,
    load_config,
    read_logs,
)
from bandit_router.records.failures import FAILURES
from bandit_router.replay.logs.intake import Intake

ARMS = [Arm(id="good"), Arm(id="bad")]
PRICED: dict[str, Any] = {"prices": {"cost_usd": 0.5}}
FAULTS = ("error", "timeout", "refusal", "broken_stream", "diverted")
Open = Callable[..., Router]


@pytest.fixture(params=["memory", "store"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: list[Router] = []

    def make(**given: Any) -> Router:
        store = None if request.param == "memory" else Store(f"sqlite:///{tmp_path}/e.db", wait_s=10.0)
        made.append(Router(arms=ARMS, context=1, policy="LinUCB", key=b"k", store=store, **given))
        return made[-1]

    yield make
    for router in made:
        router.close()


def learned(router: Router, arm: int, channel: str = "quality") -> float:
    return float(router.policy.estimate([1.0]).mean[arm, router.learner.channels.index(channel)])


@pytest.mark.parametrize("kind", FAILURES)
def test_every_failure_settles_at_once_though_a_price_is_set(kind: Any, opened: Open) -> None:
    router = opened(objective=Objective(**PRICED))
    decided = router.decide([1.0], event_id="e")
    told = router.observe("e", failure=Failure(kind))
    assert (told.failure, told.refused, told.pending) == (kind, None, False)
    assert router.counters["settled_failed"] == 1
    assert router.policy.steps == (kind in FAULTS)
    assert (learned(router, decided.arm_index, "failed") > 0) == (kind in FAULTS)
    assert router.observe("e", failure=Failure(kind)).refused == "duplicate"
    assert router.observe("e", Outcome(quality=1.0, cost_usd=0.1)).refused == "settled"


def test_what_a_failed_attempt_took_is_kept_and_the_rest_stays_unknown(opened: Open) -> None:
    router = opened(objective=Objective(**PRICED))
    router.decide([1.0], event_id="a")
    assert router.observe("a", failure=Failure("error")).reward == 0.0  # no answer, nothing billed
    router.decide([1.0], event_id="b")
    router.observe("b", Outcome(cost_usd=0.1))
    assert router.observe("b", Outcome(latency_s=9.0), failure=Failure("broken_stream")).reward == -0.05
    router.decide([1.0], event_id="c")
    assert router.observe("c", failure=Failure("timeout")).reward is None  # it may have been billed
    assert router.policy.steps == 3  # and is learned all the same
    assert router.learner.metered.tolist() == [3, 2, 0, 1, 1, 0, 0, 3]


def test_the_rule_decides_what_a_failure_counts(opened: Open) -> None:
    rules = FailureRules(cancelled=FailureRule(quality=0.25), error=FailureRule(fault=False))
    router = opened(objective=Objective(rewards=RewardRule(aggregate="sum", failures=rules)))
    router.decide([1.0], event_id="a")
    assert router.observe("a", failure=Failure("cancelled")).reward == 0.25
    router.decide([1.0], event_id="b")
    assert router.observe("b", failure=Failure("error")).reward is None
    assert router.policy.steps == 1


@pytest.mark.parametrize(("failure", "steps"), [(None, 1), (Failure("timeout"), 1), (Failure("rate_limit"), 0)])
def test_the_served_arm_is_never_credited_to_the_drawn_one(failure: Any, steps: int, opened: Open) -> None:
    router = opened()
    decided = router.decide([1.0], event_id="e")
    other = next(arm.id for arm in ARMS if arm.id != decided.arm)
    told = router.observe("e", Outcome(quality=1.0, cost_usd=0.3), served_arm=other, failure=failure)
    assert (told.refused, told.reward) == ("diverted", None)
    assert told.failure == ("diverted" if failure is None else failure.kind)
    assert router.policy.steps == steps
    assert learned(router, decided.arm_index) == learned(router, 1 - decided.arm_index) == 0.0


def test_an_answer_has_not_failed_and_failures_are_priced_and_limited() -> None:
    limit = Budgets(limits=[Rate(name="failures", channel="failed", per_request=0.1)])
    router = Router(arms=ARMS, context=1, objective=Objective(prices={"failed": 0.5}), budgets=limit)
    router.decide([1.0], event_id="a")
    assert router.observe("a", Outcome(quality=0.75)).reward == 0.75
    router.decide([1.0], event_id="b")
    assert router.observe("b", failure=Failure("timeout")).reward == -0.5
    assert limit.report()[0]["mean"] == 0.5


def test_an_arm_that_is_always_stood_in_for_loses_its_traffic(opened: Open) -> None:
    router, drawn = opened(), []
    for number in range(300):
        drawn.append(router.decide([1.0], event_id=f"e{number}").arm)
        stood_in = "good" if drawn[-1] == "bad" else None
        router.observe(f"e{number}", Outcome(quality=0.7), served_arm=stood_in)
    assert drawn.count("bad") < 15


def test_a_failure_comes_back_from_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    with Router(arms=ARMS, context=1, policy="LinUCB", key=b"k", store=Store(url, wait_s=10.0)) as router:
        for number, failure in enumerate((None, Failure("timeout"), Failure("cancelled"))):
            router.decide([1.0], event_id=str(number))
            router.observe(str(number), Outcome(quality=0.5) if failure is None else Outcome(), failure=failure)
        state = {name: array.tobytes() for name, array in router.policy.state().items()}
    log = read_logs([url], Intake())
    assert log.failure.tolist() == [None, "timeout", "cancelled"]
    assert log.channel("failed").tolist()[:2] == [0.0, 1.0]
    assert str(log.reward.tolist()) == "[0.5, 0.0, nan]"
    with Router(arms=ARMS, context=1, policy="LinUCB", key=b"k", store=Store(url, wait_s=10.0)) as again:
        assert {name: array.tobytes() for name, array in again.policy.state().items()} == state


def test_a_failure_before_its_decision_waits_for_it(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/e.db", wait_s=10.0)
    with Router(arms=ARMS, context=1, store=store) as router:
        assert router.observe("e", failure=Failure("rate_limit", retry_after_s=5)).pending
        router.decide([1.0], event_id="e")
        router.decide([1.0], event_id="f")
        router.observe("f", Outcome(quality=1.0))
        router.flush()
        assert router.observe("e", Outcome(quality=1.0)).refused == "settled"


def test_rules_are_read_from_the_configuration(tmp_path: Path) -> None:
    rule = '[objective.rewards.failures.timeout]\nfault = true\nquality = 0.1\nzero = ["cost_usd"]\n'
    path = tmp_path / "router.toml"
    path.write_text(f'context = 1\n[[arms]]\nid = "a"\n{rule}')
    found = load_config(path).objective.rewards.failures
    assert found.timeout == FailureRule(quality=0.1, zero=("cost_usd",))
    assert found.cancelled == FailureRule(fault=False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Failure("broken"),
        lambda: Failure("timeout", retry_after_s=-1),
        lambda: Failure("timeout", retry_after_s=float("nan")),
        lambda: FailureRule(quality=2.0),
        lambda: FailureRule(zero=("dollars",)),
    ],
)
def test_what_is_no_failure_is_refused_with_what_there_is(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput, match=r"there are|must be"):
        wrong()


def test_a_failure_that_is_none_is_refused_as_invalid() -> None:
    router = Router(arms=ARMS, context=1)
    router.decide([1.0], event_id="e")
    assert router.observe("e", failure="timeout").refused == "invalid"
