"""SolveCache: which adapters to keep, given how much each would gain in a sample of contexts.

With u_i(x) the utility of arm i and c_j the paging costs, a resident set S is worth

    V(S) = mean_x max( M(x), max_{i in S} u_i(x) ),   M(x) = max_j u_j(x) - c_j  (always possible: page it in)

so V(S) - V(none) = mean_x max_{i in S} gain_i(x) with gain_i = max(0, u_i - M): facility location, which is monotone
submodular. Greedy is within 1 - 1/e of the best set of K (Nemhauser, Wolsey & Fisher 1978); small cases are enumerated.
Charges for loading make it non-monotone, hence the one-swap search after greedy.

The name SolveCache is POLAR's (arXiv 2604.16583); its body here is a reconstruction.
"""

from __future__ import annotations

from itertools import combinations, islice
from math import comb

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.policies.caching.base import Capacity

ENUMERABLE = 20_000
_CHUNK = 2_000


def gains(utilities: F64, costs: F64) -> F64:
    """What each arm adds over paging the best arm in: shape (n, arms) -> (n, arms), at least 0."""
    paged = (utilities - costs).max(axis=1, keepdims=True)
    return np.asarray(np.maximum(utilities - paged, 0.0))


def value(gain: F64, resident: Bool) -> float:
    """Mean over contexts of the best gain in a resident set."""
    return float(gain[:, resident].max(axis=1).mean()) if resident.any() else 0.0


def solve_cache(gain: F64, capacity: Capacity, charges: F64 | None = None) -> Bool:
    """The resident set of highest mean gain minus charges: enumerated when that is cheap, else greedy and swaps.

    Args:
        gain: shape (n, arms), from `gains`.
        capacity: which sets fit.
        charges: what having an arm in the set costs per request (for instance its load, spread over the time it will
            stay), shape (arms,); default nothing.
    """
    charge = np.zeros(gain.shape[1]) if charges is None else charges
    choices, slots = capacity.choices, capacity.slots
    if slots is not None and capacity.limit_bytes is None:
        k = min(slots - int((capacity.floor & ~capacity.free).sum()), len(choices))
        if sum(comb(len(choices), size) for size in range(k + 1)) <= ENUMERABLE:
            return _enumerate(gain, capacity, charge, k)
    return swap(gain, capacity, charge, greedy(gain, capacity, charge))


def _enumerate(gain: F64, capacity: Capacity, charge: F64, k: int) -> Bool:
    """Every set of k, or of fewer when loading is charged; larger sets first, so nothing useful is dropped on a tie."""
    start = gain[:, capacity.floor].max(axis=1, initial=0.0)
    best: tuple[int, ...] = ()
    best_value = float(start.mean()) if charge.any() or k == 0 else -np.inf
    for size in range(k, 0 if charge.any() else max(k - 1, 0), -1):
        sets = combinations(capacity.choices.tolist(), size)
        while chunk := list(islice(sets, _CHUNK)):
            members = np.array(chunk)
            top = np.repeat(start[None], len(members), axis=0)
            for column in members.T:
                np.maximum(top, gain.T[column], out=top)
            worth = top.mean(axis=1) - charge[members].sum(axis=1)
            first = int(worth.argmax())
            if worth[first] > best_value or (not best and worth[first] >= best_value):
                best, best_value = chunk[first], float(worth[first])
    resident = capacity.floor.copy()
    resident[list(best)] = True
    return resident


def greedy(gain: F64, capacity: Capacity, charge: F64) -> Bool:
    """Add the arm of highest marginal gain (per byte when bytes bind) while it is worth its charge and fits."""
    resident = capacity.floor.copy()
    top = gain[:, resident].max(axis=1, initial=0.0)
    while True:
        margin = np.maximum(gain - top[:, None], 0.0).mean(axis=0) - charge
        margin[resident] = -np.inf
        if capacity.limit_bytes is not None:
            margin = np.where(margin > 0, margin / np.maximum(capacity.sizes, 1.0), margin)
        for arm in np.argsort(-margin, kind="stable"):
            if margin[arm] < 0 or (margin[arm] <= 0 and charge.any()):
                return resident
            if capacity.room_for(resident, int(arm)):
                break
        else:
            return resident
        resident[arm] = True
        top = np.maximum(top, gain[:, arm])


def swap(gain: F64, capacity: Capacity, charge: F64, resident: Bool) -> Bool:
    """Exchange, drop or add single arms while that raises the value."""
    resident = resident.copy()
    floor = capacity.floor
    for _ in range(len(charge)):
        current = value(gain, resident) - float(charge[resident].sum())
        best, best_value = None, current + 1e-12
        for out in np.flatnonzero(resident & ~floor):
            without = resident.copy()
            without[out] = False
            top = gain[:, without].max(axis=1, initial=0.0)
            rest = float(top.mean()) - float(charge[without].sum())
            worth = rest + np.maximum(gain - top[:, None], 0.0).mean(axis=0) - charge
            worth[without] = rest
            arm = int(worth.argmax())
            candidate = without.copy()
            candidate[arm] = True
            if worth[arm] > best_value and capacity.fits(candidate):
                best, best_value = candidate, float(worth[arm])
        if best is None:
            return resident
        resident = best
    return resident
