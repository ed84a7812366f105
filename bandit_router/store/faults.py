"""Whose fault an error is: the database's, an outage that ends some time, or one record's own."""

from __future__ import annotations

from sqlalchemy import exc

# SQLSTATE classes that the values of a record can cause: data exception, integrity constraint violation, program limit
# exceeded (a key that no index takes). Source: PostgreSQL manual, appendix A, "PostgreSQL Error Codes".
_RECORD_STATES = ("22", "23", "54")


def is_outage(error: Exception) -> bool:
    """Whether the database failed and not a record: locked, full, read-only, away, damaged, no table, no permission.

    Example:
        >>> is_outage(OSError(28, "No space left on device")), is_outage(ValueError("no number"))
        (True, False)
    """
    if isinstance(error, exc.DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if state is not None:
            return not state.startswith(_RECORD_STATES)
        return not isinstance(error, exc.DataError | exc.IntegrityError)
    return isinstance(error, OSError | exc.SQLAlchemyError) and not isinstance(error, exc.StatementError)


def describe(error: Exception) -> str:
    """An error in one short line, without the values of the statement that failed."""
    cause = error.orig if isinstance(error, exc.StatementError) and error.orig is not None else error
    lines = str(cause).splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0][:200]}"
