"""A simulated router: the same choices as the policy alone, and what only a router can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.simulators.arena import Arena
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import Scenario, load_scenario
from bandit_router.toml_files import parse_toml

LARGE, SMALL = "mistralai/mistral-large-2512", "meta-llama/llama-3.1-8b-instruct"
TABLE = 'environment = {kind = "table", table = "models_llm", contexts = ["task"]}\nname = "models/llm"\nseeds = 2\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def arms_of_the_table() -> list[str]:
    scenario, folder = load_scenario("models/llm")
    return [arm.id for arm in Arena.of(scenario, folder).environment.arms]


def run(folder: Path, *, router: str = "", context: str | None = None, scenario: str = "", arms: Any = None) -> Any:
    """The results document and experiment of a table served by a router."""
    ids = arms_of_the_table() if arms is None else arms
    listed = ", ".join(f'{{id = "{arm}"}}' for arm in ids)
    dim = Arena.of(parse_toml(TABLE + 'policies = [{name = "LinUCB"}]', Scenario, name="s"), None).environment.dim
    (folder / "router.toml").write_text(f"context = {context or dim}\narms = [{listed}]\n{router}")
    (folder / "scenario.toml").write_text(f'{TABLE}router = "router.toml"\nhorizon_requests = 1200\n{scenario}')
    return run_scenario(*load_scenario(str(folder / "scenario.toml")))


PRICED = '[objective]\nprices = {cost_usd = 0.2}\nscales = {cost_usd = 0.0145}\nchannels = ["quality", "cost_usd"]\n'


@pytest.mark.parametrize("policy", ["LinUCB", "LinTS", "EvidenceThompson", "UCB1"])
def test_a_router_with_a_policy_alone_chooses_as_the_compiled_loop_does(folder: Path, policy: str) -> None:
    routed = run(folder, router=f'policy = {{name = "{policy}"}}\n{PRICED}')
    text = f'{TABLE}horizon_requests = 1200\npolicies = [{{name = "{policy}"}}]\n'
    alone = run_scenario(
        parse_toml(f"{text}prices = {{cost_usd = 0.2}}\nscales = {{cost_usd = 0.0145}}", Scenario, name="s")
    )
    assert routed.curves[policy].tobytes() == alone.curves[policy].tobytes()
    one, two = routed.document["policies"][0], alone.document["policies"][0]
    assert one["arm_share"] == two["arm_share"]
    assert one["router"]["counted"]["settled"] == 1200
    assert routed.document["references"] == alone.document["references"]


def test_missing_qualities_are_never_learned_and_late_ones_are(folder: Path) -> None:
    feedback = "[feedback]\nlate_share = 0.2\ndelay_s = 30.0\nmissing_share = 0.1\n"
    document = run(folder, router=PRICED, scenario=feedback).document
    counted = document["policies"][0]["router"]["counted"]
    assert abs(counted["late"] - 240) < 4 * np.sqrt(1200 * 0.2 * 0.8 / 2)
    assert abs(counted["missing"] - 120) < 4 * np.sqrt(1200 * 0.1 * 0.9 / 2)
    assert counted["settled"] == 1200 - counted["missing"]


def test_a_reward_after_its_window_is_refused_as_late(folder: Path) -> None:
    feedback = "[feedback]\nlate_share = 1.0\ndelay_s = 50.0\n"
    document = run(folder, router=f"{PRICED}[objective.rewards]\nwindow_s = 50.0\n", scenario=feedback).document
    counted = document["policies"][0]["router"]["counted"]
    in_time = 1200 * (1 - np.exp(-1))  # an exponential delay is under its mean with probability 1 - 1/e
    assert abs(counted["settled_rewarded"] - in_time) < 4 * np.sqrt(1200 / 4 / 2)
    doubted = counted.get("refused_suspect", 0)  # a bill of the table that is far above its arm's first ones
    assert counted["refused_late"] == pytest.approx(1200 - counted["settled_rewarded"] - doubted)
    assert doubted < 2


def test_a_share_is_held_out_and_earns_what_the_baseline_earns(folder: Path) -> None:
    rollout = f'[rollout]\nbaseline = "{SMALL}"\nholdout = 0.3\n'
    router = run(folder, router=PRICED + rollout).document["policies"][0]["router"]
    assert abs(router["holdout_share"] - 0.3) < 4 * np.sqrt(0.21 / 2400)
    assert router["counted"]["mode_holdout"] + router["counted"]["mode_online"] == 1200


def test_what_cannot_be_paid_for_is_refused_and_earns_nothing(folder: Path) -> None:
    window = '[[budgets.limits]]\nkind = "window"\nname = "all"\nchannel = "cost_usd"\ntotal = 0.01\nwindow_s = 1e9\n'
    costs = "".join(f'[budgets.expected."{arm}"]\ncost_usd = 0.02\n' for arm in arms_of_the_table())
    row = run(folder, router=window + costs + PRICED).document["policies"][0]
    assert row["router"]["counted"]["refused_budget"] == 1200
    assert row["utility_mean"]["mean"] == 0.0


def test_spend_is_paced_to_its_target(folder: Path) -> None:
    limit = '[[budgets.limits]]\nkind = "rate"\nname = "r"\nchannel = "cost_usd"\nper_request = 0.0002\n'
    row = run(folder, router=limit + PRICED.replace("prices = {cost_usd = 0.2}\n", "")).document["policies"][0]
    assert row["cost_usd_mean"] == pytest.approx(row["router"]["limits"]["r"]["mean"])
    assert row["router"]["limits"]["r"]["requests"] == 1200


def test_an_operator_pauses_reprices_and_pulls_the_kill_switch(folder: Path) -> None:
    operations = (
        f'[[operations]]\nstep = 0\npause = "{LARGE}"\n'
        "[[operations]]\nstep = 600\nprices = {cost_usd = 0.0}\n"
        'rollout = {mode = "off"}\n'
    )
    rollout = f'[rollout]\nbaseline = "{SMALL}"\n'
    row = run(folder, router=PRICED + rollout, scenario=operations).document["policies"][0]
    assert row["arm_share"][LARGE] == 0.0
    assert row["router"]["counted"]["mode_off"] == 600
    assert row["arm_share"][SMALL] >= 0.5


def test_arms_are_matched_by_id_in_any_order_and_number(folder: Path) -> None:
    experiment = run(folder, router=PRICED, arms=[LARGE, SMALL])
    assert experiment.document["arms"] == [LARGE, SMALL]
    assert set(experiment.document["policies"][0]["arm_share"]) == {LARGE, SMALL}
    best = experiment.document["references"]["best_fixed"]
    backwards = run(folder, router=PRICED, arms=[SMALL, LARGE]).document["references"]["best_fixed"]
    assert best == backwards
    with pytest.raises(InvalidInput, match="no arm 'nobody'"):
        run(folder, router=PRICED, arms=[LARGE, "nobody"])


def test_a_request_of_the_table_is_encoded_as_the_router_says(folder: Path) -> None:
    experiment = run(folder, router=PRICED, context='[{kind = "bias"}, {kind = "text_complexity"}]')
    assert experiment.document["environment"]["dim"] == 8
    with pytest.raises(InvalidInput, match="context has 3 numbers"):
        run(folder, router=PRICED, context="3")


def test_paging_in_is_charged_and_counted(folder: Path) -> None:
    environment = 'environment = {kind = "adapters", adapters = 4, dim = 3}\nname = "a"\nseeds = 2\n'
    alone = parse_toml(environment + 'policies = [{name = "LinUCB"}]\nhorizon_requests = 400', Scenario, name="s")
    arms = Arena.of(alone, None).environment.arms
    listed = ", ".join(f'{{id = "{arm.id}", size_bytes = {arm.size_bytes}}}' for arm in arms)
    text = f'context = 3\narms = [{listed}]\npolicy = {{name = "LinUCB", settings = {{floor = 1.0}}}}\n'
    (folder / "s.toml").write_text(f'{environment}router = "router.toml"\nhorizon_requests = 400\n')
    rows = []
    for slots in (4, 1):
        paging = f'[residency]\nprofile = "peft-local"\nweight_utility = 0.2\ncapacity_slots = {slots}\n'
        (folder / "router.toml").write_text(text + paging)
        rows.append(run_scenario(*load_scenario(str(folder / "s.toml"))).document["policies"][0])
    roomy, tight = rows
    assert roomy["router"]["counted"]["misses"] < 40  # until an adapter has earned its load, and never again
    assert tight["router"]["counted"]["misses"] > 100  # three of four adapters are out at any time
    loss = roomy["utility_mean"]["mean"] - tight["utility_mean"]["mean"]
    misses = tight["router"]["counted"]["misses"] - roomy["router"]["counted"]["misses"]
    assert 0 < loss <= 0.2 * misses / 400 + 1e-9  # a miss costs the whole weight at most


def test_other_policies_are_compared_in_the_same_router(folder: Path) -> None:
    policies = 'policies = [{name = "LinUCB"}, {name = "UniformRandom"}]\n'
    rollout = f'[rollout]\nbaseline = "{SMALL}"\nholdout = 0.3\n'
    rows = run(folder, router=PRICED + rollout, scenario=policies).document["policies"]
    assert [row["policy"] for row in rows] == ["LinUCB", "UniformRandom"]
    assert rows[0]["router"]["holdout_share"] == rows[1]["router"]["holdout_share"]  # the same requests
    assert rows[0]["utility_mean"]["mean"] > rows[1]["utility_mean"]["mean"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[feedback]\nlate_share = 0.5\n", "feedback and operations are a router's"),
        ('router = "r.toml"\nprices = {cost_usd = 0.1}\n', "stand in its own file"),
        ('router = "r.toml"\n[feedback]\nlate_share = 0.6\nmissing_share = 0.6\n', "sum to at most 1"),
    ],
)
def test_scenarios_that_contradict_themselves_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_toml(f'{TABLE}policies = [{{name = "LinUCB"}}]\n{text}', Scenario, name="s.toml")
