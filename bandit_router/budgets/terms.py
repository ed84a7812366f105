"""What limits make of one decision, and the refusal where they leave no arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.budgets.accounts import Account
from bandit_router.budgets.limits import Limit, Window
from bandit_router.errors import BudgetExhausted


@dataclass(frozen=True, slots=True)
class Terms:
    """What the limits make of one decision.

    Attributes:
        eligible: mask without the arms that cannot be paid for, shape (arms,); None when every arm is eligible.
        penalty: known costs with the shadow prices' charges added, in utility, shape (arms,); None for none.
    """

    eligible: Bool | None
    penalty: F64 | None


class Room(NamedTuple):
    """What one hard window has left: what each arm needs of it, shape (arms,), and the seconds until it resets."""

    limit: Window
    need: F64
    left: float
    resets_s: float

    @property
    def fits(self) -> Bool:
        """Which arms it can pay for."""
        return self.need <= self.left


def within(eligible: Bool, hard: list[Room], *, refuse: bool) -> Bool:
    """The eligible arms that every hard window can pay for; where there is none, the cheapest, or a refusal."""
    fits = eligible.copy()
    for room in hard:
        fits &= room.fits
    if fits.any() or not eligible.any():
        return fits
    if refuse:
        raise _exhausted(eligible, hard)
    shares = np.max([room.need / room.limit.total for room in hard], axis=0)
    fits[np.where(eligible, shares, np.inf).argmin()] = True
    return fits


def _exhausted(eligible: Bool, hard: list[Room]) -> BudgetExhausted:
    """Which limits refuse every eligible arm, and when the last of them opens, else the first that refuses some."""
    alone = [room for room in hard if not room.fits[eligible].any()]
    together = [room for room in hard if not room.fits[eligible].all()]
    last = max(alone, key=lambda room: room.resets_s) if alone else min(together, key=lambda room: room.resets_s)
    names = " and ".join(room.limit.name for room in alone)
    never = bool(alone) and any((room.need[eligible] > room.limit.total).all() for room in alone)
    return BudgetExhausted(
        f"no eligible arm can be paid for under {names or 'the hard limits together'}; wait for the window to reset, "
        "raise the total, or set exhausted='cheapest'",
        limit=last.limit.name,
        resets_s=None if never else last.resets_s,
    )


def spent(limit: Limit, account: Account) -> dict[str, float | None]:
    """What a report says of an account's window."""
    if not isinstance(limit, Window):
        return dict.fromkeys(("committed", "reserved", "remaining", "resets_at_s"))
    return {
        "committed": account.committed,
        "reserved": account.reserved,
        "remaining": max(limit.total - account.committed, 0.0),
        "resets_at_s": (account.window + 1) * limit.window_s,
    }
