"""What docs/explanation/durability.md promises, checked against a database and the answers that were given."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bandit_router.policies.distributions import draw
from bandit_router.records.decisions import event_uniform
from bandit_router.store.inspection import Inspection
from bandit_router.store.wire import decode_decision

from .databases import count, query
from .workers import KEY, REWARD, WINDOW_S, open_router


def check(url: str, spool: Path, acks: Path) -> dict[str, Any]:
    """Recover once more, let all windows close, and hold the database against what the workers were told."""
    router = open_router(url, spool)
    end = time.monotonic() + WINDOW_S + 30
    while time.monotonic() < end:
        time.sleep(0.2)
        router.flush()
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
