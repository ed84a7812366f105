"""Reward models for the direct and doubly robust estimators: one ridge regression per arm."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput


def ridge_per_arm(x: F64, arm: Index, y: F64, n_arms: int, ridge: float = 1.0) -> F64:
    """Coefficients of one ridge regression per arm, intercept first, shape (n_arms, d + 1).

    Rewards are centred at their overall mean, so an arm without data predicts that mean. NaN rewards are left out.
    """
    rows = ~np.isnan(y)
    x, arm, y = np.column_stack([np.ones(rows.sum()), x[rows]]), arm[rows], y[rows]
    theta = np.zeros((n_arms, x.shape[1]))
    if not len(y):
        return theta
    mean = y.mean()
    for a in np.unique(arm):
        mine = x[arm == a]
        gram = mine.T @ mine + ridge * np.eye(x.shape[1])
        theta[a] = np.linalg.solve(gram, mine.T @ (y[arm == a] - mean))
    theta[:, 0] += mean
    return theta


def crossfit(x: F64, arm: Index, y: F64, n_arms: int, *, folds: int = 5, ridge: float = 1.0) -> F64:
    """Expected reward of every arm in every row, each row predicted from the other folds, shape (n, n_arms).

    Row i is in fold i mod `folds` (Chernozhukov et al. 2018). With an adaptive logger the other folds hold the row's
    future, which depends a little on its reward; `progressive` does not have that flaw.

    Raises:
        InvalidInput: fewer than two folds.
    """
    if folds < 2:
        raise InvalidInput(f"folds must be at least 2, got {folds}")
    fold = np.arange(len(y)) % folds
    q = np.empty((len(y), n_arms))
    for f in range(folds):
        inside = fold == f
        theta = ridge_per_arm(x[~inside], arm[~inside], y[~inside], n_arms, ridge)
        q[inside] = _predict(x[inside], theta)
    return q


def progressive(
    x: F64, arm: Index, y: F64, n_arms: int, *, start: float = 0.0, ridge: float = 1.0, first: int = 50
) -> F64:
    """Expected reward of every arm in every row, each row predicted from earlier rows alone, shape (n, n_arms).

    The model is refitted when the rows have grown by half; the first rows are predicted as `start`. Predictions that
    know only the past are what an anytime-valid sequence requires.

    Example:
        >>> arm = np.zeros(100, dtype=np.intp)
        >>> q = progressive(np.ones((100, 1)), arm, np.ones(100), 1)
        >>> q[0, 0], round(float(q[99, 0]), 2)
        (np.float64(0.0), 1.0)
    """
    n = len(y)
    q = np.full((n, n_arms), start)
    begin = first
    while begin < n:
        end = min(n, begin + max(1, begin // 2))
        theta = ridge_per_arm(x[:begin], arm[:begin], y[:begin], n_arms, ridge)
        q[begin:end] = _predict(x[begin:end], theta)
        begin = end
    return q


def _predict(x: F64, theta: F64) -> F64:
    return np.asarray(x @ theta[:, 1:].T + theta[:, 0])
