"""What stops Polars from reading a Parquet file, as InvalidLog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bandit_router.errors import InvalidLog


@contextmanager
def readable(path: str | Path, expected: str = "a Parquet file") -> Iterator[None]:
    """Turn what stops a file from being read into InvalidLog.

    Polars panics, which is no Exception, where a column names a time zone that it does not know.
    """
    import polars as pl

    try:
        yield
    except InvalidLog:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise InvalidLog(f"{path}: expected {expected}, got {str(error).strip()}") from None
