"""What a store has served, as a log: every decision in order of time, with the outcome that it settled at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bandit_router.errors import InvalidInput, InvalidLog, StoreUnavailable
from bandit_router.records.decisions import Decision
from bandit_router.replay.logs.intake import Assembler, Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.record import Row, row_of
from bandit_router.settling.rules import Settled

UNSETTLED = "decisions that are not settled yet, without an outcome"
DIVERTED = "decisions that another arm served for, without an outcome"


def is_url(source: str | Path) -> bool:
    """Whether a log is named by the URL of a store."""
    return "://" in str(source)


def shown(source: str | Path) -> str:
    """How a log is named in messages and documents: a URL without its password."""
    text = str(source)
    scheme, mark, rest = text.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}{at}{place}" if is_url(text) else text


def read_store(url: str | Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read a store, by its URL; it may be in use. Arms keep the catalogue's order, unless `arms` gives another.

    A decision that is not settled yet is a row without an outcome, and is counted in the notes. One whose arm failed
    has what its rule counts (see `FailureRules`); the outcome of an arm that stood in for it is not in the log. Rows
    that the baseline served carry their mode and speak of that arm alone, see `row_of`.

    Raises:
        InvalidLog: there is no store, it has another schema version, or nothing has been decided in it.
        StoreUnavailable: the database does not answer. ImportError: PostgreSQL without the extra `postgres`.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from bandit_router.store.inspection import Inspection

    file = shown(url)
    try:
        store = Inspection(str(url))
    except InvalidInput as error:
        raise InvalidLog(f"{file}: {error}") from None
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"{file}: the store is not available: {error}") from None
    try:
        ids = [arm.id for arm, _ in store.ledger.arms()]
        assembler = Assembler(intake, arms=ids if arms is None else arms)
        for number, (decision, entry) in enumerate(store.ledger.decided(), start=1):
            intake.lines += 1
            assembler.add(file, number, _row(decision, entry, ids, intake))
        return assembler.log(file)
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"{file}: the store is not available: {error}") from None
    finally:
        store.close()


def _row(decision: Decision, entry: Settled | None, arms: Sequence[str], intake: Intake) -> Row:
    if entry is None:
        intake.notes[UNSETTLED] += 1
    elif entry.status == "diverted" and entry.failure is None:  # a log of before: the outcome is another arm's
        intake.notes[DIVERTED] += 1
    else:
        return row_of(decision, entry.outcome, arms=arms, reward=entry.reward, failure=entry.failure)
    return row_of(decision, None, arms=arms)
