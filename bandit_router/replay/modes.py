"""Which rows of a log speak for a policy: by their mode, those whose arm was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bandit_router.arrays import Bool
from bandit_router.errors import InvalidInput
from bandit_router.replay.logs.logged import LoggedEvents

SERVED: Mapping[str, str] = {
    "shadow": "the baseline served and nothing was learned",
    "apprentice": "the baseline served and the policy learned from it",
    "off": "the baseline served and the policy was not asked",
    "holdout": "the baseline served a random share of the units; --mode holdout gives its value on them",
    "guarded": "the baseline served because of what the request was, so those requests are not in the answer",
}
"""Modes in which the baseline served whatever the policy drew, and what that means. Every other mode was drawn."""


def drawn(log: LoggedEvents) -> Bool:
    """The rows whose arm was drawn with their propensity, shape (n,): all modes but those of `SERVED`.

    A gateway's `diverted` and `failure` rows are among them: the arm was drawn, and leaving out what went wrong would
    favour the arms that go wrong. A holdout row is not: whether a unit is held out does not depend on the request, so
    the rows that are not speak for all, while its propensity of 1 is the baseline's alone and not that of the draw.

    Example:
        >>> mode = np.array(["shadow", "online", "diverted"], dtype=object)
        >>> drawn(LoggedEvents.of(arms=("a", "b"), arm=[0, 0, 1], propensity=[1.0, 0.5, 0.5], mode=mode)).tolist()
        [False, True, True]
    """
    return ~np.isin(log.mode, list(SERVED))


def counted(log: LoggedEvents, modes: Sequence[str] | None = None) -> tuple[Bool, list[str]]:
    """The rows that a value rests on, shape (n,), and what to say about the others.

    Args:
        modes: those of the rows; default the drawn ones, or every row of a log that has none of them.

    Raises:
        InvalidInput: no row has one of the modes.
    """
    if modes is not None:
        absent = sorted(set(modes) - set(log.mode.tolist()))
        if absent or not modes:
            there = ", ".join(sorted(set(log.mode.tolist())))
            raise InvalidInput(f"no row has the mode {', '.join(absent) or '(none given)'}; the log has {there}")
        chosen = np.isin(log.mode, list(modes))
        return chosen, [] if chosen.all() else [f"rows of mode {', '.join(modes)} alone"]
    rows = drawn(log)
    if not rows.any():
        return np.ones(len(log), dtype=np.bool_), []
    counts = {mode: int((log.mode == mode).sum()) for mode in SERVED}
    return rows, [left_out(mode, count) for mode, count in counts.items() if count]


def left_out(mode: str, count: int) -> str:
    """What to say about the rows of a mode that are left out."""
    return f"{count} {mode} rows left out{': ' if mode in SERVED else ''}{SERVED.get(mode, '')}"
