"""Tables with holes: a missing cell cannot be played, and every figure says over what it is."""

import numpy as np
import pytest

from bandit_router import EvidenceThompson, LinUCB
from bandit_router.errors import InvalidInput
from bandit_router.policies.baselines import UniformRandom
from bandit_router.simulators.adapters import TableAdapters
from bandit_router.simulators.configs import PolicyConfig, TableConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.run import reference, simulate
from bandit_router.simulators.scenario import Scenario
from bandit_router.simulators.sweep import run_sweep
from bandit_router.simulators.table import TableEnvironment, describe_table, load_table
from bandit_router.testing import check_environment

HOLES = {  # "large" is not known on query 0, "small" not on query 2
    "query_id": ["a", "b", "b", "c"],
    "arm": ["small", "small", "large", "large"],
    "quality": [0.25, 0.5, 0.75, 0.0],
    "cost_usd": [1.0, 1.0, 4.0, 4.0],
}
QUERIES = {"query_id": ["a", "b", "c"], "task": ["x", "x", None]}


@pytest.fixture
def folder(write_table):
    return write_table(queries=QUERIES, outcomes=HOLES)


def test_a_missing_cell_and_one_without_quality_are_the_same_hole(write_table, folder):
    null = {
        name: [*values, extra] for (name, values), extra in zip(HOLES.items(), ["a", "large", None, 2.0], strict=True)
    }
    table, other = load_table(folder), load_table(write_table("null", queries=QUERIES, outcomes=null))
    assert table.holes == other.holes == 2
    assert table.playable.tolist() == other.playable.tolist() == [[True, False], [True, True], [False, True]]
    assert table.first_hole() == "tiny has 2 holes, the first at query 'a', arm 'large'"


def test_an_incomplete_table_obeys_the_laws_of_environments(folder):
    check_environment(TableEnvironment(load_table(folder)))


def test_the_check_figures_are_over_the_cells_there_are(folder):
    figures = describe_table(load_table(folder))
    assert figures["holes"] == 2
    assert [row["quality_mean"] for row in figures["per_arm"]] == [0.375, 0.375]
    assert figures["oracle_quality_mean"] == pytest.approx((0.25 + 0.75 + 0.0) / 3)
    assert figures["random_quality_mean"] == pytest.approx((0.25 + 0.625 + 0.0) / 3)
    assert figures["best_per_task_quality_mean"] == pytest.approx((2 * 0.75 + 0.0) / 3)


def test_comparators_are_over_playable_arms(folder):
    environment = TableEnvironment(load_table(folder))
    known = reference(environment, np.array([1.0, 0.0]), seed=0, horizon=3)
    assert known.oracle[-1] == pytest.approx(0.25 + 0.75 + 0.0)
    # A fixed arm gets the playable ones' mean in its holes: small 0.25 + 0.5 + 0, large 0.25 + 0.75 + 0.
    assert known.fixed[-1].tolist() == pytest.approx([0.75, 1.0])


@pytest.mark.parametrize("policy", [LinUCB, UniformRandom, EvidenceThompson])
def test_no_policy_plays_a_hole(folder, policy):
    environment = TableEnvironment(load_table(folder))
    run = simulate(
        environment, policy(n_arms=2, dim=environment.dim, channels=2), np.array([1.0, -0.1]), seed=1, horizon=90
    )
    assert np.isfinite(run.curve).all()
    assert run.outcome_counts.tolist() == [90, 90]
    assert 30 <= run.plays[0] <= 60  # query a is its alone, query c never


def test_a_complete_table_has_no_mask_and_stays_compiled(write_table):
    block = next(TableEnvironment(load_table(write_table())).blocks(0, 3))
    assert block.playable is None


def scenario(folder, **parts):
    return Scenario(
        name="holes",
        environment=TableConfig(table=str(folder)),
        policies=(PolicyConfig(name="LinUCB"),),
        seeds=2,
        **parts,
    )


def test_results_say_the_holes_and_what_a_fixed_arm_gets_there(folder):
    document = run_scenario(scenario(folder)).document
    assert document["environment"]["holes"] == 2
    assert "mean of the playable arms" in document["environment"]["comparators"]
    assert document["references"]["random"]["utility_mean"] == pytest.approx(0.875 / 3)


def test_a_price_is_swept_over_playable_arms(folder):
    document = run_sweep(scenario(folder), channel="cost_usd", prices=[0.0, 4.0])
    assert [point["quality_mean"] for point in document["oracle"]["points"]] == pytest.approx([1.0 / 3, 0.75 / 3])


def test_a_priced_channel_must_be_known_where_an_arm_can_be_played(write_table):
    folder = write_table(queries=QUERIES, outcomes=HOLES | {"cost_usd": [1.0, None, 4.0, 4.0]})
    with pytest.raises(InvalidInput, match="priced channel"):
        run_scenario(scenario(folder, prices={"cost_usd": 0.1}))


def test_adapters_need_a_complete_table(folder):
    with pytest.raises(InvalidInput, match="complete table; tiny has 2 holes"):
        TableAdapters(load_table(folder))


def test_a_router_is_offered_the_playable_arms(folder, tmp_path):
    (tmp_path / "router.toml").write_text(
        'arms = [{ id = "large" }, { id = "small" }]\ncontext = [{ kind = "bias" }]\n'
    )
    document = run_scenario(scenario(folder, router="router.toml"), tmp_path).document
    assert np.isfinite(document["policies"][0]["utility_mean"]["mean"])
    (tmp_path / "router.toml").write_text('arms = [{ id = "large" }]\ncontext = [{ kind = "bias" }]\n')
    with pytest.raises(InvalidInput, match="no outcome of any arm that the router names"):
        run_scenario(scenario(folder, router="router.toml"), tmp_path)
