"""A decision becomes a row that a replay reads rightly, whatever the mode it was made in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router.policies import LinUCB
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision
from bandit_router.records.outcomes import CHANNELS, Outcome
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import Intake, LoggedEvents
from bandit_router.replay.logs.intake import Assembler
from bandit_router.replay.logs.record import Row, row_of
from bandit_router.replay.targets import one_arm
from bandit_router.routing.guard import ConservativeGuard
from bandit_router.routing.rollout import Rollout
from bandit_router.routing.router import Router
from support.routers import make_router

ARMS = [Arm(id="base"), Arm(id="b"), Arm(id="c")]
IDS = tuple(arm.id for arm in ARMS)
MADE: dict[str, dict[str, Any]] = {
    "online": {},
    "apprentice": {"rollout": Rollout(mode="apprentice")},
    "shadow": {"rollout": Rollout(mode="shadow")},
    "off": {"rollout": Rollout(mode="off")},
    "holdout": {"rollout": Rollout(holdout=0.5)},
    "bounds": {"rollout": Rollout(floors={"base": 0.6}, caps={"c": 0.1})},
    "allowed": {"rollout": Rollout(allowed=("b", "c"))},
    "guarded": {"guard": ConservativeGuard(slack=0.3)},
    "degraded": {},
}


class Failing(LinUCB):
    """A policy that cannot decide."""

    def _distribution(self, *_: object) -> Any:
        raise FloatingPointError


def served(made: str, count: int = 300) -> tuple[list[Decision], list[Row]]:
    """Decisions made that way, and their rows; base earns 0.6, the others 0.4."""
    kind = Failing if made == "degraded" else LinUCB
    policy = kind(n_arms=3, dim=1, channels=len(CHANNELS), floor=0.9)
    router = make_router(arms=ARMS, context=1, key=b"k", baseline="base", policy=policy, **MADE[made])
    decisions, rows = [], []
    for number in range(count):
        decision = router.decide([1.0], event_id=str(number))
        outcome = Outcome(quality=0.6 if decision.arm == "base" else 0.4)
        settled = router.observe(decision.event_id, outcome)
        decisions.append(decision)
        rows.append(row_of(decision, outcome, arms=IDS, reward=settled.reward))
    return decisions, rows


def log_of(rows: list[Row]) -> LoggedEvents:
    assembler = Assembler(Intake(strict=True), arms=IDS)
    for line, row in enumerate(rows):
        assembler.add("rows", line, row)
    return assembler.log("rows")


@pytest.mark.parametrize("made", MADE)
def test_a_row_carries_its_mode_and_its_distribution(made: str) -> None:
    """A row carries the mode and the distribution its arm was drawn from."""
    decisions, rows = served(made, 60)
    assert made in {d.mode for d in decisions} or made in ("bounds", "allowed", "degraded")
    for decision, row in zip(decisions, rows, strict=True):
        assert (row.mode, row.degraded, row.propensity) == (decision.mode, made == "degraded", decision.propensity)
        assert row.probabilities is not None
        assert row.probabilities[row.arm] == row.propensity
        assert sum(row.probabilities.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("made", [made for made in MADE if made != "degraded"])
def test_traffic_follows_the_logged_probabilities_in_every_mode(made: str) -> None:
    log = log_of(served(made)[1])
    assert log.probabilities is not None
    every = {"groups": {arm: arm for arm in IDS}, "modes": sorted(set(log.mode))}
    result = evaluate(log, log.probabilities, estimators=("ips", "mips"), **every)
    assert result.diagnostics.warnings == []
    values = [valued.value for valued in result.metrics["quality"].estimates.values()]
    np.testing.assert_allclose(values, log.channel("quality").mean())


@pytest.mark.parametrize("made", ["apprentice", "shadow", "off"])
def test_what_the_baseline_served_says_nothing_of_another_arm(made: str) -> None:
    log = log_of(served(made)[1])
    assert not evaluate(log, one_arm(log, "b")).answered
    assert evaluate(log, one_arm(log, "base")).metrics["quality"].estimates["ips"].value == pytest.approx(0.6)


def test_a_degraded_row_does_not_take_the_distributions_of_the_others() -> None:
    rows = [*served("online", 20)[1], *served("degraded", 21)[1][20:]]
    assert log_of(rows).probabilities is not None


@pytest.mark.parametrize("eligible", [None, ["base", "b"]])
def test_an_arm_added_later_was_not_eligible_before(eligible: list[str] | None) -> None:
    router = Router(arms=ARMS[:2], context=1, key=b"k")
    decision = router.decide([1.0], event_id="before", eligible=eligible)
    router.add_arm(ARMS[2])
    row = row_of(decision, Outcome(quality=0.5), arms=router.catalogue.ids)
    assert row.eligible == ["base", "b"]
    assert row.probabilities == {"base": 0.5, "b": 0.5}


def test_a_paused_arm_is_not_eligible() -> None:
    router = Router(arms=ARMS, context=1, key=b"k")
    router.pause("b")
    row = row_of(router.decide([1.0], event_id="e"), None, arms=router.catalogue.ids)
    assert row.eligible == ["base", "c"]
    assert row.probabilities == {"base": 0.5, "b": 0.0, "c": 0.5}
