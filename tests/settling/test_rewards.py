"""Rules for rewards: combination, refusal, settlement."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import Decision
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.settling.memory import Memory
from bandit_router.settling.rules import MAX_REWARDS, Reward, RewardRule, StoreRule, combine, refusal, settle
from bandit_router.store import Store

FAULTS = ("unknown", "duplicate", "too_many", "late", "settled", "degraded", "diverted")
values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)
QUALITY = Utility()


def decision(at_s: float = 1000.0, **changes: object) -> Decision:
    fields = dict(
        event_id="e",
        arm="a",
        arm_index=0,
        propensity=0.5,
        probabilities=None,
        context=np.ones(1),
        eligible=None,
        penalty=None,
        timestamp_s=at_s,
        policy="LinUCB",
        state_version=0,
    )
    return Decision(**{**fields, **changes})


def reward(at_s: float = 1000.0, reward_id: str = "r", **channels: float) -> Reward:
    return Reward(event_id="e", reward_id=reward_id, at_s=at_s, outcome=Outcome(**channels))


@given(values)
def test_aggregates_are_the_textbook_ones_for_negative_values_too(numbers: list[float]) -> None:
    expected = {
        "first": numbers[0],
        "last": numbers[-1],
        "sum": math.fsum(numbers),
        "mean": statistics.fmean(numbers),
        "min": sorted(numbers)[0],
        "max": sorted(numbers)[-1],
    }
    for name, value in expected.items():
        combined = combine(RewardRule(aggregate=name), [Outcome(quality=v) for v in numbers])
        assert combined.quality == pytest.approx(value, rel=1e-12, abs=1e-12)


@given(st.permutations([0.1, 0.2, 0.3, -1e16, 1e16, 0.7]))
def test_sum_mean_min_and_max_do_not_depend_on_the_order(numbers: list[float]) -> None:
    for name in ("sum", "mean", "min", "max"):
        rule = RewardRule(aggregate=name)
        combined = combine(rule, [Outcome(quality=v) for v in numbers])
        assert combined == combine(rule, [Outcome(quality=v) for v in sorted(numbers)])


def test_partial_outcomes_merge_channel_by_channel() -> None:
    parts = [Outcome(cost_usd=0.2, tokens=10), Outcome(quality=0.9), Outcome(cost_usd=0.4)]
    assert combine(RewardRule(aggregate="sum"), parts) == Outcome(
        quality=0.9, cost_usd=math.fsum([0.2, 0.4]), tokens=10
    )
    assert combine(RewardRule(), parts) == Outcome(quality=0.9, cost_usd=0.2, tokens=10)


@pytest.mark.parametrize(
    ("report", "seen", "settled", "reason"),
    [
        (reward(quality=0.5), (), False, None),
        (reward(quality=math.nan), (), False, "invalid"),
        (reward(quality=math.inf), (), False, "invalid"),
        (reward(quality=1.5), (), False, "out_of_range"),
        (reward(cost_usd=-0.1), (), False, "out_of_range"),
        (reward(quality=0.5), ("r",), False, "duplicate"),
        (reward(quality=0.5), (), True, "settled"),
        (reward(quality=0.5), ("r",), True, "duplicate"),
        (reward(at_s=1010.0, quality=0.5), (), False, None),
        (reward(at_s=1010.5, quality=0.5), (), False, "late"),
        (reward(at_s=998.0, quality=0.5), (), False, None),
        (reward(at_s=997.5, quality=0.5), (), False, "unknown"),
    ],
)
def test_a_reward_is_refused_for_the_reason_that_applies(
    report: Reward, seen: tuple[str, ...], settled: bool, reason: str | None
) -> None:
    rule = StoreRule(window_s=10.0, early_s=2.0)
    assert refusal(rule, report, decision(), seen=seen, settled=settled) == reason


def test_the_page_lists_the_reasons_in_the_order_they_are_asked() -> None:
    """A reward with every fault but the first ones is refused for the first it has, as the page lists them."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "count-once.md").read_text()
    listed = re.findall(r"^\| \d \| `(\w+)`", page, flags=re.MULTILINE)
    assert listed == ["invalid", "out_of_range", *FAULTS]
    for first, reason in enumerate(FAULTS):
        faults = list(FAULTS)[first:]
        decided = None if "unknown" in faults else decision(degraded="degraded" in faults)
        report = msgspec.structs.replace(
            reward(at_s=1011.0 if "late" in faults else 1000.0, quality=0.5), served_arm="elsewhere"
        )
        seen = [f"r{i}" for i in range(MAX_REWARDS)] if "too_many" in faults else []
        seen += ["r"] if "duplicate" in faults else []
        rule = StoreRule(window_s=10.0, early_s=0.0)
        assert refusal(rule, report, decided, seen=seen, settled="settled" in faults) == reason
        for quality, worse in ((math.nan, "invalid"), (1.5, "out_of_range")):
            spoilt = msgspec.structs.replace(report, outcome=Outcome(quality=quality))
            assert refusal(rule, spoilt, decided, seen=seen, settled="settled" in faults) == worse


def test_rewards_of_no_or_degraded_decisions_are_turned_away() -> None:
    """A reward without decision is unknown and one of a degraded decision is refused."""
    rule = StoreRule(early_s=120.0)
    assert refusal(rule, reward(quality=0.5), None, seen=(), settled=False) == "unknown"
    assert refusal(rule, reward(quality=0.5), decision(degraded=True), seen=(), settled=False) == "degraded"


def closed(rule: RewardRule, outcomes: list[Outcome], utility: Utility = QUALITY) -> tuple[str, float | None, bool]:
    entry = settle(rule, utility, decision(), outcomes, position=1, closed=True)
    assert entry is not None
    return entry.status, entry.reward, entry.learned


def test_first_settles_as_soon_as_every_priced_channel_is_known() -> None:
    priced = Utility(prices={"cost_usd": 1.0})
    rule, partial = RewardRule(), [Outcome(cost_usd=0.25)]
    assert settle(rule, priced, decision(), partial, position=1, closed=False) is None
    entry = settle(rule, priced, decision(), [*partial, Outcome(quality=0.75)], position=1, closed=False)
    assert entry is not None
    assert (entry.reward, entry.status, entry.learned) == (0.5, "rewarded", True)


@pytest.mark.parametrize("aggregate", ["last", "sum", "mean", "min", "max"])
def test_other_aggregates_wait_for_the_window(aggregate: str) -> None:
    rule = RewardRule(aggregate=aggregate)
    assert settle(rule, QUALITY, decision(), [Outcome(quality=0.5)], position=1, closed=False) is None
    assert closed(rule, [Outcome(quality=0.5)]) == ("rewarded", 0.5, True)


def test_a_closed_window_settles_at_the_default_or_expires() -> None:
    assert closed(RewardRule(), []) == ("expired", None, False)
    assert closed(RewardRule(default=Outcome(quality=0.125)), []) == ("default", 0.125, True)
    rule = RewardRule(default=Outcome(quality=0.0), aggregate="max")
    assert closed(rule, [Outcome(quality=0.5)]) == ("rewarded", 0.5, True)
    assert closed(rule, [Outcome(cost_usd=0.5)], Utility(prices={"cost_usd": 1.0})) == ("default", -0.5, True)


def test_a_priced_channel_that_never_came_is_not_learned_as_free() -> None:
    assert closed(RewardRule(), [Outcome(quality=0.9)], Utility(prices={"cost_usd": 1.0})) == ("unmetered", None, False)


@pytest.mark.parametrize("mode", ["shadow", "holdout", "off"])
def test_decisions_of_modes_that_do_not_learn_are_settled_unlearned(mode: str) -> None:
    entry = settle(RewardRule(), QUALITY, decision(mode=mode), [Outcome(quality=1.0)], position=1, closed=False)
    assert entry is not None
    assert (entry.reward, entry.learned) == (1.0, False)


@pytest.mark.parametrize(
    "settings",
    [
        {"window_s": 0},
        {"window_s": math.nan},
        {"aggregate": "median"},
        {"default": Outcome(quality=2.0)},
    ],
)
def test_impossible_rules_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        RewardRule(**settings)


@pytest.mark.parametrize("settings", [{"early_s": -1.0}, {"early_s": math.nan}, {"max_events": 0}])
def test_a_store_that_could_keep_nothing_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=r"must be (at least|above)"):
        Memory(**settings)
    with pytest.raises(InvalidInput, match="must be at least"):
        Store("sqlite:///events.db", **settings)
