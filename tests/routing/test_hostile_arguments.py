"""Numbers, ids and policies that cannot be used: refused before anything changes, or served by the baseline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import LinUCB
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import CHANNELS, Outcome, Utility
from bandit_router.routing.rollout import Rollout
from bandit_router.routing.router import Router
from bandit_router.store import Store

ARMS = [Arm(id=name) for name in "abc"]


@pytest.fixture(params=["memory", "store"])
def router(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    store = None if request.param == "memory" else Store(f"sqlite:///{tmp_path}/e.db", wait_s=10.0)
    with Router(arms=ARMS, context=2, policy="LinUCB", key=b"k", store=store) as opened:
        yield opened


CONTEXTS = [
    [10**400, 1.0],
    [2**70, 1],
    np.array([1 + 2j, 0]),
    np.ma.MaskedArray([1.0, 2.0], mask=[True, False]),
    np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    np.array([1, 2], dtype="timedelta64[s]"),
    ["1.0", "2.0"],
    b"\x01\x02",
    [None, 1.0],
    [1e200, 0.0],
    [np.nan, 0.0],
    [[1.0], [2.0, 3.0]],
    {"a": 1.0},
    np.array([np.longdouble(10) ** 400, 0]),
]


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda value: f"{type(value).__name__} {value!r:.30}")
def test_a_context_that_is_no_array_of_real_numbers_is_refused(context: Any, router: Router) -> None:
    with pytest.raises(InvalidInput, match="context"):
        router.decide(context, event_id="e")
    assert router.counters["decided"] == 0


@pytest.mark.parametrize(
    "terms",
    [
        {"penalty": [1.0, 2.0]},
        {"penalty": {"a": 10**400}},
        {"penalty": {"a": "1"}},
        {"penalty": {"a": 1j}},
        {"penalty": {"a": float("nan")}},
        {"penalty": {"a": float("inf")}},
        {"penalty": {"a": 1e200}},
        {"penalty": {"z": 1.0}},
        {"penalty": {("a",): 1.0}},
        {"eligible": 5},
        {"eligible": "abc"},
        {"eligible": [["a"]]},
        {"eligible": []},
        {"resident": 5},
        {"tenant": "\ud800x"},
        {"tenant": 7},
        {"tenant": b"t"},
        {"tenant": "t" * 513},
        {"tenant": "\u4e00" * 171},
        {"unit": "\ud800"},
        {"unit": ("u",)},
        {"unit": "a\0b"},
    ],
    ids=repr,
)
def test_terms_that_cannot_be_used_are_refused_before_anything_changes(terms: Any, router: Router) -> None:
    with pytest.raises(InvalidInput):
        router.decide([1.0, 0.0], event_id="e", **terms)
    assert router.counters["decided"] == 0
    assert router.events.find("e") is None
    router.decide([1.0, 0.0], event_id="e")


OUTCOMES = [
    Outcome(quality=0.5, tokens=10**400),
    Outcome(quality=1j),
    Outcome(quality="0.5"),
    Outcome(quality=b"1"),
    Outcome(quality=np.array([0.5])),
    Outcome(quality=np.ma.masked),
    Outcome(quality=np.datetime64("2020-01-01")),
    Outcome(quality=0.5, cost_usd=np.longdouble(10) ** 400),
    {"quality": 1.0},
    None,
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda value: f"{value!r:.50}")
def test_an_outcome_that_is_no_outcome_is_refused_and_counted(outcome: Any, router: Router) -> None:
    router.decide([1.0, 0.0], event_id="e")
    assert router.observe("e", outcome).refused == "invalid"
    assert router.counters["refused_invalid"] == 1
    assert router.observe("e", Outcome(quality=np.longdouble(0.5))).reward == 0.5
    assert router.policy.steps == 1


def test_more_tokens_than_there_can_be_are_out_of_range(router: Router) -> None:
    router.decide([1.0, 0.0], event_id="e")
    assert router.observe("e", Outcome(quality=0.5, tokens=2**70)).refused == "out_of_range"


@pytest.mark.parametrize("context", [[1, 0], np.array([True, False]), np.float32([1, 0]), np.array([1, 0], ">f8")])
def test_real_numbers_of_any_width_are_taken(context: Any, router: Router) -> None:
    assert router.decide(context, event_id="e").context.tolist() == [1.0, 0.0]


def test_nobody_can_write_into_a_decision(router: Router) -> None:
    mine = np.array([1.0, 0.5])
    decision = router.decide(mine, event_id="e", penalty={"a": 0.1}, eligible=["a", "b"], resident=["a"])
    mine[:] = np.nan
    for array in (decision.context, decision.penalty, decision.eligible, decision.resident):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    router.observe("e", Outcome(quality=0.5))
    assert router.learner.skipped == 0
    assert decision.context.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("price", [1e308, 10**400, float("nan"), "1", None, 1j])
def test_a_price_that_no_utility_can_bear_is_refused(price: Any, router: Router) -> None:
    with pytest.raises(InvalidInput, match="price"):
        router.set_prices({"cost_usd": price})
    with pytest.raises(InvalidInput, match="price"):
        Utility(prices={"cost_usd": price})
    assert not router.decide([1.0, 0.0], event_id="e").degraded


def test_a_scale_may_not_make_a_price_too_large() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        Utility(prices={"cost_usd": 1e100}, scales={"cost_usd": 1e-100})


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "\u4e00" * 3000, "x" * 513])
def test_an_arms_id_is_checked_like_every_other_id(name: str) -> None:
    with pytest.raises(InvalidInput):
        Arm(id=name)


class Failing(LinUCB):
    """Refuses every decision, as a foreign policy does whose state is not finite any more."""

    error: Exception = InvalidInput("no finite scores")

    def _distribution(self, x: Any, *_: Any) -> Any:
        raise type(self.error)(f"cannot use {x.tolist()}")


@pytest.mark.parametrize("error", [InvalidInput("no finite scores"), RuntimeError("broken"), StopIteration()])
def test_a_policy_that_fails_is_never_raised_out_of_decide(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Failing, "error", error)
    router = Router(arms=ARMS, context=2, policy=Failing(n_arms=3, dim=2, channels=len(CHANNELS)), key=b"k")
    with caplog.at_level(logging.ERROR):
        assert router.decide([1.2345, 0.0], event_id="e").degraded
    assert "1.2345" not in caplog.text
    with pytest.raises(InvalidInput, match="context"):
        router.decide([1.0, np.inf], event_id="f")
    with pytest.raises(InvalidInput, match="eligible"):
        router.decide([1.0, 0.0], event_id="g", eligible=[])


@pytest.mark.parametrize(
    ("rollout", "terms", "arm"),
    [
        (Rollout(allowed=("b", "c")), {}, "b"),
        (Rollout(caps={"a": 0.0}), {}, "b"),
        (Rollout(caps={"a": 0.0, "b": 0.0}, allowed=("b", "c")), {}, "c"),
        (Rollout(allowed=("b", "c")), {"eligible": ["a", "c"]}, "c"),
        (Rollout(allowed=("b", "c"), baseline="a"), {}, "a"),
        (Rollout(caps={"a": 0.5}), {}, "a"),
    ],
    ids=repr,
)
def test_a_failing_policy_serves_only_what_the_rollout_lets_serve(rollout: Rollout, terms: Any, arm: str) -> None:
    policy: Callable[[], LinUCB] = lambda: Failing(n_arms=3, dim=2, channels=len(CHANNELS))  # noqa: E731
    router = Router(arms=ARMS, context=2, policy=policy(), key=b"k", rollout=rollout)
    served = {router.decide([1.0, 0.0], event_id=str(number), **terms).arm for number in range(20)}
    assert served == {arm}
