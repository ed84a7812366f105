"""Linear models on bootstrapped outcomes: exploration from resampling, without a formula for the noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, setting
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.distributions import mix
from bandit_router.policies.state import Form


class BootstrapLinear(Policy):
    """Play each arm with the share of bootstrap replicates that find it best.

        replicate b:   theta_ab of a ridge regression on Poisson(1)-weighted outcomes, around a random prior mean
        p_a = (1 - floor) * mean_b [ a = argmax_a' prices . theta_a'b x - penalty_a' ] + floor / K

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        ridge: prior precision of every coefficient.
        replicates: number of resampled models; p moves in steps of 1 / replicates.
        prior: standard deviation of the random prior means, in utility units; 0 starts all replicates at zero.
        floor: share of the traffic spread evenly over the eligible arms.
        seed: of the random weights and prior means.

    The spread of the replicates follows the outcomes' own noise, also where it differs between arms or contexts. The
    weights of an arm's n-th outcome come from a counter-based generator keyed by (seed, arm, n): a reloaded policy
    draws on, and the order of different arms' outcomes does not matter. Exact ties share.

    Source: online bootstrap (Oza & Russell 2001) as Thompson sampling (Eckles & Kaptein 2014, arXiv 1410.4009), with
    the random priors of Osband, Aslanides & Cassirer 2018 (arXiv 1806.03335), without which an arm that nobody has
    played has no spread. No regret bound is proved for this combination.

    Cost: `replicates` times that of a linear policy, in time and memory.

    Example:
        >>> policy = BootstrapLinear(n_arms=2, dim=1, floor=0.0)
        >>> for _ in range(30):
        ...     policy.learn([1.0], arm=0, outcome=[0.9])
        ...     policy.learn([1.0], arm=1, outcome=[0.1])
        >>> policy.probabilities([1.0]).tolist()
        [1.0, 0.0]
    """

    has_estimates: ClassVar[bool] = True
    forms: ClassVar[Mapping[str, Form]] = {"inverse": "packed"}

    ridge: float = setting(default=1.0, check=POSITIVE, unit="observations of length 1")
    replicates: int = setting(default=20, check=COUNT, unit="models")
    prior: float = setting(default=0.3, check=NOT_NEGATIVE, unit="utility")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")
    seed: int = setting(default=0, check=SEED)

    def _start(self) -> None:
        super()._start()
        self.statistics = ridge_statistics(self.n_arms * self.replicates, self.dim, self.channels, ridge=self.ridge)
        start = self.statistics.arrays()
        start["theta"] = np.concatenate([self._prior_means(arm) for arm in range(self.n_arms)])
        self.statistics.restore(start)
        self.counts = np.zeros(self.n_arms, dtype=np.int64)

    def _prior_means(self, arm: int) -> F64:
        """One random coefficient vector per replicate; metered costs start at 0."""
        means = np.zeros((self.replicates, self.channels, self.dim))
        means[:, 0] = self.prior * self._generator(arm, -1).normal(size=(self.replicates, self.dim))
        return means

    def _generator(self, arm: int, count: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, arm, count + 1]))

    def _predict(self, x: F64) -> F64:
        """Shape (n_arms, replicates, channels)."""
        mean, _ = self.statistics.predict(x)
        return mean.reshape(self.n_arms, self.replicates, self.channels)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        scores = (self._predict(x) @ prices)[arms] - penalty[:, None]
        best = scores == scores.max(axis=0)
        return mix((best / best.sum(axis=0)).mean(axis=1), self.floor)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        times = self._generator(arm, int(self.counts[arm])).poisson(1.0, self.replicates)
        for replicate in np.flatnonzero(times):
            self.statistics.learn(arm * self.replicates + int(replicate), x, y, weight * times[replicate])
        self.counts[arm] += 1

    def _estimate(self, x: F64) -> Estimate:
        each = self._predict(x)
        return Estimate(each.mean(axis=1), each[:, :, 0].std(axis=1))

    def _add_arm(self, like: int | None, strength: float) -> None:
        fresh = self._prior_means(self.n_arms)
        for replicate in range(self.replicates):
            row = None if like is None else like * self.replicates + replicate
            self.statistics.add_arm(row, strength)
        if like is None:
            arrays = self.statistics.arrays()
            arrays["theta"] = np.concatenate([arrays["theta"][: -self.replicates], fresh])
            self.statistics.restore(arrays)
        self.counts = np.append(self.counts, 0)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self.statistics.arrays(), "outcomes": self.counts}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.statistics.restore(arrays)
        self.counts = arrays["outcomes"].astype(np.int64)
