"""Linear models with a part that all arms share: a new adapter starts from what its relatives have taught.

    E[y | x, a] = z_a . beta + x . theta_a,      z_a = (1, features of a) (x) x

beta ~ Normal(0, I / shared_ridge) is learned by all arms, theta_a ~ Normal(0, I / ridge) by the arm itself. The
features of an arm are what is known of it before its first request: rank, size, base model, domain. Without any, beta
is the average arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import NOT_NEGATIVE, POSITIVE, SEED, SHARE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.distributions import greedy
from bandit_router.policies.linear import RidgeStatistics
from bandit_router.policies.state import Form
from bandit_router.policies.win_probabilities import gaussian_wins


class HybridPolicy(Policy):
    """Base of the policies over shared and per-arm parameters; a subclass turns scores into a distribution.

    The exact posterior of the joint model is kept as two ridge regressions: each arm's own one of y on x, and one of
    what is left of y on what is left of z,

        w_a = A_a^-1 b_a,   q = z - C_a' x,   s = x' A_a^-1 x
        mean = x . w_a + q . beta,       variance = s + q' A_0^-1 q

    where a new outcome enters the shared regression with features q, target y - x . w_a and weight 1 / (1 + s): the
    update of A_0 in Li et al., Algorithm 2, has rank one. Their B_a is features_a (x) (A_a - p_a I) with p_a the
    precision the arm started with, as the features of an arm do not change while it learns; so with C_a = A_a^-1 B_a

        q = features_a (x) p_a A_a^-1 x

    and no matrix of the two kinds of parameters is kept: memory is n_arms * d^2 + k^2 with k = (1 + features) * d.

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        features: number of features per arm, 0 by default; `describe` sets them.
        ridge: prior precision of an arm's own coefficients; large says that arms are alike.
        shared_ridge: prior precision of the shared ones.
    """

    has_estimates: ClassVar[bool] = True
    per_arm: ClassVar[tuple[str, ...] | None] = ("own.inverse", "own.theta", "own.counts", "prior", "described")
    forms: ClassVar[Mapping[str, Form]] = {"own.inverse": "packed", "shared.inverse": "packed"}

    features: int = setting(default=0, check=SEED, unit="features of an arm")
    ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")
    shared_ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")

    def _start(self) -> None:
        super()._start()
        self.own = ridge_statistics(self.n_arms, self.dim, self.channels, ridge=self.ridge)
        self.shared = RidgeStatistics(1, (1 + self.features) * self.dim, self.channels, ridge=self.shared_ridge)
        self.prior = np.full(self.n_arms, self.ridge)
        self.described = np.zeros((self.n_arms, 1 + self.features))
        self.described[:, 0] = 1.0

    def describe(self, arm: int, features: ArrayLike) -> None:
        """Set the features of an arm, shape (features,), before its first outcome.

        Raises:
            InvalidInput: a wrong shape, a value that is not finite, or an arm that has learned already.
        """
        values = self._vector("features", features, self.features)
        if not 0 <= arm < self.n_arms:
            raise InvalidInput(f"arm must be in 0..{self.n_arms - 1}, got {arm}")
        if self.own.counts[arm]:
            raise InvalidInput(f"arm {arm} has learned already; add a new arm with these features instead")
        self.described[arm, 1:] = values

    def _predict(self, x: F64) -> tuple[F64, F64, F64]:
        """Means (n_arms, channels), own variances (n_arms,), and p_a A_a^-1 x, shape (n_arms, dim)."""
        solved = self.own.solve(x)
        left = self.prior[:, None] * solved
        shared = self.shared.theta[0].reshape(self.channels, -1, self.dim)
        of_arms = np.tensordot(self.described, shared, (1, 1))
        mean = self.own.theta @ x + (of_arms * left[:, None]).sum(axis=2)
        return mean, np.maximum(solved @ x, 0.0), left

    def _q(self, left: F64, arms: Index) -> F64:
        """What is left of the shared features of some arms, shape (len(arms), k)."""
        return (self.described[arms, :, None] * left[arms, None]).reshape(len(arms), -1)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        v = self.own.solve_arm(arm, x)
        q = np.multiply.outer(self.described[arm], self.prior[arm] * v).ravel()
        own = self.own.theta[arm] @ x
        y = np.where(np.isnan(y), own + self.shared.theta[0] @ q, y)  # the prediction moves no prediction
        self.shared.learn(0, q, y - own, weight / (1.0 + weight * x.dot(v)))
        self.own.learn(arm, x, y, weight)

    def _estimate(self, x: F64) -> Estimate:
        mean, variance, left = self._predict(x)
        return Estimate(mean, self._bonus(variance, self._q(left, self._all_arms)))

    def _bonus(self, variance: F64, q: F64) -> F64:
        """What exploration adds to each arm's utility."""
        return np.zeros(len(variance))

    def _shared_variance(self, q: F64) -> F64:
        return np.asarray(((q @ self.shared.inverse[0]) * q).sum(axis=1))

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.own.add_arm(like, strength)
        self.prior = np.append(self.prior, self.ridge * (1.0 if like is None else strength))
        row = np.eye(1, 1 + self.features)[0] if like is None else self.described[like]
        self.described = np.concatenate([self.described, row[None]])
        if like is not None:
            self._give_estimate(like)

    def _give_estimate(self, like: int) -> None:
        """Let the newest arm, whose own part is still a copy, estimate what `like` does: it reads all of beta."""
        arrays = {name: array.copy() for name, array in self.own.arrays().items()}
        shared = self.described[like] @ self.shared.theta[0].reshape(self.channels, -1, self.dim)
        for channel, part in enumerate(shared):
            arrays["theta"][-1, channel] += self.prior[like] * self.own.solve_arm(like, part) - part
        self.own.restore(arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        parts = {"own": self.own, "shared": self.shared}
        nested = {f"{part}.{name}": array for part, held in parts.items() for name, array in held.arrays().items()}
        return {**nested, "prior": self.prior, "described": self.described}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        for part, held in (("own", self.own), ("shared", self.shared)):
            held.restore({name: arrays[f"{part}.{name}"] for name in held.arrays()})
        self.prior, self.described = arrays["prior"], arrays["described"]


class HybridLinUCB(HybridPolicy):
    """Play the arm whose optimistic utility is highest under shared and own parameters.

        index_a = prices . mean_a + alpha * sqrt(variance_a) - penalty_a

    Args:
        n_arms, dim, channels, features, ridge, shared_ridge: see `HybridPolicy`.
        alpha: width of the confidence bonus, in utility units.
        floor: share of the traffic spread evenly over the eligible arms.

    Source: Li, Chu, Langford & Schapire 2010 (arXiv 1003.0146), Algorithm 2; its regret has no proof.

    Example:
        >>> policy = HybridLinUCB(n_arms=3, dim=1, features=1, floor=0.0)
        >>> for arm, rank in enumerate([-1.0, 1.0, 1.0]):
        ...     policy.describe(arm, [rank])
        >>> for _ in range(20):
        ...     policy.learn([1.0], arm=0, outcome=[0.2])
        ...     policy.learn([1.0], arm=1, outcome=[0.8])
        >>> policy.estimate([1.0]).mean[2, 0].round(1).item()  # never played, but alike arm 1
        0.5
    """

    alpha: float = setting(default=0.3, check=NOT_NEGATIVE, unit="utility per deviation")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _bonus(self, variance: F64, q: F64) -> F64:
        return np.asarray(self.alpha * np.sqrt(np.maximum(variance + self._shared_variance(q), 0.0)))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        mean, variance, left = self._predict(x)
        utility, own = (mean @ prices)[arms] - penalty, variance[arms]
        squares = ((self.described**2).sum(axis=1) * (left**2).sum(axis=1))[arms]
        index = utility + self.alpha * np.sqrt(own)
        largest = min(1.0 / self.shared_ridge, float(np.linalg.norm(self.shared.inverse[0])))  # at least its eigenvalue
        bound = utility + self.alpha * np.sqrt(own + largest * squares)
        close = np.flatnonzero(bound >= index.max())  # the shared variance of the others decides nothing
        index[close] = utility[close] + self._bonus(own[close], self._q(left, arms[close]))
        return greedy(index, self.floor)


class HierarchicalLinTS(HybridPolicy):
    """Thompson sampling under shared and own parameters: play each arm with its probability to be the best.

        score_a ~ Normal(prices . mean_a - penalty_a, noise^2 * (s_a + (q_a - q~)' A_0^-1 (q_a - q~)))

    with q~ the average over the eligible arms: what the shared error moves in all arms alike decides nothing.

    Args:
        n_arms, dim, channels, features, ridge, shared_ridge: see `HybridPolicy`.
        noise: standard deviation of the utility around its mean, in utility units.

    The scores are then taken as independent, which the own parts are and the rest of the shared part is not; the
    propensity is exact for the distribution that is drawn from, and that one is close to, not equal to, the posterior.

    Source: Hong et al. 2022, Hierarchical Bayesian bandits (arXiv 2111.06929), section 3.2, with a fixed hyper-prior.

    Example:
        >>> HierarchicalLinTS(n_arms=2, dim=1).probabilities([1.0]).round(6).tolist()
        [0.5, 0.5]
    """

    noise: float = setting(default=0.2, check=POSITIVE, unit="utility")

    def _bonus(self, variance: F64, q: F64) -> F64:
        return np.asarray(self.noise * np.sqrt(np.maximum(variance + self._shared_variance(q - q.mean(axis=0)), 0.0)))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        mean, variance, left = self._predict(x)
        return gaussian_wins((mean @ prices)[arms] - penalty, self._bonus(variance[arms], self._q(left, arms)))
