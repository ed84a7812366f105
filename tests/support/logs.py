"""Logs and log lines that several tests read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bandit_router.policies import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.settling.learner import Learner

GOOD = {"event_id": "e1", "arm": "a", "context": [1.0, 2.0], "propensity": 0.5, "quality": 1.0}
# A line as the decision service writes it, field values of our own.
DSJSON = (
    '{"_label_cost":-0.5,"_label_probability":0.8,"_label_Action":2,"_labelIndex":1,'
    '"o":[{"v":0.5,"EventId":"e-1","ActionTaken":false}],'
    '"Timestamp":"2021-04-07T16:40:25.1234567Z","Version":"1","EventId":"e-1","a":[2,1],'
    '"c":{"User":{"age":3,"plan":"free","_secret":"x"},"_multi":[{"_tag":"small"},{"Model":{"id":"large"}}]},'
    '"p":[0.8,0.2],"VWState":{"m":"model-1"},"pdrop":0.5}'
)


def uniform_log(n: int = 4000, arms: int = 4, seed: int = 0, **changes: object) -> LoggedEvents:
    """Uniform logging; arm a earns 0.2 + 0.2 a and costs 0.01 a."""
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, arms, n)
    outcomes = np.full((n, len(CHANNELS)), np.nan)
    outcomes[:, 0] = rng.random(n) < 0.2 + 0.2 * arm
    outcomes[:, 1] = 0.01 * arm
    columns = {"propensity": np.full(n, 1.0 / arms), "outcomes": outcomes, **changes}
    return LoggedEvents.of(
        arms="abcd"[:arms], arm=arm, contexts=np.column_stack([np.ones(n), rng.normal(size=n)]), **columns
    )


def learner_of(policy: Policy, arms: Iterable[str]) -> Learner:
    """What a router with this policy holds."""
    catalogue = Catalogue(Arm(id=arm) for arm in arms)
    return Learner(catalogue=catalogue, policy=policy, channels=CHANNELS[: policy.channels], utility=Utility())


def otlp(attributes: dict, *, span: str = "s1", events: list | None = None) -> dict:
    def value(item: object) -> dict:
        return (
            {"doubleValue": item}
            if isinstance(item, float)
            else ({"intValue": str(item)} if isinstance(item, int) else {"stringValue": item})
        )

    pairs = [{"key": key, "value": value(item)} for key, item in attributes.items()]
    body = {
        "traceId": "t",
        "spanId": span,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "3500000000",
        "attributes": pairs,
        "events": events or [],
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [body]}]}]}
