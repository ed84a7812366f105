"""Attempts that failed: what is told of them, and the rules that say what they count."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import COSTS, DECLARED, is_number

FailureKind = Literal["error", "timeout", "rate_limit", "refusal", "broken_stream", "cancelled", "diverted"]
FAILURES: tuple[FailureKind, ...] = get_args(FailureKind)


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an attempt of the drawn arm failed.

    Attributes:
        kind: `error` the arm answered with an error or not at all; `timeout` not in time; `rate_limit` it takes no more
            requests now; `refusal` it declined to answer; `broken_stream` its answer broke off; `cancelled` the caller
            gave up; `diverted` another arm served and nobody said why.
        retry_after_s: seconds for which the arm wants no request, as a Retry-After header says; None if unsaid.

    Example:
        >>> Failure("rate_limit", retry_after_s=20).kind
        'rate_limit'
    """

    kind: FailureKind
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAILURES:
            raise InvalidInput(f"unknown failure {self.kind!r:.60}; there are {', '.join(FAILURES)}")
        wait_s = self.retry_after_s
        if wait_s is not None and not (is_number(wait_s) and wait_s >= 0):
            raise InvalidInput(f"retry_after_s must be finite and at least 0, got {wait_s!r:.60}")


class FailureRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one kind of failure counts.

    Attributes:
        fault: whether it is the arm's. Then the arm learns it, as `quality` and `failed` = 1; else nothing is learned.
        quality: what it counts, in [0, 1], where no quality was reported.
        zero: cost channels that are known to be 0 where they were not reported. Another one that was not reported stays
            unknown: its estimate stays where it is.
    """

    fault: bool = True
    quality: float = 0.0
    zero: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = DECLARED["quality"].range
        if not (is_number(self.quality) and low <= self.quality <= high):
            raise InvalidInput(f"the quality of a failure must be in [0, 1], got {self.quality!r:.60}")
        unknown = [name for name in self.zero if name not in COSTS]
        if unknown:
            raise InvalidInput(f"zero: unknown cost channel {unknown[0]!r}; there are {', '.join(COSTS)}")


_UNBILLED = ("cost_usd", "tokens")


class FailureRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule of every kind of failure, see `Failure` and `FailureRule`.

    By default an error, and an arm that another one stood in for, costs no money and no tokens; a rate limit and a
    caller who gave up say nothing of the arm's answers.

    Example:
        >>> rules = FailureRules(cancelled=FailureRule(fault=True, quality=0.2))
        >>> rules.of("cancelled").quality, rules.of("rate_limit").fault
        (0.2, False)
    """

    error: FailureRule = FailureRule(zero=_UNBILLED)
    timeout: FailureRule = FailureRule()
    rate_limit: FailureRule = FailureRule(fault=False)
    refusal: FailureRule = FailureRule()
    broken_stream: FailureRule = FailureRule()
    cancelled: FailureRule = FailureRule(fault=False)
    diverted: FailureRule = FailureRule(zero=_UNBILLED)

    def of(self, kind: FailureKind) -> FailureRule:
        """The rule of one kind."""
        rule: FailureRule = getattr(self, kind)
        return rule
