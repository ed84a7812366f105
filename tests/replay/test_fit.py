"""`bandit-router fit`: a state learned from a log, what it is worth, and a router that goes on from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bandit_router import Arm, Router
from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, build
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.fit import fit, gain, teaches
from bandit_router.replay.logs import LoggedEvents, write_log
from bandit_router.routing.groups import PolicySpec
from bandit_router.store.saved import load_state
from support.cli import run
from support.logs import uniform_log

LINUCB = PolicySpec(name="LinUCB")


def test_what_was_fitted_is_what_learning_row_by_row_gives() -> None:
    log = uniform_log(300)
    policy = build("LinUCB", {}, n_arms=4, dim=2, channels=len(CHANNELS))
    for row in range(300):
        policy.learn(log.contexts[row], int(log.arm[row]), log.outcomes[row])
    fitted = fit(log, LINUCB).policy
    assert fitted.estimate([1.0, 0.3]).mean == pytest.approx(policy.estimate([1.0, 0.3]).mean, nan_ok=True)


def test_baseline_rows_teach_and_diverted_and_degraded_ones_do_not() -> None:
    outcomes = uniform_log(100).outcomes.copy()
    mode = np.full(100, "shadow", dtype=object)
    mode[:10], outcomes[:10] = "diverted", np.nan
    degraded = np.arange(100) >= 95
    log = uniform_log(100, outcomes=outcomes, mode=mode, degraded=degraded)
    assert teaches(log).sum() == 85
    assert fit(log, LINUCB).policy.steps == 85


@pytest.mark.parametrize("name", ["Exp3", "EvidenceThompson", "LinTS", "EpsilonGreedy"])
@pytest.mark.parametrize("known", [True, False])
def test_policies_learn_with_and_without_propensities(name: str, known: bool) -> None:
    log = uniform_log(200) if known else uniform_log(200, propensity=np.full(200, np.nan))
    assert name in POLICIES
    policy = fit(log, PolicySpec(name=name)).policy
    assert policy.steps == 200
    assert policy.probabilities([1.0, 0.0]).sum() == pytest.approx(1.0)


def test_the_fitted_policy_earns_more_on_the_tail_than_a_fresh_one() -> None:
    found = gain(uniform_log(3000), PolicySpec(name="EpsilonGreedy"))
    assert (found.head_rows, found.tail_rows) == (2100, 900)
    assert found.difference is not None
    assert found.difference[0] < found.fitted - found.fresh < found.difference[1]
    assert found.fitted > found.logged + 0.1


def test_a_log_without_outcomes_teaches_nothing() -> None:
    log = LoggedEvents.of(arms=("a", "b"), arm=[0, 1], propensity=[0.5, 0.5])
    with pytest.raises(InvalidInput, match="nothing to learn from"):
        fit(log, LINUCB)


def test_a_router_goes_on_from_the_file(tmp_path: Path) -> None:
    write_log(uniform_log(1000), tmp_path / "log.parquet")
    state = tmp_path / "state.safetensors"
    result = run("fit", tmp_path / "log.parquet", "--policy", "LinUCB", "--out", state)
    assert result.exit_code == 0, result.output
    assert "fitted minus fresh" in result.stdout
    saved = load_state(state)
    assert (saved.arms, saved.policy.steps) == (("a", "b", "c", "d"), 1000)
    arms = [Arm(id=arm) for arm in "abcd"]
    router = Router(arms=arms, context=2, policy=saved.policy_for(saved.arms, saved.channels))
    assert router.decide([1.0, 0.0], event_id="r").probabilities.argmax() == 3
    again = run("replay", tmp_path / "log.parquet", "--policy", state)
    assert again.exit_code == 0


def test_the_arms_and_channels_are_those_of_the_routers_file(tmp_path: Path) -> None:
    write_log(uniform_log(400), tmp_path / "log.parquet")
    file = tmp_path / "router.toml"
    file.write_text(
        'context = 2\narms = [{id = "d"}, {id = "c"}, {id = "b"}, {id = "a"}, {id = "new"}]\n'
        '[policy]\nname = "LinTS"\n[objective]\nchannels = ["quality", "cost_usd"]\n'
    )
    state = tmp_path / "state.safetensors"
    result = run("fit", tmp_path / "log.parquet", "--router", file, "--out", state, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["learned"] == 400
    saved = load_state(state)
    assert (saved.arms, saved.channels) == (("d", "c", "b", "a", "new"), ("quality", "cost_usd"))


def test_a_log_without_propensities_still_fits_and_says_what_it_cannot(tmp_path: Path) -> None:
    write_log(uniform_log(200, propensity=np.full(200, np.nan)), tmp_path / "log.parquet")
    result = run("fit", tmp_path / "log.parquet", "--out", tmp_path / "state.safetensors")
    assert result.exit_code == 0, result.output
    assert "cannot say what that is worth" in result.stdout
