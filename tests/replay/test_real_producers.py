"""What the real software writes, read, and what is written, read by it.

Opt-in: name an interpreter that has the producers, and ask for the marker:

    python -m venv producers
    producers/bin/pip install "litellm[proxy]==1.108.7" vowpalwabbit==9.11.9
    producers/bin/pip install opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-json-file
    BANDIT_ROUTER_PRODUCERS=producers/bin/python pytest tests/replay/test_real_producers.py -m real_producers

The rows of the proxy's `/spend/logs` need its database, which these do not have.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.replay.logs import Intake, LoggedEvents, read_logs, write_log
from bandit_router.replay.logs.joined import DIVERTED
from bandit_router.replay.logs.litellm import UNPRICED
from support.logs import DSJSON, uniform_log

pytestmark = [
    pytest.mark.real_producers,
    pytest.mark.skipif("BANDIT_ROUTER_PRODUCERS" not in os.environ, reason="BANDIT_ROUTER_PRODUCERS is not set"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every producer wrote."""
    folder = tmp_path_factory.mktemp("producers")
    python = os.environ["BANDIT_ROUTER_PRODUCERS"]
    for name in ("litellm", "proxy", "otel"):
        command = [python, str(Path(__file__).with_name("producers.py")), name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    return folder


def told(log: LoggedEvents) -> dict[str, tuple[str, str]]:
    return {event: (log.arms[log.arm[i]], log.mode[i]) for i, event in enumerate(log.event_id)}


def test_litellm_requests_are_one_decision_each(made: Path) -> None:
    intake = Intake(strict=True)
    log = read_logs([made / "payloads.json"], intake, format="litellm")
    found = told(log)
    assert {name: found.pop(name) for name in ("plain", "fallback", "unpriced", "stream")} == {
        "plain": ("small", "online"),
        "fallback": ("large", "diverted"),
        "unpriced": ("own", "online"),
        "stream": ("small", "online"),
    }
    assert list(found.values()) == [("large", "diverted")] * 2
    assert log.propensity.tolist() == [0.5] * 6
    row = {event: i for i, event in enumerate(log.event_id)}
    assert log.channel("cost_usd")[row["plain"]] > 0
    assert np.isnan(log.channel("cost_usd")[row["unpriced"]])
    first, last = (log.channel(name)[row["stream"]] for name in ("ttft_s", "latency_s"))
    assert 0 < first < last
    assert np.isnan(log.channel("ttft_s")[row["plain"]])
    assert np.isnan(log.outcomes[log.mode == "diverted"]).all()
    assert intake.notes == {DIVERTED: 3, UNPRICED: 1, "records of call type aembedding, no decisions": 1}


def test_requests_to_the_proxy_are_one_decision_each(made: Path) -> None:
    intake = Intake(strict=True)
    log = read_logs([made / "proxy.jsonl"], intake, format="litellm")
    assert told(log) == {
        "plain": ("small", "online"),
        "fallback": ("large", "diverted"),
        "unpriced": ("own", "online"),
        "stream": ("small", "online"),
    }
    assert log.propensity.tolist() == [0.5] * 4
    row = {event: i for i, event in enumerate(log.event_id)}
    assert log.channel("cost_usd")[row["plain"]] > 0
    assert np.isnan(log.channel("cost_usd")[row["unpriced"]])
    assert 0 < log.channel("ttft_s")[row["stream"]] < log.channel("latency_s")[row["stream"]]
    assert np.isnan(log.outcomes[row["fallback"]]).all()
    assert intake.notes == {DIVERTED: 1, UNPRICED: 1}


def vw(folder: Path, *options: str) -> dict[str, Any]:
    """What the command line of VW counts while it learns from folder/log.dsjson."""
    metrics = folder / "metrics.json"
    command = [os.environ["BANDIT_ROUTER_PRODUCERS"], "-m", "vowpalwabbit", "--cb_explore_adf", "--dsjson"]
    command += ["-d", str(folder / "log.dsjson"), "--extra_metrics", str(metrics), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(metrics.read_text())


def test_vw_from_the_command_line_learns_from_every_row_that_is_written(tmp_path: Path) -> None:
    log = uniform_log(n=500)
    write_log(log, tmp_path / "log.dsjson")
    counted = vw(tmp_path)["cb_explore_adf_greedy"]
    assert counted["cbea_labeled_ex"] == 500
    assert counted["cbea_avg_actions_per_event"] == 4
    assert counted["cbea_sum_cost"] == pytest.approx(-log.reward.sum())


def test_what_vw_learns_from_is_read(tmp_path: Path) -> None:
    """Lines that VW takes with an odd id, order or probability are as many rows and the same cost here."""
    line = json.loads(DSJSON.replace(',"pdrop":0.5', ""))
    bare = {name: value for name, value in line.items() if name not in ("EventId", "Timestamp", "VWState", "Version")}
    twice = {**bare, "a": [2, 1, 2], "p": [0.4, 0.2, 0.4], "_label_probability": 0.4, "_label_cost": -0.25}
    hair = {**bare, "_label_probability": 1.0000001192092896, "p": [1.0, 0.0], "_label_cost": 2}
    (tmp_path / "log.dsjson").write_text("\n".join(map(json.dumps, (line, bare, twice, hair))))
    counted = vw(tmp_path)["cb_explore_adf_greedy"]
    log = read_logs([tmp_path / "log.dsjson"], Intake(strict=True))
    assert len(log) == counted["cbea_labeled_ex"] == 4
    assert -log.reward.sum() == pytest.approx(counted["cbea_sum_cost"])


@pytest.mark.parametrize("names", [("console.json",), ("console.jsonl",), ("logs.jsonl", "spans.jsonl")])
def test_every_exporter_of_opentelemetry_tells_the_same(names: tuple[str, ...], made: Path) -> None:
    intake = Intake(strict=True)
    log = read_logs([made / name for name in names], intake, format="otel")
    assert told(log) == {
        "e0": ("gpt-large", "online"),
        "e1": ("gpt-mini", "online"),
        "e2": ("gpt-large", "diverted"),
        "e3": ("gpt-mini", "online"),
    }
    kept = log.mode == "online"
    assert log.channel("quality")[kept].tolist() == [0.0, 0.25, 0.75]
    assert log.channel("tokens")[kept].tolist() == [110.0] * 3
    assert log.contexts[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert intake.notes[DIVERTED] == 1
