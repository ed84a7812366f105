"""EXP3: adversarial rewards, no context."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, SHARE, setting
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import mix, softmax


class Exp3(Policy):
    """Exponential weights over importance-weighted utilities.

        p = (1 - floor) * softmax(eta_t * S) + floor / K,   S_a = sum of outcome / propensity, priced at decision time
        eta_t = rate * sqrt(ln K / (K * (1 + t)))

    Args:
        n_arms, dim, channels: sizes; the context is ignored.
        rate: scale of eta_t; 1 for utilities in [0, 1].
        floor: uniform exploration share.

    It reads `propensity` in `learn`: pass the decision's own, also when the outcome comes late. An arm added later
    starts at the mean of the others' sums, so that it is neither buried nor favoured.

    Source: Auer, Cesa-Bianchi, Freund & Schapire 2002, SIAM J. Computing 32, Figure 1, with the anytime rate of
    Bubeck & Cesa-Bianchi 2012 (arXiv 1204.5721), Theorem 3.1. A known penalty is charged as t * penalty.

    Example:
        >>> policy = Exp3(n_arms=2, dim=1, floor=0.0)
        >>> policy.learn([1.0], arm=0, outcome=[1.0], propensity=0.5)
        >>> bool(policy.probabilities([1.0])[0] > 0.6)
        True
    """

    contextual: ClassVar[bool] = False
    reads_propensity: ClassVar[bool] = True
    per_arm: ClassVar[tuple[str, ...] | None] = ("sums",)

    rate: float = setting(default=1.0, check=POSITIVE, unit="per unit of utility")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _start(self) -> None:
        super()._start()
        self.sums = np.zeros((self.n_arms, self.channels))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        k = len(arms)
        eta = self.rate * math.sqrt(math.log(k) / (k * (1.0 + self.steps)))
        gains = (self.sums @ prices)[arms] - self.steps * penalty
        return mix(softmax(eta * gains, 1.0), self.floor)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        self.sums[arm] += weight * np.nan_to_num(y) / propensity

    def _add_arm(self, like: int | None, strength: float) -> None:
        start = self.sums.mean(axis=0) if like is None else self.sums[like]
        self.sums = np.concatenate([self.sums, start[None]])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"sums": self.sums}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.sums = arrays["sums"]
