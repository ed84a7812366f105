"""Dueling feedback: two arms answer one request, and somebody says which answer is better."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from bandit_router.arrays import F64, Bool
from bandit_router.declared import COUNT, POSITIVE, SHARE, Check, Declared, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import mix


class DuelingLinear(Declared):
    """Learn who wins from comparisons alone, and duel the pair that could both be best and is least known.

        P(a beats b | x) = 1 / (1 + exp(-(theta_a - theta_b) . x))           (Bradley & Terry 1952)
        pair = argmax over plausible (a, b) of |z_ab|_{H^-1},    z_ab = e_a (x) x - e_b (x) x
        plausible a: for no b is (theta_b - theta_a) . x > alpha |z_ab|_{H^-1}

    This is not a `Policy`: it decides on a pair and learns from a preference, not from an outcome. Its `best` gives the
    arm to serve where no comparison is wanted.

    Args:
        n_arms: number of arms, at least 2. dim: length of the context.
        ridge: prior precision of every coefficient, greater than 0.
        alpha: width of the confidence set, in units of the log odds.
        floor: share of the duels spread evenly over all eligible pairs, so that each has a known, positive propensity.

    Updates are online Newton steps on the logistic loss: with p the predicted chance of what happened,
    H <- H + p (1 - p) z z', theta <- theta + H^-1 z (1 - p). One step costs (n_arms * dim)^2.

    Source: MaxInP of Saha 2021 (NeurIPS, Optimal algorithms for stochastic contextual preference bandits), Algorithm 1,
    with disjoint arms, a floor, and one Newton step for the maximum likelihood estimate that its bound needs.

    Example:
        >>> duel = DuelingLinear(n_arms=3, dim=1)
        >>> for _ in range(50):
        ...     duel.learn_preference([1.0], winner=2, loser=0)
        ...     duel.learn_preference([1.0], winner=2, loser=1)
        >>> duel.best([1.0])
        2
    """

    n_arms: int = setting(kind=int, check=Check("at least 2", lambda value: value >= 2), unit="arms", given=True)
    dim: int = setting(kind=int, check=COUNT, unit="numbers", given=True)
    ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")
    alpha: float = setting(default=1.0, check=POSITIVE, unit="log odds per width")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the duels")

    def _start(self) -> None:
        self.pairs = np.array(list(combinations(range(self.n_arms), 2)))
        self.theta = np.zeros((self.n_arms, self.dim))
        self.inverse = np.eye(self.n_arms * self.dim) / self.ridge
        self.steps = 0

    def probabilities(self, context: ArrayLike, eligible: Bool | None = None) -> F64:
        """The exact distribution over `pairs` that the duel is drawn from, shape (pairs,); changes nothing.

        Args:
            context: feature vector, shape (dim,), finite. eligible: mask of the arms, at least two; default all.
        """
        x = self._context(context)
        allowed = np.ones(self.n_arms, dtype=np.bool_) if eligible is None else np.asarray(eligible)
        if allowed.shape != (self.n_arms,) or allowed.sum() < 2:
            raise InvalidInput(f"eligible must be booleans of shape ({self.n_arms},), two of them true, got {eligible}")
        gap, width = self._gaps(x)
        hopeless = np.any((gap > self.alpha * width) & allowed[:, None], axis=0)  # some b beats a surely
        inside = np.flatnonzero(allowed[self.pairs].all(axis=1))
        plausible = inside[(~np.asarray(hopeless)[self.pairs[inside]]).all(axis=1)]
        if not len(plausible):  # one arm is left: compare it with whom it is least known against
            best = int(np.where(allowed, self.theta @ x, -np.inf).argmax())
            plausible = inside[(self.pairs[inside] == best).any(axis=1)]
        spread = width[self.pairs[plausible, 0], self.pairs[plausible, 1]]
        widest = spread >= spread.max() * (1 - 1e-12)
        p = np.zeros(len(self.pairs))
        p[plausible[widest]] = 1.0 / widest.sum()
        p[inside] = mix(p[inside], self.floor)
        return p

    def best(self, context: ArrayLike) -> int:
        """The arm that is believed to win against every other."""
        return int((self.theta @ self._context(context)).argmax())

    def chance(self, context: ArrayLike) -> F64:
        """P(a beats b) as learned, shape (n_arms, n_arms)."""
        score = self.theta @ self._context(context)
        return np.asarray(expit(score[:, None] - score[None, :]))

    def learn_preference(self, context: ArrayLike, *, winner: int, loser: int) -> None:
        """Learn one comparison. Report a tie not at all, or as one win each way."""
        x = self._context(context)
        if winner == loser or not (0 <= winner < self.n_arms and 0 <= loser < self.n_arms):
            raise InvalidInput(f"winner and loser must be two arms in 0..{self.n_arms - 1}, got {winner} and {loser}")
        z = np.zeros((self.n_arms, self.dim))
        z[winner], z[loser] = x, -x
        v = self.inverse @ z.ravel()
        surprise = float(expit((self.theta[loser] - self.theta[winner]) @ x))
        curvature = surprise * (1.0 - surprise)
        self.inverse -= np.outer(v, v) * (curvature / (1.0 + curvature * (z.ravel() @ v)))  # Sherman-Morrison
        self.theta += (self.inverse @ z.ravel()).reshape(self.theta.shape) * surprise
        self.steps += 1

    def _gaps(self, x: F64) -> tuple[F64, F64]:
        """(theta_a - theta_b) . x and |z_ab|_{H^-1} of all pairs, both (n_arms, n_arms)."""
        score = self.theta @ x
        blocks = self.inverse.reshape(self.n_arms, self.dim, self.n_arms, self.dim)
        covariance = np.einsum("i,aibj,j->ab", x, blocks, x)
        own = covariance.diagonal()
        squared = own[:, None] + own[None, :] - 2.0 * covariance
        return score[:, None] - score[None, :], np.sqrt(np.maximum(squared, 0.0))

    def state(self) -> dict[str, NDArray[Any]]:
        """Settings and everything learned, as arrays."""
        settings = {name: np.asarray(getattr(self, name)) for name in ("ridge", "alpha", "floor", "steps")}
        return {**settings, "theta": self.theta.copy(), "inverse": self.inverse.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Go on from `state`."""
        n_arms, dim = state["theta"].shape
        settings = {name: float(state[name]) for name in ("ridge", "alpha", "floor")}
        duel = cls(n_arms=n_arms, dim=dim, **settings)
        duel.theta, duel.inverse = np.array(state["theta"]), np.array(state["inverse"])
        duel.steps = int(state["steps"])
        return duel

    def _context(self, context: ArrayLike) -> F64:
        x = np.asarray(context, dtype=np.float64)
        if x.shape != (self.dim,) or not np.isfinite(x).all():
            raise InvalidInput(f"context must be finite with shape ({self.dim},), got {context!r}")
        return x
