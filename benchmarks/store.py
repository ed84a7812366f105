"""What durability costs: decisions per second with their durable log, and the latency of `decide`, at every level.

    python -m benchmarks.store > store.json
    python -m benchmarks.store --postgresql > store_postgresql.json

`decide` runs in a tight loop of one thread; the log counts as written when the last record is in the database. CPU time
is that of the whole process, writer thread included, so 1e6 / cpu_us is a rate per core. `floor` is the same loop
without a store. `pairs` decides and observes from an event loop, every settlement awaited. `locked` is the latency of
`decide` while another connection holds the database's lock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store

LEVELS = ("relaxed", "process", "power")


def open_router(options: argparse.Namespace, store: Store | None) -> Router:
    """The router that is measured."""
    arms = [Arm(id=f"arm-{number}") for number in range(options.arms)]
    return Router(arms=arms, context=options.dim, policy=options.policy, key=b"benchmark", store=store)


def latencies(router: Router, contexts: Any, count: int, prefix: str) -> Any:
    """Seconds that each `decide` took, in a tight loop."""
    taken = np.empty(count)
    for number in range(count):
        start = time.perf_counter()
        router.decide(contexts[number % len(contexts)], event_id=f"{prefix}-{number}")
        taken[number] = time.perf_counter() - start
    return taken


def quantiles(taken: Any) -> dict[str, float]:
    """Median, tail and maximum in microseconds."""
    values = (1e6 * np.quantile(taken, [0.5, 0.99, 1.0])).round(1).tolist()
    return dict(zip(("p50_us", "p99_us", "max_us"), values, strict=True))


def decide_rate(router: Router, contexts: Any, count: int) -> dict[str, float]:
    """Decisions a second until all of them are durable."""
    latencies(router, contexts, 200, "warm")
    wall, cpu = time.perf_counter(), time.process_time()
    taken = latencies(router, contexts, count, "timed")
    router.flush()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    shed = router.counters["shed_decisions"]
    return {
        "durable_per_s": round(count / wall),
        "cpu_us": round(1e6 * cpu / count, 1),
        "shed": shed,
        **quantiles(taken),
    }


def pair_rate(router: Router, contexts: Any, count: int, concurrency: int) -> dict[str, float]:
    """Decisions a second whose reward is settled and durable, by `concurrency` tasks of one event loop."""

    async def serve(task: int) -> None:
        for number in range(task, count, concurrency):
            event = f"pair-{number}"
            await router.adecide(contexts[number % len(contexts)], event_id=event)
            settlement = await router.aobserve(event, Outcome(quality=0.5, cost_usd=0.01))
            assert settlement.reward is not None, settlement

    async def serve_all() -> None:
        await asyncio.gather(*(serve(task) for task in range(concurrency)))

    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(serve_all())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"pairs_per_s": round(count / wall), "cpu_us": round(1e6 * cpu / count, 1)}


def bytes_per_decision(folder: Path, *, dim: int = 16, arms: int = 8, decisions: int = 6000) -> float:
    """Size of a SQLite file over the decisions in it, every second one rewarded with a quality and a cost."""
    url, rng = f"sqlite:///{folder}/bytes.db", np.random.default_rng(0)
    store = Store(url, wait_s=60.0, bound_s=60.0, back_pressure="block")
    options = argparse.Namespace(arms=arms, dim=dim, policy="LinUCB")
    with open_router(options, store) as router, ThreadPoolExecutor(64) as reporters:
        names = [f"request-{number:012d}" for number in range(decisions)]
        for name in names:
            router.decide(rng.normal(size=dim), event_id=name)
        list(reporters.map(lambda name: router.observe(name, Outcome(quality=0.5, cost_usd=0.0012)), names[::2]))
    with sqlite3.connect(f"{folder}/bytes.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return Path(folder, "bytes.db").stat().st_size / decisions


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another connection holds SQLite's write lock."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


def measure(options: argparse.Namespace, level: str, url: str, spool: Path) -> dict[str, Any]:
    """All figures of one durability level."""
    contexts = np.random.default_rng(0).normal(size=(1000, options.dim))
    count = options.decisions if level != "power" else max(200, options.decisions // 100)
    store = Store(url, durability=level, spool=spool, wait_s=60.0, bound_s=60.0, back_pressure="block")
    with open_router(options, store) as router:
        figures: dict[str, Any] = {"decide": decide_rate(router, contexts, count)}
        figures["pairs"] = pair_rate(router, contexts, options.decisions // 10, options.concurrency)
    store = Store(url, durability=level, spool=spool, wait_s=0.2, bound_s=0.05, back_pressure="shed")
    with open_router(options, store) as router:
        calm = quantiles(latencies(router, contexts, count, "calm"))
        store.wait_s = 60.0
        router.flush()
        store.wait_s = 0.2
        with locked(url) if url.startswith("sqlite") else nullcontext():
            figures["locked"] = {**quantiles(latencies(router, contexts, min(count, 2000), "locked")), "calm": calm}
    return figures


def main() -> None:
    """Print all levels as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="LinUCB")
    parser.add_argument("--arms", type=int, default=16)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--decisions", type=int, default=50_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--bytes", action="store_true", help="only: bytes of a SQLite file per decision")
    options = parser.parse_args()
    contexts = np.random.default_rng(0).normal(size=(1000, options.dim))
    results: dict[str, Any] = {"floor": decide_rate(open_router(options, None), contexts, options.decisions)}
    print("floor", results["floor"], file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.bytes:
            print(json.dumps({"bytes_per_decision": round(bytes_per_decision(folder))}))
            return
        server: Any = nullcontext()
        if options.postgresql:
            from tests.support.postgres import Postgres

            server = Postgres(folder / "postgres", fsync=True)
        with server:
            for level in LEVELS:
                url = server.new_database() if options.postgresql else f"sqlite:///{folder}/{level}.db"
                results[level] = measure(options, level, url, folder / level)
                print(level, results[level], file=sys.stderr)
    setting = {name: getattr(options, name) for name in ("policy", "arms", "dim", "concurrency")}
    print(json.dumps({**setting, "database": "postgresql" if options.postgresql else "sqlite", **results}))


if __name__ == "__main__":
    main()
