"""The share of the traffic that is spread over plausible arms, so that the log can answer for other policies."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.policies.base import Estimate, utility

REACH = 4.0
SUPPORT = 0.25


def plausible(estimate: Estimate, prices: F64, penalty: F64 | None, eligible: Bool | None) -> Bool:
    """The eligible arms that may still be the best: `REACH` bonuses over them reaches `REACH` bonuses under the best.

    An arm that the policy has no estimate of is plausible.

    Args:
        estimate: the policy's, in this context. prices: signed weights of the channels, shape (channels,).
        penalty: known costs in utility units, shape (n_arms,). eligible: mask, shape (n_arms,); None for all.

    Example:
        >>> estimate = Estimate(np.array([[0.8], [0.5], [0.1]]), np.array([0.05, 0.05, 0.01]))
        >>> plausible(estimate, np.ones(1), None, None).tolist()
        [True, True, False]
    """
    middle = utility(estimate.mean, prices) - (0.0 if penalty is None else penalty)
    reach = REACH * estimate.bonus
    known = np.isfinite(middle) & np.isfinite(reach)
    inside = np.ones(len(middle), dtype=np.bool_) if eligible is None else eligible
    best = (middle - reach)[known & inside].max(initial=-np.inf)
    return np.asarray(inside & (~known | (np.where(known, middle + reach, np.inf) >= best)))


def spread(p: F64, share: float, likely: Bool, eligible: Bool | None) -> F64:
    """`p` with `share` of it given to others: most of it to the `likely` arms alike, `SUPPORT` of it to all eligible.

    The second part keeps every eligible arm in the log: where a policy plays what the log never does, no estimate is
    unbiased, however rare that is.

    Example:
        >>> spread(np.array([0.9, 0.1, 0.0]), 0.4, np.array([True, False, True]), None).round(3).tolist()
        [0.723, 0.093, 0.183]
    """
    every = np.ones(len(p), dtype=np.bool_) if eligible is None else eligible
    others = (1.0 - SUPPORT) * likely / likely.sum() + SUPPORT * every / every.sum()
    return np.asarray((1.0 - share) * p + share * others)
