"""Request traces: each request names its adapter, so only residency is decided."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_library import adapter_library
from bandit_router.paging.residency import OnMiss, Residency
from bandit_router.policies.caching.base import CacheController, Served
from bandit_router.records.arms import Arm
from bandit_router.simulators.adapters import BASE, Paging
from bandit_router.simulators.controllers import Hindsight
from bandit_router.simulators.environment import generator
from bandit_router.simulators.paged import PagedTrajectory
from bandit_router.simulators.run import checkpoints


class TraceEnvironment:
    """A stream of named adapters: a file's, or synthetic with Zipf popularity and short-term repetition.

    Args:
        name: keys the random streams.
        requests: arm indices of a recorded trace (arm 0, the base model, is never named), or None for a synthetic one.
        ids: adapter ids of a recorded trace. n_adapters: of a synthetic one.
        zipf: exponent of the popularity. repeat: probability that a request names one of the last four again.
        horizon: requests of a synthetic trace.

    The utility of a request is minus the paging cost it had to wait for.
    """

    channels = ("quality",)
    dim = 1

    def __init__(
        self,
        *,
        name: str,
        requests: Index | None = None,
        ids: tuple[str, ...] = (),
        n_adapters: int = 200,
        zipf: float = 1.0,
        repeat: float = 0.5,
        horizon: int = 20_000,
    ) -> None:
        self.name, self.requests, self.zipf, self.repeat = name, requests, zipf, repeat
        self.horizon = horizon if requests is None else len(requests)
        library = adapter_library(n_adapters=n_adapters if requests is None else len(ids))
        if requests is not None:
            library = [Arm(id=i, kind="adapter", size_bytes=a.size_bytes) for i, a in zip(ids, library, strict=True)]
        self.arms = (Arm(id=BASE), *library)
        self.scales: dict[str, float] = {}

    def stream(self, seed: int, horizon: int) -> Index:
        """Arm named by each request, shape (horizon,). A recorded trace is the same for every seed."""
        if self.requests is not None:
            if horizon > len(self.requests):
                raise InvalidInput(f"the trace has {len(self.requests)} requests, not {horizon}; ask for fewer")
            return self.requests[:horizon]
        rng = generator(self.name, "requests", seed)
        weights = np.arange(1, len(self.arms)) ** -self.zipf
        fresh = 1 + rng.choice(len(weights), size=horizon, p=weights / weights.sum())
        again, back = rng.random(horizon) < self.repeat, rng.integers(1, 5, size=horizon)
        for step in range(horizon):
            if again[step] and step >= back[step]:
                fresh[step] = fresh[step - back[step]]
        return np.asarray(fresh)

    def describe(self) -> dict[str, Any]:
        """See `Environment`."""
        synthetic = {"zipf": self.zipf, "repeat": self.repeat, "label": "synthetic"}
        recorded = {"label": "recorded; adapter sizes are those of a generated library"}
        return {
            "kind": "request_trace",
            "adapters": len(self.arms) - 1,
            **(synthetic if self.requests is None else recorded),
        }


def load_trace(path: Path) -> tuple[tuple[str, ...], Index]:
    """Adapter ids and the arm index (from 1) of every reference in a Parquet file, in order.

    The file has a column `adapter` (string), or `lora_ids` (list of strings, each counted once, in order).

    Raises:
        InvalidInput: the file cannot be read, lacks both columns, or names no adapter.
    """
    import polars as pl

    wanted: list[str] = ["lora_ids", "adapter"]
    try:
        names = pl.scan_parquet(path).collect_schema().names()
        table = pl.read_parquet(path, columns=[name for name in wanted if name in names][:1])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if "lora_ids" in table.columns:
        named = table.get_column("lora_ids").explode().drop_nulls()
    elif "adapter" in table.columns:
        named = table.get_column("adapter").drop_nulls()
    else:
        raise InvalidInput(f"{path} must have a column adapter or lora_ids, got {', '.join(names)}")
    if not len(named):
        raise InvalidInput(f"{path} names no adapter")
    ids = tuple(named.unique(maintain_order=True).cast(pl.String))
    position = {adapter: i + 1 for i, adapter in enumerate(ids)}
    return ids, np.array([position[adapter] for adapter in named.cast(pl.String)], dtype=np.intp)


def trace_hindsight(environment: TraceEnvironment, paging: Paging, *, seed: int, horizon: int) -> Hindsight:
    """The best static set: the adapters whose requests would cost most to page in, per byte when bytes bind."""
    wanted = environment.stream(seed, horizon)
    worth = np.bincount(wanted, minlength=len(paging.costs)) * paging.costs
    density = worth if paging.capacity.limit_bytes is None else worth / np.maximum(paging.capacity.sizes, 1.0)
    resident = paging.capacity.floor.copy()
    for arm in np.argsort(-density, kind="stable"):
        if not resident[arm] and paging.capacity.room_for(resident, int(arm)):
            resident[arm] = True
    return Hindsight(resident, -float(worth[~resident].sum()), wanted, seed)


def simulate_trace(
    environment: TraceEnvironment,
    controller: CacheController,
    paging: Paging,
    *,
    seed: int,
    horizon: int,
    on_miss: OnMiss = "insert",
) -> PagedTrajectory:
    """Run one controller over one trace; see `simulate_paged`."""
    residency = Residency(capacity=paging.capacity, costs=paging.costs, on_miss=on_miss, resident=controller.initial())
    requests = environment.stream(seed, horizon)
    load_ms = paging.load_ms(generator(environment.name, "paging", seed).random(horizon)) if horizon else None
    net, reload = np.zeros(horizon), 0.0
    nothing = np.zeros(1)

    def values(contexts: F64) -> tuple[F64, F64]:
        wants = np.zeros((len(contexts), len(paging.costs)))
        wants[np.arange(len(contexts)), contexts[:, 0].astype(np.intp)] = 1.0
        return wants, np.zeros_like(wants)

    started = time.perf_counter()
    for step, arm in enumerate(requests.tolist()):
        times = np.zeros(len(paging.costs)) if load_ms is None else load_ms[step]
        miss = residency.serve(arm, float(times[arm]))
        net[step] = -paging.costs[arm] if miss else 0.0
        proposal = controller.after(Served(step, np.array([float(arm)]), arm, miss), values)
        if proposal is not None:
            charge = float(residency.apply(proposal, times, missed=arm if miss else None) @ paging.costs)
            reload += charge
            net[step] -= charge
    seconds = time.perf_counter() - started
    held = float(net.sum()) + reload
    plays = np.bincount(requests, minlength=len(paging.costs)).astype(np.float64)
    curve = net.cumsum()[checkpoints(horizon) - 1]
    return PagedTrajectory(curve, nothing, nothing, plays, seconds, held, held, reload, residency.counters)
