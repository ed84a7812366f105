"""Start-up: the newest valid snapshot, the rest of the log, and what dead processes left in their spools."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Catalogue
from bandit_router.records.decisions import Decision
from bandit_router.settling.learner import Learner
from bandit_router.store.ledger import Ledger
from bandit_router.store.snapshot import Snapshot, bad_arms, decode, encode, policy_key, sanitise
from bandit_router.store.spool import Item, abandoned, foreign, frames
from bandit_router.store.statuses import set_statuses
from bandit_router.store.wire import decode as decode_record

_log = logging.getLogger(__name__)
PAGE = 1000


def prepare(ledger: Ledger, learner: Learner, *, key: bytes | None) -> Learner:
    """A copy of `learner` with the store's arms, in the policy's first state; the original goes on serving meanwhile.

    Raises:
        InvalidInput: the store has other arms.
    """
    ledger.open()
    loaded = learner.copy()
    join_arms(ledger, loaded.catalogue)
    name = policy_key(loaded.policy, loaded.channels, loaded.monitor)
    _, state = loaded.capture()
    ledger.put_first_snapshot(name, encode(0, state, policy=name, key=key))
    first = ledger.first_snapshot(name)
    try:
        loaded.restore(0, decode(first, key=key).state)
    except InvalidInput as problem:
        _log.error("the first state of %s is unusable, starting from the prior: %s", name, problem)
    begin_at(ledger, loaded)
    return loaded


def begin_at(ledger: Ledger, learner: Learner) -> None:
    """Have a learner in its first state stand where the log begins: with the arms that were there, nothing learned."""
    learner.position, n_arms = ledger.origin()
    while learner.policy.n_arms < n_arms:
        learner.policy.add_arm()


def restore_newest(ledger: Ledger, learner: Learner, *, key: bytes | None, counters: Counter[str]) -> None:
    """Restore the newest valid snapshot, if there is one."""
    found = newest_valid(ledger, learner, key=key, counters=counters)
    if found is not None:
        learner.restore(found.position, found.state)


def join_arms(ledger: Ledger, catalogue: Catalogue) -> None:
    """Make the store's arms and the router's the same list: each may have more at its end than the other.

    Raises:
        InvalidInput: they differ where both have one.
    """
    stored = ledger.arms()
    for index, (arm, _) in enumerate(stored[: len(catalogue)]):
        if arm.id != catalogue[index].id:
            raise InvalidInput(
                f"arm {index} is {arm.id!r} in the store and {catalogue[index].id!r} here; keep the order "
                f"{', '.join(arm.id for arm, _ in stored)}, append new arms at the end, or use another database"
            )
    for arm, _ in stored[len(catalogue) :]:
        catalogue.add(arm)
    if len(catalogue) > len(stored):
        ledger.add_arms(list(catalogue))
    set_statuses(catalogue, ((arm.id, status) for arm, status in ledger.arms()))


def newest_valid(ledger: Ledger, learner: Learner, *, key: bytes | None, counters: Counter[str]) -> Snapshot | None:
    """The newest snapshot that is right in full; else the newest readable one with its bad arms at the prior."""
    damaged: Snapshot | None = None
    for position, body in ledger.snapshots(policy_key(learner.policy, learner.channels, learner.monitor)):
        try:
            if position < learner.position:
                break  # older than the log, which cannot bring it up to date
            found = decode(body, key=key)
            faults = bad_arms(found.state, learner.policy.forms)
        except InvalidInput as problem:
            counters["snapshots_rejected"] += 1
            _log.error("snapshot at %d rejected: %s", position, problem)
            continue
        if not faults:
            return found
        _log.error("snapshot at %d has bad arms: %s", position, faults)
        counters["snapshots_rejected"] += 1
        damaged = damaged or found
    if damaged is None:
        return None
    state, faults = sanitise(damaged.state, learner.policy)
    counters["quarantined_arms"] += len(faults)
    return Snapshot(position=damaged.position, policy=damaged.policy, state=state)


def catch_up(ledger: Ledger, learner: Learner) -> int:
    """Fold what the log has beyond the learner's position; returns how many entries."""
    before = learner.position
    while True:
        entries = ledger.read(learner.position, PAGE)
        learner.fold(entries)
        if len(entries) < PAGE:
            return learner.position - before


def adopt(folder: Path, owner: str, commit: Callable[[Sequence[Item]], None], counters: Counter[str]) -> None:
    """Commit what is left in the spools of processes that are gone; a damaged file is kept under another name.

    All files are read before anything is written, in order of time: one process leaves two, and a reward may lie in
    the older one.
    """
    if others := foreign(folder, owner):
        _log.error(
            "%d queue files in %s belong to another database and are left alone, the first is %s; open a router on "
            "that database to have them written, or rename them to begin with %r if they are this one's",
            len(others),
            folder,
            others[0].name,
            f"{owner}-",
        )
    items: list[Item] = []
    with ExitStack() as held:
        done: list[tuple[Path, bool]] = []
        for path, descriptor in abandoned(folder, owner):
            held.callback(os.close, descriptor)
            found, whole = _records(descriptor)
            items += found
            done.append((path, whole))
        items.sort(key=_order)
        if items:
            commit(items)
        counters["recovered_records"] += len(items)
        for path, whole in done:
            counters["damaged_spools"] += not whole
            if whole:
                path.unlink(missing_ok=True)
            else:
                path.rename(path.with_suffix(".damaged"))


def _records(descriptor: int) -> tuple[list[Item], bool]:
    payloads, whole = frames(descriptor)
    items = []
    for payload in payloads:
        try:
            items.append(Item(decode_record(payload), payload, None))
        except msgspec.MsgspecError:
            whole = False
    return items, whole


def _order(item: Item) -> tuple[float, bool]:
    """By time, a decision before rewards of the same moment: they may be in different transactions."""
    record = item.record
    return (record.timestamp_s, False) if isinstance(record, Decision) else (record.at_s, True)
