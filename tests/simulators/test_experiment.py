"""A whole scenario: what the document holds, and that processes change nothing."""

import multiprocessing

import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY
from bandit_router.simulators.configs import PolicyConfig, TableConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import Scenario, with_overrides


@pytest.fixture
def scenario(write_table):
    return Scenario(
        name="tiny",
        environment=TableConfig(table=str(write_table())),
        policies=(
            PolicyConfig(name="LinUCB"),
            PolicyConfig(name="Fixed", label="small"),
            PolicyConfig(name="Fixed", label="large", settings={"arm": 1}),
            PolicyConfig(name="UniformRandom"),
        ),
        prices={"cost_usd": 0.2},  # the dearest arm's mean is 4 dollars: 0.05 a dollar
        seeds=3,
        horizon_requests=6,
    )


def timeless(document):
    return document | {"policies": [{**row, "events_per_second": None} for row in document["policies"]]}


def test_the_document_holds_the_hand_calculation(scenario):
    """Two passes: utilities small 2 x 1.10, large 2 x 1.15, oracle 2 x 1.80, the same on every seed."""
    document = run_scenario(scenario).document
    assert {name: document[name] for name in ("scenario", "horizon", "seeds", "arms")} == {
        "scenario": "tiny",
        "horizon": 6,
        "seeds": 3,
        "arms": ["small", "large"],
    }
    assert document["environment"]["prices"] == {"cost_usd": 0.2}
    assert document["references"] == {
        "best_fixed": {"arm": "large", "utility_mean": pytest.approx(2.3 / 6)},
        "oracle": {"utility_mean": pytest.approx(3.6 / 6)},
        "random": {"utility_mean": pytest.approx(2.25 / 6)},
    }
    small = {row["policy"]: row for row in document["policies"]}["small"]
    assert small["utility_mean"]["ci95"] == pytest.approx([2.2 / 6, 2.2 / 6])
    assert small["regret"]["best_fixed"]["mean"] == pytest.approx(0.1)
    assert small["regret"]["oracle"]["mean"] == pytest.approx(1.4)
    assert (small["quality_mean"], small["cost_usd_mean"]) == (pytest.approx(2.5 / 6), pytest.approx(1.0))


def test_policies_come_in_order_and_the_default_is_marked(scenario):
    """Policies come in the given order and only the untouched default is marked."""
    default, changed = PolicyConfig(name=DEFAULT_POLICY), PolicyConfig(name="Fixed", settings={"arm": 1})
    rows = run_scenario(with_overrides(scenario, policies=(changed, default))).document["policies"]
    assert [(row["policy"], row["default"]) for row in rows] == [("Fixed", False), (DEFAULT_POLICY, True)]


def test_two_processes_give_the_results_of_one(scenario):
    seen = []
    alone, pair = run_scenario(scenario, jobs=1), run_scenario(scenario, jobs=2, progress=seen.append)
    assert timeless(alone.document) == timeless(pair.document)
    assert {label: curve.tolist() for label, curve in alone.curves.items()} == {
        label: curve.tolist() for label, curve in pair.curves.items()
    }
    assert sorted(seen) == sorted(["reference", "LinUCB", "small", "large", "UniformRandom"] * 3)


def test_an_interrupt_ends_the_other_processes(scenario):
    def interrupt(label):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scenario(with_overrides(scenario, horizon_requests=20_000), jobs=2, progress=interrupt)
    assert multiprocessing.active_children() == []


def test_a_policys_results_do_not_depend_on_what_runs_beside_it(scenario):
    beside = run_scenario(scenario).document["policies"][0]
    alone = run_scenario(with_overrides(scenario, policies=scenario.policies[:1])).document["policies"][0]
    assert {**beside, "events_per_second": 0} == {**alone, "events_per_second": 0}


def test_curves_end_at_the_regret_of_the_document(scenario):
    experiment = run_scenario(scenario)
    for row in experiment.document["policies"]:
        assert experiment.curves[row["policy"]].shape == (3, 6)
        mean, low, high = experiment.bands()[row["policy"]]
        regret = row["regret"]["best_fixed"]
        assert [mean[-1], low[-1], high[-1]] == pytest.approx([regret["mean"], *regret["ci95"]], abs=1e-12)


def test_a_price_on_what_the_table_does_not_meter_is_refused(scenario, write_table, cells):
    with pytest.raises(InvalidInput, match="energy_j is priced but not metered"):
        run_scenario(with_overrides(scenario, prices={"energy_j": 0.1}))
    partly = write_table("partly", outcomes=cells | {"energy_j": [None, 2.0] * 3})
    with pytest.raises(InvalidInput, match="not metered for every request and arm"):
        run_scenario(with_overrides(scenario, prices={"energy_j": 0.1}, environment=TableConfig(table=str(partly))))
