"""The capacity curve."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli import app
from bandit_router.errors import InvalidInput
from bandit_router.simulators.capacity import parse_slots

QUICK = ["--seeds", "2", "--horizon", "300", "--jobs", "1", "--json"]


@pytest.mark.parametrize("text", ["", "a", "3:1", "-1", "1:2:3", "-1:2", "1:100000000", f"1:{10**30}"])
def test_slots_that_make_no_sense_are_refused(text):
    with pytest.raises(InvalidInput, match="slots must be"):
        parse_slots(text)


def test_the_marginal_value_is_the_gain_to_the_next_size_per_slot():
    result = CliRunner().invoke(app, ["capacity", "adapters/zipf", "--slots", "0,2,15", *QUICK])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["capacity"]
    assert [row["slots"] for row in rows] == [0, 2, 15]
    gain = (rows[1]["utility_mean"]["mean"] - rows[0]["utility_mean"]["mean"]) / 2
    assert rows[0]["marginal_utility"]["mean"] == pytest.approx(gain)
    assert rows[-1]["marginal_utility"] is None
    assert rows[0]["miss_rate"] > rows[1]["miss_rate"] >= rows[2]["miss_rate"]


@pytest.mark.parametrize(("scenario", "controller"), [("zipf", "ExchangeCredit"), ("trace", "ReuseHazard")])
def test_the_default_controller_knows_whether_requests_name_their_adapter(scenario, controller):
    result = CliRunner().invoke(app, ["capacity", f"adapters/{scenario}", "--slots", "2", *QUICK])
    assert json.loads(result.stdout)["policy"].endswith(controller)


def test_a_scenario_without_paging_is_a_usage_error():
    result = CliRunner().invoke(app, ["capacity", "models/llm"])
    assert result.exit_code == 2
    assert "has no paging" in result.stderr


def test_simulate_reports_paging_per_policy_with_the_promised_fields():
    result = CliRunner().invoke(app, ["simulate", "adapters/zipf", "--controller", "LRU", "--capacity", "3", *QUICK])
    assert result.exit_code == 0
    (policy,) = json.loads(result.stdout)["policies"]
    assert policy["policy"] == "LinUCB + LRU"
    paging = policy["paging"]
    assert {"misses", "miss_rate", "loads", "page_ms_per_request", "regret_static_cache"} <= paging.keys()
    total = paging["regret_static_cache"]["mean"]
    parts = paging["routing_regret"] + paging["cache_regret"] + paging["reload_cost"]
    assert parts == pytest.approx(total, abs=1e-9)
    assert np.mean(paging["regret_by_seed"]) == pytest.approx(total, abs=1e-9)
