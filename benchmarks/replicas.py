"""Replicas that share one LinUCB by deltas: regret and number of syncs against the trigger gamma.

    python -m benchmarks.replicas > replicas.json

Disjoint linear rewards with Gaussian noise; requests go to the replicas at random. Regret is against the best arm of
each request. gamma 0 publishes after every request (one central learner), infinity never.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

import numpy as np

from tests.support.shared_stream import ARMS, DIM, replay_shared


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--horizon", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    rows = []
    for gamma in (0.0, 0.07, 0.1, 0.5, 1.0, 4.0, math.inf):
        runs = [
            replay_shared(replicas=options.replicas, horizon=options.horizon, gamma=gamma, seed=seed)
            for seed in range(options.seeds)
        ]
        row = {name: float(np.mean([run[name] for run in runs])) for name in ("regret", "syncs")}
        rows.append({"gamma": gamma if math.isfinite(gamma) else "never", **row})
        print(rows[-1], file=sys.stderr)
    setting = {"replicas": options.replicas, "horizon": options.horizon, "arms": ARMS, "dim": DIM}
    print(json.dumps({**setting, "seeds": options.seeds, "rows": rows}))


if __name__ == "__main__":
    main()
