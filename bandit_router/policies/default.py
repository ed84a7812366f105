"""The default policy: a hierarchical linear model that tunes itself, explored no more than its evidence asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import PART, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.aside import Aside
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.compiled_hierarchy import hierarchical_ridge
from bandit_router.policies.native import kernels
from bandit_router.policies.safe import ArmInsurance
from bandit_router.policies.state import Form
from bandit_router.policies.wide_hierarchy import WIDE

_kernels = kernels()

TEMPER = 0.5
STAKES = np.array([0.25, 0.5, 1.0, -0.25, -0.5, -1.0])


def alarm(t: int) -> float:
    """Log wealth that counts as a change at step t."""
    return math.log(len(STAKES) * t)


def _move(bets: F64, stakes: F64, innovation: float, surprise: float) -> float:
    """The bets of one arm move on: log wealth, outcomes and sum of innovations; returns the largest log wealth."""
    wealth = bets[0] + stakes * surprise - stakes**2 * ((surprise**2 + 2.0) / 6.0)
    bets[0], bets[1], bets[2] = wealth, bets[1] + 1.0, bets[2] + innovation
    bets[:, wealth <= 0.0] = 0.0
    return float(bets[0].max())


bet = _move if _kernels is None else _kernels.bet


class EvidenceThompson(Policy):
    """Play each arm by its odds of beating the leader, under a hierarchical model whose scales are learned.

        leader g = argmax of the expected utility
        p_a proportional to q_a / (1 - q_a),   q_a = P(utility_a > utility_g),   by a posterior of half the variance

    Nothing needs to be set; priors (`TYPICAL`, `TYPICAL_COST`) are fixed. The model (`HierarchicalRidge`, where the
    mathematics is) learns how much the context, and which part of it, is worth; arms shrink to what they have in
    common, so a new arm starts as a typical one; noise is estimated per arm. A priced cost enters by its expected
    value, and its variance by price squared: a cost that equal requests do not share is worth exploring like a
    quality, one that hardly varies is not.

    Exploration. For two arms p is the probability that each is the better one (Thompson 1933); for more it is an
    explicit stand-in for the win probabilities, which need an integral. The variance is halved because, with it
    scaled by c, the expected regret of Thompson sampling grows in the worst case like T^(1-c) (Fan & Glynn 2021, arXiv
    2109.13595, on misspecified variances): c = 1/2 explores least among those that keep the minimax order sqrt(T).

    Change. Each arm's surprises r (standardised innovations) are bet against, with stakes b of 1/4, 1/2, 1 either way:
    log W <- max(0, log W) + b r - b^2 (r^2 + 2) / 6. While the model is right no factor has a mean above 1, whatever
    the shape of the noise (Delyon 2009, Electronic Journal of Probability 14, Theorem 1), and for a shift of m noise
    deviations the best stake gains about m^2 / 2 an outcome. A wealth above 6 t at step t is an alarm, so the expected
    number of false ones grows no faster than log t (each step starts a new bet: the e-detector of Shin, Ramdas &
    Rinaldo 2022, arXiv 2203.03532). At an alarm the arm's evidence shrinks to what came since the bet
    whose outcomes a shift explains best began, and moves by its mean innovation since; whether other arms changed too
    is unknown, so half of their evidence is kept. What is taken is set aside and returns when it explains the arm
    better again; until then an arm that fell is probed, ever more rarely (`Aside`).

    Floor. After t outcomes no arm of K has less than about 1 / (K t) (divided by 1 + what all floors add; with a
    premium, of the policy's own part), so that every arm is tried again for ever, at a cost like log t.

    Args:
        n_arms, dim, channels: sizes, see `Policy`. Contexts need no leading 1 and no scaling.
        premium: share of the traffic that insures against the model being wrong, see `ArmInsurance`; 0 insures nothing.

    What theory does not cover: the scales are estimated from adaptively collected outcomes and then taken as known;
    bounded outcomes are treated as normal.

    Example:
        >>> policy = EvidenceThompson(n_arms=3, dim=2)
        >>> policy.probabilities([0.3, 1.0]).round(6).tolist()
        [0.333333, 0.333333, 0.333333]
    """

    has_estimates: ClassVar[bool] = True
    reads_propensity: ClassVar[bool] = True  # with a premium
    per_arm: ClassVar[tuple[str, ...] | None] = (
        *("gram", "moment", "square", "centre", "count", "costs", "firmness", "loudness", "precision"),
        *("inverse", "theta", "cost_inverse", "insurance.weighted", "bets"),
        *(f"aside.{name}" for name in Aside.SAVED[:-1]),
    )
    forms: ClassVar[Mapping[str, Form]] = {
        "gram": "symmetric",
        "inverse": "symmetric",
        "shared_inverse": "symmetric",
        "cost_inverse": "symmetric",
    }

    premium: float = setting(default=0.0, check=PART, unit="share of the traffic")

    def _start(self) -> None:
        super()._start()
        self.model = hierarchical_ridge(self.n_arms, self.dim, self.channels)
        self.insurance = ArmInsurance(self.n_arms, self.channels, premium=self.premium)
        self.bets = np.zeros((self.n_arms, 3, len(STAKES)))  # log wealth; outcomes, sum of innovations since its start
        self.aside = Aside(self.model)
        self.floor = np.full(self.n_arms, 1.0 / self.n_arms)

    def _set_floor(self, steps: int) -> None:
        """The least probability of every arm after so many outcomes."""
        self.floor.fill(1.0 / (len(self.floor) * (steps + 1)))
        if self.aside.held:
            self.aside.raise_floor(self.floor, steps)

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        floor = self.floor if len(arms) == len(self.floor) else self.floor[arms]
        odds = self.model.odds(x, arms, prices, penalty, TEMPER, floor)
        return self.insurance.mix(odds, arms, prices)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        innovation, surprise = self.model.learn(arm, x, y, weight)
        self.insurance.learn(arm, y, weight, propensity)
        self._bet(arm, x, y, innovation, surprise)
        self._set_floor(self.steps + 1)

    def _bet(self, arm: int, x: F64, y: F64, innovation: float, surprise: float) -> None:
        """Look for a change of the arm, or for the end of one."""
        now = self.steps + 1
        if arm in self.aside.held and self.aside.explains(arm, x, float(y[0]), innovation, now):
            self.aside.give_back(self.model, arm)
            self.bets[arm] = 0.0
        elif bet(self.bets[arm], STAKES, innovation, surprise) > alarm(now):
            _, length, drift = self.bets[arm]
            start = int((drift**2 / np.maximum(length, 1.0)).argmax())  # the shift that explains most
            mean = float(drift[start] / length[start])
            share = self.aside.put(self.model, arm, now, float(length[start]), mean)
            self.model.restart(arm, share, mean)
            self.bets[arm] = 0.0

    def _estimate(self, x: F64) -> Estimate:
        prediction = self.model.predict(x)
        mean = prediction.mean
        mean[:, 1:][:, self.model.costs[:, 1].sum(axis=0) == 0] = np.nan
        return Estimate(mean, np.sqrt(TEMPER * self.model.noise * prediction.own * self.model.loudness))

    def in_order(self, order: Sequence[int]) -> Self:
        """See `Policy`; beyond `WIDE` features a search under way holds more about the arms than their rows."""
        if self.dim > WIDE:
            raise InvalidInput(f"EvidenceThompson with over {WIDE} features cannot reorder its arms; keep their order")
        moved = super().in_order(order)
        if self.aside.latest >= 0:
            moved.aside.latest = np.asarray(list(order).index(int(self.aside.latest)))
        return moved

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.model.add_arm(like, strength)
        self.insurance.add_arm()
        self.bets = np.concatenate([self.bets, np.zeros_like(self.bets[:1])])
        self.aside.add_arm()
        self.floor = np.empty(len(self.bets))
        self._set_floor(self.steps)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self.model.arrays(), **self.insurance.arrays(), **self.aside.arrays(), "bets": self.bets}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.model.restore(arrays)
        self.insurance.restore(arrays)
        self.aside.restore(arrays)
        self.bets = arrays["bets"]
        self._set_floor(self.steps)
