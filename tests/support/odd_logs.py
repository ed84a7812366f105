"""Seeds for odd logs, and the one reader that they are fed to."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from bandit_router.errors import InvalidLog
from bandit_router.replay.logs import Intake, read_logs

from .logs import DSJSON, GOOD, otlp

LITELLM = {
    "litellm_call_id": "c",
    "model_id": "d-1",
    "response_cost": 0.1,
    "startTime": 1.0,
    "endTime": 2.0,
    "metadata": {"bandit_router": {"propensity": 0.5, "context": [1.0]}},
}
SEEDS: dict[str, Any] = {
    "jsonl": GOOD,
    "dsjson": json.loads(DSJSON),
    "litellm": LITELLM,
    "otel": otlp({"gen_ai.request.model": "m", "bandit_router.propensity": 0.5}),
}


def feed(name: str, content: bytes) -> Intake:
    """Read bytes as a log; only InvalidLog may come out."""
    intake = Intake()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(content)
        try:
            log = read_logs([path], intake, format=name)
        except InvalidLog:
            return intake
        assert len(log) == intake.taken
    return intake
