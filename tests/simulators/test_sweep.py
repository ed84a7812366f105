"""The sweep: RouterBench's figures by hand, the document, and the command's edges."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli import app
from bandit_router.cli.sweep import _range
from bandit_router.errors import InvalidInput
from bandit_router.simulators.scenario import load_scenario, with_overrides
from bandit_router.simulators.sweep import frontier, run_sweep

QUICK = ["--seeds", "2", "--horizon", "60", "--jobs", "1", "--policy", "LinUCB"]


def run(*arguments):
    return CliRunner().invoke(app, ["sweep", *arguments], catch_exceptions=False)


def test_the_hull_passes_over_points_below_it_and_goes_on_flat():
    """Corners (1, 0.25), (3, 0.75): trapezoid 1.0, then 2 x 0.75 flat, over a width of 4."""
    points = [(2.0, 0.25), (1.0, 0.25), (3.0, 0.75), (4.0, 0.5), (1.0, 0.1)]
    assert frontier(points, (1.0, 5.0))["aiq"] == pytest.approx((1.0 + 1.5) / 4)


def test_the_hull_is_concave():
    """(2, 0.3) lies under the line from (1, 0.2) to (3, 0.8), so the area is that of the line."""
    assert frontier([(1.0, 0.2), (2.0, 0.3), (3.0, 0.8)], (1.0, 3.0))["aiq"] == pytest.approx(0.5)


def test_a_convex_hull_from_elsewhere_gives_the_same_area():
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.column_stack([rng.uniform(1, 5, 12), rng.uniform(0, 1, 12)])
        best = points[points[:, 1].argmax()]
        closed = np.vstack([points, [[points[:, 0].min(), 0.0], [5.0, 0.0], [5.0, best[1]]]])
        low = points[:, 0].min()
        left = frontier([tuple(p) for p in points], (low, 5.0))["aiq"] * (5.0 - low)
        assert left == pytest.approx(ConvexHull(closed).volume)


def test_left_of_the_first_point_quality_falls_to_nothing_at_nothing():
    assert frontier([(2.0, 0.8)], (1.0, 2.0))["aiq"] == pytest.approx(0.6)


def test_peak_and_average_are_over_the_points():
    """Peak and average are over the points and a span without width has no area."""
    figures = frontier([(1.0, 0.5), (1.0, 0.7)], (1.0, 1.0))
    assert figures == {"aiq": None, "peak_quality": 0.7, "average_quality": pytest.approx(0.6)}


def test_a_dearer_price_never_buys_a_dearer_oracle():
    """A dearer price never buys a dearer oracle and zero price buys the best one."""
    scenario, folder = load_scenario("models/llm")
    scenario = with_overrides(scenario, seeds=2, horizon_requests=100, policies=scenario.policies[:1])
    document = run_sweep(scenario, folder, channel="cost_usd", prices=[0.0, 0.5, 1.0])
    amounts = [point["cost_usd_mean"] for point in document["oracle"]["points"]]
    assert amounts == sorted(amounts, reverse=True)
    for row in document["policies"]:
        assert row["aiq"] <= document["oracle"]["aiq"]
        assert [point["price"] for point in row["points"]] == [0.0, 0.5, 1.0]


def test_the_command_prints_one_document_and_writes_its_files(tmp_path):
    result = run("--price", "cost_usd=0:0.4:0.2", *QUICK, "--json", "--out", str(tmp_path))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["prices"] == [0.0, 0.2, 0.4]
    assert json.loads((tmp_path / "sweep.json").read_text()) == document
    assert (tmp_path / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "frontier.svg").read_text()


def test_the_table_names_policy_oracle_and_arms():
    output = run("--price", "cost_usd=0:1:1", *QUICK).stdout
    for name in ("LinUCB", "oracle of each request", "fixed arms, mixed"):
        assert name in output


def test_a_range_includes_its_end_where_a_step_lands_on_it():
    assert _range("energy_j=0:1:0.1") == ("energy_j", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert _range("cost_usd=0.5:1:0.4") == ("cost_usd", [0.5, 0.9])


@pytest.mark.parametrize(
    ("prices", "code", "message"),
    [
        ([], 2, "give one --price CHANNEL=FROM:TO:STEP"),
        (["cost_usd=0:1:0.5", "energy_j=0:1:0.5"], 2, "got 2"),
        (["cost_usd=0:1"], 2, "must be CHANNEL=FROM:TO:STEP"),
        (["cost_usd=1:0:0.1"], 2, "FROM at most TO"),
        (["cost_usd=0:1:0"], 2, "STEP above 0"),
        (["cost_usd=0:1:1e-12"], 2, "at most 1000 prices"),
        (["energy_j=0:1:0.5"], 4, "this scenario meters cost_usd"),
        (["cost_usd=0:1:0.5", "latency_s=x"], 2, "must be CHANNEL=VALUE"),
        (["cost_usd=0:12:6", "cost_usd=1"], 2, "sweeps cost_usd and holds it fixed"),
    ],
)
def test_a_price_that_cannot_be_swept_is_refused_with_the_reason(prices, code, message):
    result = run(*(part for price in prices for part in ("--price", price)), *QUICK)
    assert result.exit_code == code
    assert message in re.sub(r"\s+", " ", result.stderr)


def test_an_unmetered_channel_is_refused_before_anything_runs():
    scenario, folder = load_scenario("models/llm")
    with pytest.raises(InvalidInput, match="cannot sweep 'tokens'"):
        run_sweep(scenario, folder, channel="tokens", prices=[0.0])
