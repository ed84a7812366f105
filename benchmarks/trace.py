"""How much of the gap between LRU and Belady a recorded trace lets anyone close: `python -m benchmarks.trace`.

BANDIT_ROUTER_DATA names the folder with adapters/gentd26_early/requests.parquet. Prints JSON: every controller at each
capacity, two bounds (the hazards of the whole trace known in advance; the next W requests known), and the measured
probabilities of reuse. `--figure PATH` draws those.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64, Bool, Index
from bandit_router.paging.model import PagingModel
from bandit_router.policies.caching.base import CacheController, Capacity, Served, Values
from bandit_router.policies.caching.hazard import ReuseHazard
from bandit_router.policies.caching.static import Belady
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.controllers import build_controller
from bandit_router.simulators.trace import TraceEnvironment, load_trace, simulate_trace, trace_hindsight

CAPACITIES = (2, 4, 8, 16, 32)
CONTROLLERS = ("LRU", "LFU", "GDSF", "ExchangeCredit", "ReuseHazard", "Belady")
WINDOWS = (4, 8, 16, 32, 64, 128, 256, 512)
AGES = np.unique(np.round(2.0 ** np.arange(0, 12.5, 0.5)).astype(np.intp))


class KnownHazard(ReuseHazard):
    """ReuseHazard with the counts of a whole trace from its first request on: clairvoyant about statistics only."""

    def __init__(self, *, capacity: Capacity, costs: F64, taught: ReuseHazard) -> None:
        super().__init__(capacity=capacity, costs=costs)
        self._known = taught._events.copy(), taught._exposure.copy()

    def _learn(self, arm: int, step: int) -> None:
        super()._learn(arm, step)
        self._events[:], self._exposure[:] = self._known


class Lookahead(Belady):
    """Belady among what the next `window` requests name; LRU among the rest, which leaves first."""

    def __init__(self, *, capacity: Capacity, costs: F64, future: Index, window: int) -> None:
        super().__init__(capacity=capacity, costs=costs, future=future.tolist())
        self.window, self._last, self._true = window, np.zeros(len(costs)), self._due

    def _after(self, served: Served, values: Values) -> Bool | None:
        self._last[served.arm] = served.step
        self._true[served.arm] = self._next[served.step, 1]
        visible = self._true <= served.step + self.window
        self._due = np.where(visible, self._true, 2 * len(self._next) - self._last)
        self._next[served.step, 1] = self._due[served.arm]  # what the base class is allowed to see
        return super()._after(served, values)


def measure(env: TraceEnvironment, slots: int) -> dict[str, Any]:
    """Miss rate, paged milliseconds per request and share of the gap closed, by controller."""
    paging = Paging(arms=env.arms, model=PagingModel.load("cloud-storage"), weight=1.0, slots=slots)
    known = trace_hindsight(env, paging, seed=0, horizon=env.horizon)
    makers: dict[str, CacheController] = {name: build_controller(name, paging, known, {}) for name in CONTROLLERS}
    rows = {name: _run(env, paging, controller) for name, controller in makers.items()}
    taught = makers["ReuseHazard"]
    assert isinstance(taught, ReuseHazard)
    capacity, costs = paging.capacity, paging.costs
    rows["KnownHazard"] = _misses(env, KnownHazard(capacity=capacity, costs=costs, taught=taught))
    for window in WINDOWS:
        seeing = Lookahead(capacity=capacity, costs=costs, future=known.wanted, window=window)
        rows[f"Lookahead{window}"] = _misses(env, seeing)
    recent, clairvoyant = rows["LRU"]["miss_rate"], rows["Belady"]["miss_rate"]
    for row in rows.values():
        row["gap_closed"] = (recent - row["miss_rate"]) / (recent - clairvoyant)
    return rows


def _run(env: TraceEnvironment, paging: Paging, controller: CacheController) -> dict[str, float]:
    counters = simulate_trace(env, controller, paging, seed=0, horizon=env.horizon).counters
    return {"miss_rate": counters.misses / counters.requests, "page_ms": counters.paged_ms / counters.requests}


def _misses(env: TraceEnvironment, controller: CacheController) -> dict[str, float]:
    """The miss rate alone, without drawing load times."""
    nothing, misses = np.zeros(1), 0
    for step, arm in enumerate(env.stream(0, env.horizon).tolist()):
        miss = not controller.resident[arm]
        misses += miss
        controller.after(Served(step, nothing, arm, miss), lambda contexts: (contexts, contexts))
    return {"miss_rate": misses / env.horizon}


def stack_distances(requests: Index, longest: int) -> list[float]:
    """Share of the requests at each LRU stack distance 1 to `longest`."""
    stack: list[int] = []
    counts = np.zeros(longest + 1)
    for arm in requests.tolist():
        distance = stack.index(arm) + 1 if arm in stack else 0
        if distance:
            stack.remove(arm)
        counts[distance if distance <= longest else 0] += 1
        stack.insert(0, arm)
    return [float(share) for share in counts[1:] / len(requests)]


def hazards(requests: Index) -> list[dict[str, float]]:
    """Probability that a request names an adapter last used `age` requests ago, by bin of the age.

    Ages that the end of the trace cut short count as exposures.
    """
    last: dict[int, int] = {}
    gaps = []
    for step, arm in enumerate(requests.tolist()):
        if arm in last:
            gaps.append(step - last[arm])
        last[arm] = step
    cut = [len(requests) - 1 - step for step in last.values()]
    waited = np.array(gaps + cut)
    table = []
    for low, high in pairwise(AGES.tolist()):
        exposure = float((np.minimum(waited, high - 1) - low + 1).clip(min=0).sum())
        events = float(((np.array(gaps) >= low) & (np.array(gaps) < high)).sum())
        table.append({"age_from": low, "age_to": high - 1, "hazard": events / exposure})
    return table


def draw(path: Path, distances: list[float], table: list[dict[str, float]]) -> None:
    """Both probabilities on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(range(1, len(distances) + 1), distances, ".-")
    left.set(xlabel="LRU stack distance", ylabel="share of requests")
    right.loglog([row["age_from"] for row in table], [row["hazard"] for row in table], ".-")
    right.set(xlabel="requests since last use", ylabel="probability of being named next")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="draw the probabilities of reuse into this file")
    options = parser.parse_args()
    ids, requests = load_trace(Path(os.environ["BANDIT_ROUTER_DATA"]) / "adapters/gentd26_early/requests.parquet")
    env = TraceEnvironment(name="gentd26_early", requests=requests, ids=ids)
    capacities = {}
    for slots in CAPACITIES:
        capacities[str(slots)] = measure(env, slots)
        print(f"{slots} slots done", file=sys.stderr)
    distances, table = stack_distances(requests, 64), hazards(requests)
    if options.figure:
        draw(options.figure, distances, table)
    counts = {"references": len(requests), "adapters": len(ids), "first_uses": len(ids) / len(requests)}
    print(json.dumps({**counts, "capacities": capacities, "stack_distance": distances, "hazard": table}, indent=1))


if __name__ == "__main__":
    main()
