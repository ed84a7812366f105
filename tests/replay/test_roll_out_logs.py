"""Logs of the package's own life: shadow, apprentice, holdout, guarded and diverted rows, each valued as what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bandit_router import Arm, ConservativeGuard, Objective, Outcome, PolicySpec, Rollout, Router
from bandit_router.errors import InvalidInput
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import Intake, LoggedEvents, write_log
from bandit_router.replay.logs.intake import Assembler
from bandit_router.replay.logs.record import row_of
from bandit_router.replay.modes import SERVED, counted, drawn
from bandit_router.replay.stream import stream
from bandit_router.replay.targets import follow, one_arm
from support.cli import run
from support.logs import uniform_log

TRUTH = {"base": 0.4, "good": 0.7, "poor": 0.2}
EXPLORING = PolicySpec(name="EpsilonGreedy", settings={"epsilon": 0.3})


def life(*phases: tuple[int, Rollout], seed: int = 0, policy: PolicySpec = EXPLORING) -> LoggedEvents:
    """What a router logs over phases of so many decisions; every unit is a user of ten requests."""
    rng = np.random.default_rng(seed)
    router = Router(
        arms=[Arm(id=arm) for arm in TRUTH],
        context=1,
        policy=policy,
        objective=Objective(channels=("quality",)),
        key=b"%d" % seed,
    )
    assembler, number = Assembler(Intake(), arms=list(TRUTH)), 0
    for rows, rollout in phases:
        router.set_rollout(**{name: getattr(rollout, name) for name in rollout.__struct_fields__})
        for _ in range(rows):
            number += 1
            decision = router.decide([1.0], event_id=f"r-{number}", unit=f"u-{number // 10}")
            outcome = Outcome(quality=float(rng.random() < TRUTH[decision.arm]))
            router.observe(decision.event_id, outcome)
            assembler.add("log", number, row_of(decision, outcome, arms=list(TRUTH)))
    return assembler.log("log")


SHADOW, ONLINE = Rollout(mode="shadow", baseline="base"), Rollout(baseline="base")


def value(log: LoggedEvents, arm: str, estimator: str = "ips") -> float:
    return evaluate(log, one_arm(log, arm)).metrics["utility"].estimates[estimator].value


def test_a_roll_out_is_valued_on_the_rows_that_were_drawn_with_a_note() -> None:
    log = life((1000, SHADOW), (2000, ONLINE))
    answer = evaluate(log, one_arm(log, "good"))
    assert answer.answered
    alone = log.take(log.mode == "online")
    assert answer.metrics == evaluate(alone, one_arm(alone, "good")).metrics
    assert answer.diagnostics.rows == 2000
    assert any(note.startswith("1000 shadow rows left out") for note in answer.diagnostics.warnings)


@pytest.mark.parametrize("share", [0.04, 0.1, 0.3])
def test_holdout_logs_give_the_right_values(share: float) -> None:
    """The mean over 20 logs is within 3.5 standard errors of the truth, for every arm."""
    logs = [life((2000, Rollout(baseline="base", holdout=share)), seed=seed) for seed in range(20)]
    for arm, truth in TRUTH.items():
        found = [value(log, arm) for log in logs]
        assert abs(np.mean(found) - truth) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_the_holdout_itself_gives_the_baseline() -> None:
    log = life((4000, Rollout(baseline="base", holdout=0.3)))
    held = log.mode == "holdout"
    answer = evaluate(log, one_arm(log, "base"), modes=["holdout"])
    assert answer.metrics["quality"].estimates["ips"].value == pytest.approx(log.channel("quality")[held].mean())
    assert not evaluate(log, one_arm(log, "good"), modes=["holdout"]).answered


def test_apprentice_off_and_guarded_rows_are_left_out_too() -> None:
    guarded = Rollout(baseline="base", guard=ConservativeGuard(slack=0.1))
    phases = ((300, Rollout(mode="apprentice", baseline="base")), (200, Rollout(mode="off", baseline="base")))
    log = life(*phases, (1500, guarded), policy=PolicySpec(name="LinUCB"))
    assert {"apprentice", "off", "guarded"} <= set(log.mode)
    assert set(log.mode[drawn(log)]) == {"online"}
    notes = counted(log)[1]
    assert [note.split(" rows")[0].split()[1] for note in notes] == ["apprentice", "off", "guarded"]


def test_diverted_and_failed_rows_stay_beside_the_online_ones() -> None:
    """Leaving out what went wrong would favour the arm that goes wrong: its weights no longer have the mean 1."""
    log = uniform_log(4000)
    mode = np.where((log.arm == 0) & (np.arange(4000) % 2 == 0), "diverted", "online").astype(object)
    outcomes = np.where((mode == "diverted")[:, None], np.nan, log.outcomes)
    log = uniform_log(4000, mode=mode, outcomes=outcomes)
    assert drawn(log).all()
    assert evaluate(log, one_arm(log, "a")).diagnostics.weight_mean == pytest.approx(1.0, abs=0.1)
    assert not evaluate(log, one_arm(log, "a"), modes=["online"]).answered


def test_a_mode_of_somebody_elses_is_drawn() -> None:
    log = uniform_log(100, mode=np.full(100, "canary", dtype=object))
    assert drawn(log).all()


def test_a_log_of_nothing_but_the_baseline_still_gives_the_baseline() -> None:
    log = life((500, SHADOW))
    assert value(log, "base") == pytest.approx(log.channel("quality").mean())
    assert not evaluate(log, one_arm(log, "good")).answered


def test_a_mode_that_no_row_has_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no row has the mode shadow; the log has online"):
        evaluate(uniform_log(50), one_arm(uniform_log(50), "a"), modes=["shadow"])


def test_what_the_baseline_served_is_no_history_of_a_learning_policy() -> None:
    """Accepted with the baseline's propensity of 1 alone, it would be a history of the baseline."""
    from bandit_router.policies import build

    log = life((500, SHADOW), (500, ONLINE))
    policy = build("UniformRandom", {}, n_arms=3, dim=1, channels=log.outcomes.shape[1])
    _, kept = follow(policy, log)
    assert set(log.mode[kept]) == {"online"}
    assert policy.steps == kept.sum() > 0


def test_the_command_says_what_was_left_out_and_takes_modes(tmp_path: Path) -> None:
    log = life((1000, SHADOW), (2000, Rollout(baseline="base", holdout=0.2)))
    path = tmp_path / "log.parquet"
    write_log(log, path)
    answers = []
    for more in ((), ("--stream",)):
        result = run("replay", path, "--policy", "arm=good", *more)
        assert result.exit_code == 0, result.output
        assert "1000 shadow rows left out" in result.stdout
        assert "holdout rows left out" in result.stdout
        held = run("replay", path, "--policy", "arm=base", "--mode", "holdout", "--mode", "shadow", "--json", *more)
        answers.append(json.loads(held.stdout)["metrics"]["quality"]["estimates"]["ips"]["value"])
    outside = log.mode != "online"
    assert answers == [pytest.approx(log.channel("quality")[outside].mean())] * 2
    assert run("replay", path, "--policy", "arm=good", "--mode", "nonsense").exit_code == 4


def test_a_streamed_file_of_shadow_rows_alone_joins_the_others(tmp_path: Path) -> None:
    log = life((300, SHADOW), (700, ONLINE))
    for name, rows in (("a", slice(0, 300)), ("b", slice(300, None))):
        write_log(log.take(rows), tmp_path / f"{name}.parquet")
    sums = stream([tmp_path / "a.parquet", tmp_path / "b.parquet"], "good")
    assert (sums.rows, sums.left_out, sums.other) == (1000, 0, {"shadow": 300})


def test_every_mode_of_the_router_is_drawn_or_served() -> None:
    from typing import get_args

    from bandit_router.records.decisions import Mode

    assert set(get_args(Mode)) == {"online", *SERVED}
