"""What an operator asks of a store: what is in it, whether its snapshots are right, a rebuild, an export, an import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import delete, func, insert, select

from bandit_router.errors import InvalidInput
from bandit_router.policies import policy_class
from bandit_router.records.arms import Catalogue
from bandit_router.records.outcomes import Utility
from bandit_router.settling.learner import METERED, Learner, monitor_of
from bandit_router.store import migrations
from bandit_router.store.changes import Operation, history
from bandit_router.store.corrections import Corrected, Held, correct, held, reported_by
from bandit_router.store.features import kept_names
from bandit_router.store.ledger import Ledger
from bandit_router.store.loading import PAGE, begin_at
from bandit_router.store.retention import Prune, forget_unit, prune
from bandit_router.store.saved import arms_of, by_id, check_arms, exported
from bandit_router.store.schema import (
    arms,
    budget_states,
    decisions,
    deltas,
    early,
    log,
    quarantine,
    rewards,
    snapshots,
    spending,
)
from bandit_router.store.snapshot import bad_arms, channels_of, class_of, decode, encode, sanitise, write_file


class ArmReport(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: its status, and how many outcomes of it were learned."""

    id: str
    status: str
    learned: int


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot, and what is wrong with it."""

    policy: str
    position: int
    fault: str | None = None


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """An import: its log position, and the arms that had to start at their prior, with the reason."""

    position: int
    quarantined: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a store."""

    schema_version: int
    position: int
    rows: dict[str, int]
    settled: dict[str, int]
    quarantine: dict[str, int]
    arms: list[ArmReport]
    snapshots: list[SnapshotReport]


class Inspection:
    """An existing store, opened by the command line.

    Args:
        url: the database. key: the snapshot key, if snapshots are signed.

    Raises:
        InvalidInput: there is no store at this URL, or it is of another schema version.
    """

    def __init__(self, url: str, *, key: bytes | None = None) -> None:
        self.key = key
        self.ledger = Ledger(url, "power", "command-line", patience_s=600.0)
        path = self.ledger.engine.url.database
        if self.ledger.engine.dialect.name == "sqlite" and not (path and Path(path).is_file()):
            raise InvalidInput(f"there is no store at {url}")
        with self.ledger.engine.connect() as connection:
            self.schema_version = migrations.version(connection)
        if self.schema_version != migrations.VERSION:
            raise InvalidInput(
                f"expected a store of schema version {migrations.VERSION}, got {self.schema_version or 'no store'}; "
                "a router that opens it brings it up to date"
            )

    def close(self) -> None:
        """Close the database."""
        self.ledger.close()

    def report(self) -> Report:
        """Everything `state show` prints."""
        tables = (decisions, rewards, early, quarantine, log, snapshots, spending, budget_states, deltas)
        with self.ledger.engine.connect() as connection:
            rows = {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}
            reasons = connection.execute(
                select(quarantine.c.reason, func.count()).group_by(quarantine.c.reason).order_by(quarantine.c.reason)
            ).all()
            kinds = connection.execute(
                select(log.c.kind, log.c.learned, func.count()).group_by(log.c.kind, log.c.learned)
            ).all()
            joined = log.join(decisions, decisions.c.event_id == log.c.event_id)
            per_arm = select(decisions.c.arm, func.count()).select_from(joined).where(log.c.learned)
            learned = dict(tuple(row) for row in connection.execute(per_arm.group_by(decisions.c.arm)))
            catalogue = connection.execute(select(arms.c.id, arms.c.status).order_by(arms.c.index)).all()
        return Report(
            schema_version=self.schema_version,
            position=self.ledger.position(),
            rows=rows,
            settled={f"{kind}{' and learned' if yes else ''}": count for kind, yes, count in sorted(kinds)},
            quarantine={reason: count for reason, count in reasons},
            arms=[ArmReport(id=i, status=status, learned=learned.get(i, 0)) for i, status in catalogue],
            snapshots=[
                SnapshotReport(policy=policy, position=position, fault=self._fault(policy, body))
                for policy, position, body in self._all_snapshots()
            ],
        )

    def operations(self) -> list[Operation]:
        """What operators have changed, in order."""
        return history(self.ledger.engine)

    def unreadable(self) -> dict[int, str]:
        """Why log entries cannot be read, by position, over the whole log."""
        position, end = self.ledger.origin()[0], self.ledger.position()
        while position < end:
            position = self.ledger.read(position, PAGE)[-1].position
        return dict(self.ledger.unreadable)

    def repair(self) -> dict[int, str]:
        """Mark what cannot be read as lost; returns what `unreadable` found.

        Such an entry keeps its place, so the event stays settled, and teaches nothing. Later snapshots may have learned
        from it and are dropped; routers that start fold the log anew.

        Raises:
            InvalidInput: an entry that added an arm is among them; it has to come from a backup.
        """
        found = self.unreadable()
        if found:
            with self.ledger.engine.connect() as connection:
                added = select(log.c.position).where(log.c.kind == "arm")
                gone = found.keys() & set(connection.execute(added).scalars())
            if gone:
                raise InvalidInput(f"log entry {min(gone)} added an arm and cannot be read; restore it from a backup")
            self.ledger.mark_lost(sorted(found))
        return found

    def prune(self, before_s: float, *, vacuum: bool) -> Prune:
        """Drop what closed before `before_s` and is in a snapshot of every policy; give the disk its room back."""
        done = prune(self.ledger, before_s, key=self.key)
        if vacuum:
            self._vacuum()
        return done

    def forget(self, unit: str) -> int:
        """Drop what is recorded of a unit, also from the free pages of a SQLite file; how many decisions that were."""
        count = forget_unit(self.ledger, unit, key=self.key)
        self._vacuum()
        return count

    def _vacuum(self) -> None:
        with self.ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("COMMIT")  # the engine has begun
            connection.exec_driver_sql("VACUUM")
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.exec_driver_sql("BEGIN")

    def verify(self, policy: str | None = None) -> list[SnapshotReport]:
        """Every snapshot of a policy against the fold of the log up to its position, oldest first."""
        name = self._policy(policy)
        begin = self.ledger.origin()[0]
        kept = {position: body for _, position, body in self._all_snapshots(name) if position >= begin}
        checks = []
        for position, learner in self._folds(name, sorted(kept)):
            fault = self._fault(name, kept[position])
            if fault is None and kept[position] != self._encode(name, learner):
                fault = "differs from what the log gives"
            checks.append(SnapshotReport(policy=name, position=position, fault=fault))
        return checks

    def rebuild(self, policy: str | None = None) -> SnapshotReport:
        """Fold the log from the policy's first state, and keep nothing but that state and the result."""
        name = self._policy(policy)
        end = self.ledger.position()
        ((_, learner),) = self._folds(name, [end])
        with self.ledger.engine.begin() as connection:
            later = (snapshots.c.policy == name) & (snapshots.c.position > 0)
            connection.execute(delete(snapshots).where(later))
            if end > 0:
                body = self._encode(name, learner)
                connection.execute(insert(snapshots).values(policy=name, position=end, body=body))
        return SnapshotReport(policy=name, position=end)

    def export(self, file: Path, policy: str | None = None) -> SnapshotReport:
        """Write the state at the end of the log to a file."""
        name = self._policy(policy)
        ((position, learner),) = self._folds(name, [self.ledger.position()])
        write_file(file, exported(learner, policy=name, key=self.key))
        return SnapshotReport(policy=name, position=position)

    def import_(self, file: Path) -> Imported:
        """Append a file's state to the log, its arms matched by id; bad arms start at their prior.

        Raises:
            InvalidInput: the file is damaged, belongs to a policy that this store does not have, or its arms do not
                fit, see `SavedState.policy_for`.
        """
        if self.report().rows["deltas"]:
            raise InvalidInput("the replicas of this store share by deltas; import into a new store")
        found = decode(file.read_bytes(), key=self.key)
        current = self._learner(self._policy(found.policy))
        theirs, ids = arms_of(found), current.catalogue.ids
        check_arms(theirs, ids)
        state, faults = sanitise(found.state, current.policy)
        current.restore(0, state)
        if theirs != tuple(ids[: len(theirs)]):  # the door's and the monitor's sums start anew
            state = {**by_id(current.policy, theirs, ids).state(), METERED: state[METERED]}
            current.restore(0, state)
        position = self.ledger.import_state(state)
        return Imported(position=position, quarantined={theirs[arm]: reason for arm, reason in faults.items()})

    def held(self) -> list[Held]:
        """Suspect outcomes and refused rewards, with the reasons."""
        return held(self.ledger)

    def release(self, ids: Sequence[str]) -> Corrected:
        """Learn the outcomes of these events, suspect or unlearned, after all; see `corrections`."""
        return self._correct(ids, learn=True)

    def unlearn(self, ids: Sequence[str] = (), *, source: str | None = None) -> Corrected:
        """Learn everything anew without these events, and without those that a source has reported."""
        theirs = [] if source is None else reported_by(self.ledger, source)
        if source is not None and not theirs:
            raise InvalidInput(f"no reward of the source {source!r} was counted; names are case-sensitive")
        settled = set(self.ledger.settled(theirs))  # what is still open can be unlearned once it is settled
        return self._correct([*ids, *settled], learn=False)

    def policies(self) -> list[str]:
        """The policies that have a state here."""
        return sorted({name for name, _, _ in self._all_snapshots()})

    # -- inside ----------------------------------------------------------------------------------------------

    def _correct(self, ids: Sequence[str], *, learn: bool) -> Corrected:
        begin = max((self._learner(name).position for name in self.policies()), default=0)
        return correct(self.ledger, ids, learn=learn, begin=begin, fold=self._learned_anew)

    def _learned_anew(self) -> list[Learner]:
        end = self.ledger.position()
        return [learner for name in self.policies() for _, learner in self._folds(name, [end])]

    def _all_snapshots(self, policy: str | None = None) -> list[tuple[str, int, bytes]]:
        query = select(snapshots.c.policy, snapshots.c.position, snapshots.c.body)
        if policy is not None:
            query = query.where(snapshots.c.policy == policy)
        with self.ledger.engine.connect() as connection:
            rows = connection.execute(query.order_by(snapshots.c.policy, snapshots.c.position)).all()
        return [(row.policy, row.position, row.body) for row in rows]

    def _policy(self, wanted: str | None) -> str:
        names = self.policies()
        if wanted is None and len(names) == 1:
            return names[0]
        if wanted not in names:
            listed = "; ".join(names) or "none"
            raise InvalidInput(f"name one policy of this store with --policy; got {wanted!r}, there are: {listed}")
        return wanted

    def _fault(self, policy: str, body: bytes) -> str | None:
        try:
            found = decode(body, key=self.key)
            faults = bad_arms(found.state, policy_class(class_of(policy)).forms)
        except InvalidInput as problem:
            return str(problem)
        if found.policy != policy:
            return f"is of the policy {found.policy}"
        return None if not faults else "; ".join(f"arm {arm}: {reason}" for arm, reason in faults.items())

    def _learner(self, name: str) -> Learner:
        """A learner in the policy's first state."""
        body = self._all_snapshots(name)[0][2]
        first = decode(body, key=self.key)
        if first.position != 0:
            raise InvalidInput(f"the first state of {name} is gone; a router that opens the store writes it again")
        policy = policy_class(class_of(name)).from_state(first.state)
        catalogue = Catalogue(arm for arm, _ in self.ledger.arms())
        watch = monitor_of(first.state)
        learner = Learner(
            catalogue=catalogue, policy=policy, channels=channels_of(name), utility=Utility(), monitor=watch
        )
        learner.features = kept_names(self.ledger)
        learner.restore(0, first.state)
        begin_at(self.ledger, learner)
        for _, position, body in self._all_snapshots(name):
            if position >= learner.position > 0 and self._fault(name, body) is None:  # folds begin at the oldest
                learner.restore(position, decode(body, key=self.key).state)
                break
        return learner

    def _folds(self, name: str, positions: list[int]) -> Iterator[tuple[int, Learner]]:
        """The learner at each of the positions, in order."""
        learner = self._learner(name)
        for position in positions:
            while learner.position < position:
                for entry in self.ledger.read(learner.position, min(PAGE, position - learner.position)):
                    learner.apply(entry)
            yield position, learner

    def _encode(self, name: str, learner: Learner) -> bytes:
        position, state = learner.capture()
        return encode(position, state, policy=name, key=self.key)
