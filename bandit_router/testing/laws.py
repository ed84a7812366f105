"""What the law checkers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def check(laws: Iterable[Callable[[T], None]], subject: T) -> None:
    """Apply every law; raises AssertionError that begins with the name of the first that is broken."""
    for law in laws:
        try:
            law(subject)
        except AssertionError as error:
            raise AssertionError(f"{law.__name__}: {error}") from error


def expect(holds: bool | np.bool_, message: str) -> None:
    """An assert that `python -O` keeps."""
    if not holds:
        raise AssertionError(message)
