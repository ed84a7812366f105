"""Every error of this package, in one tree.

    BanditRouterError
    ├── InvalidInput (also a ValueError)       the caller passed something unusable; nothing has changed
    │   ├── InvalidLog                         a log, or with `strict` one line of it, cannot be used
    │   ├── InvalidProfile                     a paging profile does not hold what it should
    │   └── Unanswerable                       the log cannot answer the question; no number is given
    ├── BudgetExhausted (also a RuntimeError)  nobody can be paid for under a hard limit
    ├── NoArmAvailable (also a RuntimeError)   every eligible arm is left alone, or has all the calls it takes
    └── StoreUnavailable (also a RuntimeError) the database did not answer in time

Example:
    >>> from bandit_router import BanditRouterError, Router
    >>> try:
    ...     Router(arms=[], context=1)
    ... except BanditRouterError as error:
    ...     print(type(error).__name__)
    InvalidInput
"""

from __future__ import annotations


class BanditRouterError(Exception):
    """Base of all errors that this package raises on purpose."""


class InvalidInput(BanditRouterError, ValueError):
    """The caller passed something that cannot be used; no state has changed."""


class InvalidLog(InvalidInput):
    """A log, or with `strict` one line of it, cannot be used."""


class InvalidProfile(InvalidInput):
    """A paging profile is missing, malformed, or does not say where its numbers come from."""


class Unanswerable(InvalidInput):
    """The log cannot answer the question; no number is given."""


class BudgetExhausted(BanditRouterError, RuntimeError):
    """No eligible arm can be paid for under a hard limit. Nothing has changed; try again when the window resets.

    Attributes:
        limit: name of the limit that refuses, of several the one that opens last.
        resets_s: seconds until its window resets; None when even an empty window could not pay for any arm.
    """

    def __init__(self, message: str, *, limit: str | None = None, resets_s: float | None = None) -> None:
        super().__init__(message)
        self.limit, self.resets_s = limit, resets_s


class NoArmAvailable(BanditRouterError, RuntimeError):
    """Every eligible arm is left alone after failures, or has as many calls under way as it takes. Nothing has changed.

    Attributes:
        retry_after_s: seconds after which one may take a request again.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(BanditRouterError, RuntimeError):
    """The database did not answer in time; the change was not made, or is not known to have been."""
