import json
import re
import sys

import polars as pl
import pytest

from bandit_router.simulators.configs import PolicyConfig, TableConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.output import write_results
from bandit_router.simulators.scenario import Scenario


@pytest.fixture
def experiment(write_table):
    policies = (PolicyConfig(name="LinUCB"), PolicyConfig(name="UniformRandom"))
    environment = TableConfig(table=str(write_table()))
    return run_scenario(Scenario(name="tiny", environment=environment, policies=policies, seeds=2, horizon_requests=5))


def test_results_are_written_as_json_parquet_png_and_svg(experiment, tmp_path):
    paths = write_results(experiment, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["results.json", "curves.parquet", "regret.png", "regret.svg"]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(experiment.document))
    curves = pl.read_parquet(paths[1])
    assert curves.columns == ["policy", "seed", "step", "regret_best_fixed"]
    assert len(curves) == 2 * 2 * 5
    last = curves.filter(policy="LinUCB", seed=1, step=5).get_column("regret_best_fixed").item()
    assert last == experiment.curves["LinUCB"][1, -1]
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in paths[3].read_text()


def test_without_matplotlib_the_numbers_are_written_all_the_same(experiment, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert [path.name for path in write_results(experiment, tmp_path)] == ["results.json", "curves.parquet"]


def test_the_picture_shows_a_band_for_every_policy(experiment, tmp_path):
    write_results(experiment, tmp_path)
    picture = (tmp_path / "regret.svg").read_text()
    assert len(re.findall(r'id="\w*PolyCollection_\d+"', picture)) == len(experiment.curves)


def test_no_two_of_eleven_curves_look_the_same(write_table, tmp_path):
    policies = tuple(PolicyConfig(name="Fixed", label=str(i)) for i in range(11))
    environment = TableConfig(table=str(write_table()))
    scenario = Scenario(name="tiny", environment=environment, policies=policies, seeds=1, horizon_requests=3)
    write_results(run_scenario(scenario), tmp_path)
    picture = (tmp_path / "regret.svg").read_text()
    legend = picture[picture.index('id="legend_1"') :]
    looks = re.findall(r'style="(fill: none; stroke[^"]*)', legend)
    assert len(looks) == 11
    assert len(set(looks)) == 11
