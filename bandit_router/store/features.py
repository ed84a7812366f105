"""Which features the contexts of a store have: a router that sees other ones is refused, or takes the old ones along.

The names and their number are a row of `operations`, whenever they change. New names at the end are taken along: what
was learned is learned again from the log with zeros in the new columns, which for a linear policy is exactly the old
statistics, widened by zero sums.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import insert, select

from bandit_router.errors import InvalidInput
from bandit_router.settling.learner import Learner
from bandit_router.store.ledger import Ledger
from bandit_router.store.schema import decisions, log, operations
from bandit_router.store.wire import readable

_NAME = "features"


class Features(msgspec.Struct, frozen=True):
    """Length of the contexts, and the names of their elements where there are any."""

    dim: int
    names: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.dim} features" + ("" if self.names is None else f" ({', '.join(self.names)})")

    def follows(self, old: Features) -> bool:
        """Whether what was learned with `old` can be taken along."""
        if self.names is None or old.names is None:
            return self.dim == old.dim
        return self.names[: old.dim] == old.names


def check_features(ledger: Ledger, learner: Learner, *, at_s: float, by: str, fresh: bool) -> None:
    """Compare a router's features with those of its store, and keep them.

    Raises:
        InvalidInput: the store has outcomes that were learned with other features, unless `fresh`.
    """
    mine, old = Features(learner.policy.dim, learner.features), _stored(ledger)
    if mine == old:
        return
    if old is not None and not fresh:
        if not mine.follows(old):
            raise InvalidInput(
                f"the store has outcomes of contexts with {old}, this router has {mine}; keep the old names in their "
                "order and append new ones, Router(context=[name, ...]), to take along what was learned; or begin with "
                "nothing learned by Store(..., fresh=True), or use another database"
            )
        if mine.dim > old.dim and ledger.origin()[0] > 0:
            raise InvalidInput(
                "the beginning of the store's log was pruned: it cannot be learned again with more features"
            )
    row = {"at_s": at_s, "by": by, "name": _NAME, "before": None if old is None else _text(old), "after": _text(mine)}
    with ledger.writing() as (connection, _):
        connection.execute(insert(operations).values(**row))


def kept_names(ledger: Ledger) -> tuple[str, ...] | None:
    """The names of a store's features, None where it has none."""
    stored = _stored(ledger)
    return None if stored is None else stored.names


def _stored(ledger: Ledger) -> Features | None:
    """What is on record, else the length of a settled decision's context, of a store from before there was a record."""
    kept = select(operations.c.after).where(operations.c.name == _NAME).order_by(operations.c.id.desc()).limit(1)
    joined = log.join(decisions, decisions.c.event_id == log.c.event_id)
    settled = select(decisions.c.record).select_from(joined).order_by(log.c.position.desc()).limit(1)
    with ledger.engine.connect() as connection:
        text = connection.execute(kept).scalar_one_or_none()
        record = connection.execute(settled).scalar_one_or_none()
    if record is None:  # nothing was learned: any features will do
        return None
    if text is not None:
        return msgspec.json.decode(text, type=Features)
    decision = readable(record)
    return None if decision is None else Features(len(decision.context))


def _text(features: Features) -> str:
    return msgspec.json.encode(features).decode()
