"""Check figures of the development tables against those in their README; opt in with BANDIT_ROUTER_DATA=folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from bandit_router.simulators.table import describe_table, load_table, mean_per_arm

DATA = os.environ.get("BANDIT_ROUTER_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA, reason="set BANDIT_ROUTER_DATA to the folder of the development data"),
]

# queries, arms, tasks, best single arm, its quality, oracle, uniform random, best arm per task
FIGURES = {
    "paretobandit_val_k4": (1766, 4, 30, "google/gemini-2.5-pro", 0.935619, 0.971945, 0.894905, 0.942179),
    "routerbench_zs": (3150, 11, 3, "gpt-4-1106-preview", 0.879365, 0.975556, 0.678038, 0.879365),
    "adapters7": (20600, 7, 10, "cognitivecomputations/dolphin-2.9-llama3-8b", 0.494563, 0.709709, 0.443739, 0.529209),
    "mmlu_pro": (12002, 28, 14, "gemini-1.5-pro-002", 0.702383, 0.944676, 0.395306, 0.719047),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_check_figures_are_those_of_the_readme(name):
    figures = describe_table(load_table(Path(DATA) / "outcomes" / name))
    queries, arms, tasks, best, *qualities = FIGURES[name]
    assert (figures["queries"], figures["arms"], figures["tasks"]) == (queries, arms, tasks)
    assert figures["best_single_arm"]["arm"] == best
    ours = [figures["best_single_arm"]["quality_mean"]]
    ours += [figures[f"{kind}_quality_mean"] for kind in ("oracle", "random", "best_per_task")]
    assert ours == pytest.approx(qualities, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "best", "random"),
    [("paretobandit_val_k4", 0.0149692, 0.00409796), ("routerbench_zs", 0.0050153, 0.00133068)],
)
def test_costs_are_those_of_the_readme(name, best, random):
    table = load_table(Path(DATA) / "outcomes" / name)
    means = mean_per_arm(table.outcomes)
    assert means[np.argmax(means[:, 0]), 1] == pytest.approx(best, rel=1e-4)
    assert means[:, 1].mean() == pytest.approx(random, rel=1e-4)
