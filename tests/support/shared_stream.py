"""One stream of requests over replicas that share what they learn."""

from __future__ import annotations

import math

import numpy as np

from bandit_router.policies.linear import RidgeStatistics
from bandit_router.store.replicas import SharedStatistics

ARMS, DIM, NOISE, ALPHA = 4, 8, 0.1, 0.3


def replay_shared(*, replicas: int, horizon: int, gamma: float, seed: int) -> dict[str, float]:
    """One stream over `replicas` learners; regret and syncs."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(ARMS, DIM)) / math.sqrt(DIM)
    contexts = rng.normal(size=(horizon, DIM))
    contexts /= np.linalg.norm(contexts, axis=1, keepdims=True)
    means = contexts @ theta.T
    noise, places = rng.normal(scale=NOISE, size=horizon), rng.integers(replicas, size=horizon)
    trigger = min(max(gamma, 1e-300), 1e300)
    learners = [
        SharedStatistics(
            RidgeStatistics(ARMS, DIM, 1, ridge=1.0), replica=str(number), gamma=trigger, max_age_s=math.inf
        )
        for number in range(replicas)
    ]
    for learner in learners:
        learner.published(now_s=0.0)
    regret, syncs = 0.0, 0
    for step in range(horizon):
        place = int(places[step])
        learner, x = learners[place], contexts[step]
        mean, width = learner.statistics.predict(x)
        arm = int((mean[:, 0] + ALPHA * width).argmax())
        regret += means[step].max() - means[step, arm]
        learner.learn(arm, x, means[step, arm] + noise[step : step + 1], 1.0)
        if learner.due(0.0):
            syncs += 1
            delta = learner.publish()
            assert delta is not None
            learner.published()
            for other in learners:  # everybody reads what was published before its next decision
                other.merge([delta])
    return {"gamma": gamma, "regret": float(regret), "syncs": syncs}
