"""Follow the perturbed leader: keep the adapters of highest noisy demand."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import Bool
from bandit_router.declared import COUNT, NOT_NEGATIVE, SEED, setting
from bandit_router.policies.caching.base import CacheController, Served, Values


class FTPL(CacheController):
    """Keep the top adapters by cost-weighted demand plus Gaussian noise that grows with sqrt(t).

        score_i(t) = cost_i * uses_i(t) + scale * sqrt(t) * mean cost * z_i,   z_i ~ Normal(0, 1) drawn once

    Args:
        capacity, costs: see `CacheController`.
        scale: size of the noise. seed: of the noise.
        every: requests between two changes of the cache.

    Source: Faizal et al. (arXiv 2211.16051): FTPL for caching with switching costs and restricted updates. The demand
    here is what the router asked for, which their adversary fixes in advance; their regret bound does not cover that.
    """

    scale: float = setting(default=0.1, check=NOT_NEGATIVE)
    every: int = setting(default=50, check=COUNT, unit="requests")
    seed: int = setting(default=0, check=SEED)

    def _start(self) -> None:
        super()._start()
        self.noise = np.random.default_rng(self.seed).normal(size=len(self.costs))
        self.uses = np.zeros(len(self.costs))

    def holds(self, step: int) -> int:
        """Until the next change of the cache."""
        return self.every - step % self.every

    def _after(self, served: Served, values: Values) -> Bool | None:
        self.uses[served.arm] += 1
        if (served.step + 1) % self.every:
            return None
        noise = self.scale * np.sqrt(served.step + 1) * float(self.costs.mean()) * self.noise
        resident = self.capacity.floor.copy()
        for arm in np.argsort(-(self.costs * self.uses + noise), kind="stable"):
            if not resident[arm] and self.capacity.room_for(resident, int(arm)):
                resident[arm] = True
        return resident
