"""What the real software writes, read.

Opt-in: name an interpreter that has the producers, and ask for the marker:

    python -m venv producers
    producers/bin/pip install litellm==1.110.2 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-json-file
    BANDIT_ROUTER_PRODUCERS=producers/bin/python pytest tests/replay/test_real_producers.py -m real_producers
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bandit_router.replay.logs import Intake, LoggedEvents, read_logs
from bandit_router.replay.logs.joined import DIVERTED
from bandit_router.replay.logs.litellm import UNPRICED

pytestmark = [
    pytest.mark.real_producers,
    pytest.mark.skipif("BANDIT_ROUTER_PRODUCERS" not in os.environ, reason="BANDIT_ROUTER_PRODUCERS is not set"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every producer wrote."""
    folder = tmp_path_factory.mktemp("producers")
    python = os.environ["BANDIT_ROUTER_PRODUCERS"]
    for name in ("litellm", "otel"):
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
