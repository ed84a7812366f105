"""The policy contract: a distribution over arms out, one outcome vector in.

A policy has two verbs. `probabilities` answers with the exact distribution that the next arm is drawn from and changes
nothing; `learn` folds one observed outcome in. Everything else (drawing, logging, prices, clocks, eligibility) belongs
to the caller, so the probability that is logged is the probability that was used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Bool, Index
from bandit_router.declared import COUNT, POSITIVE_SHARE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.native import sound
from bandit_router.policies.state import Stateful

CAPABILITIES = ("contextual", "order_free", "has_estimates", "reads_propensity", "widens", "merges")
Merges = Literal["sums", "models"] | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy believes of every arm in one context, for explanations.

    Attributes:
        mean: expected outcome, shape (n_arms, channels); NaN where the policy keeps no estimate.
        bonus: what exploration adds to the utility, shape (n_arms,).
    """

    mean: F64
    bonus: F64


def utility(outcomes: F64, weights: F64) -> F64:
    """Outcomes or estimates (..., channels) at the signed weights of the channels; an unpriced channel may be NaN."""
    return np.asarray(np.where(weights == 0, 0.0, outcomes) @ weights)


class Policy(Stateful, ABC):
    """Base of all policies: checks every argument once, before any state changes.

    Args:
        n_arms: number of arms, at least 1. Arms are the integers 0..n_arms-1; `add_arm` appends one.
        dim: length of the context vector. Policies without context check it and ignore the values.
        channels: length of the outcome vector. Channel 0 is the quality, the rest are metered costs.

    A subclass declares its settings (`bandit_router.declared.setting`), implements `_distribution` and `_learn`, and
    `_start`, `_arrays` and `_restore` for what it learns. What it can do it declares in class attributes, which
    `bandit_router.testing.check_policy` compares with what it does:

        contextual        the context matters
        order_free        the order in which the outcomes of different arms come does not matter
        has_estimates     `estimate` gives the quality of an arm that has learned
        reads_propensity  `learn` reads the propensity, at least at some setting
        widens            `widen` shrinks the evidence of one arm
        merges            what replicas learned apart can be put together: "sums" in `statistics` add up exactly,
                          "models" are averaged by `delta` and `merge`
        per_arm           the arrays of `_arrays` that have a row for each arm, where these are all that tells arms
                          apart; None where `in_order` cannot be had by moving rows
    """

    contextual: ClassVar[bool] = True
    order_free: ClassVar[bool] = True
    has_estimates: ClassVar[bool] = False
    reads_propensity: ClassVar[bool] = False
    widens: ClassVar[bool] = False
    merges: ClassVar[Merges] = None
    per_arm: ClassVar[tuple[str, ...] | None] = None

    n_arms: int = setting(kind=int, check=COUNT, unit="arms", given=True)
    dim: int = setting(kind=int, check=COUNT, unit="numbers", given=True)
    channels: int = setting(default=1, check=COUNT, unit="channels", given=True)

    def _start(self) -> None:
        super()._start()
        self._all_arms: Index = np.arange(self.n_arms)
        self._no_penalty = np.zeros(self.n_arms)
        self._unpriced = np.zeros(self.channels)
        self._unpriced[0] = 1.0

    # -- the two verbs ------------------------------------------------------------------------------------------

    def probabilities(
        self,
        context: ArrayLike,
        eligible: Bool | None = None,
        prices: F64 | None = None,
        penalty: F64 | None = None,
    ) -> F64:
        """The exact sampling distribution over arms for one request; changes nothing.

        Args:
            context: feature vector, shape (dim,), finite.
            eligible: boolean mask, shape (n_arms,); default all arms. Others get probability 0.
            prices: signed weight of each outcome channel in the utility, shape (channels,): quality earns (+1),
                costs are negative. Default: quality alone.
            penalty: known cost of each arm at this decision, in utility units, shape (n_arms,); never learned.

        Returns:
            Probabilities, shape (n_arms,), non-negative, summing to 1.

        Raises:
            InvalidInput: a shape is wrong, a value is not finite, or no arm is eligible.
        """
        x = self._context(context)
        arms = self._eligible(eligible)
        weights = self._unpriced if prices is None else self._vector("prices", prices, self.channels)
        cost = self._no_penalty if penalty is None else self._vector("penalty", penalty, self.n_arms)
        if len(arms) == 1:
            inside = np.ones(1)
        else:
            inside = self._distribution(x, arms, weights, cost if arms is self._all_arms else cost[arms])
        if arms is self._all_arms:
            return inside
        p = np.zeros(self.n_arms)
        p[arms] = inside
        return p

    def learn(
        self, context: ArrayLike, arm: int, outcome: ArrayLike, weight: float = 1.0, propensity: float = 1.0
    ) -> None:
        """Learn one observed outcome of `arm`.

        Args:
            context: the feature vector the decision was made on, shape (dim,).
            arm: the arm that was played.
            outcome: metered channels, shape (channels,). Channel 0 must be finite; NaN in another channel means
                "not metered" and leaves that channel's estimate where it is.
            weight: how many observations this one counts for, greater than 0.
            propensity: probability with which the arm was drawn, in (0, 1]; only importance-weighted policies read it.

        Raises:
            InvalidInput: before any state has changed.
        """
        x = self._context(context)
        if not 0 <= arm < self.n_arms:
            raise InvalidInput(f"arm must be in 0..{self.n_arms - 1}, got {arm}")
        y = np.asarray(outcome, np.float64)
        if not sound(y, self.channels):  # or with channels that were not metered
            if y.shape != (self.channels,):
                raise InvalidInput(f"outcome must have shape ({self.channels},), got {y.shape}")
            if not math.isfinite(y[0]) or np.isinf(y).any():
                raise InvalidInput(f"outcome channel 0 must be finite and no channel infinite, got {y.tolist()}")
        if not (weight > 0 and math.isfinite(weight)):
            raise InvalidInput(f"weight must be finite and greater than 0, got {weight}")
        if not 0 < propensity <= 1:
            raise InvalidInput(f"propensity must be in (0, 1], got {propensity}; pass the decision's own")
        self._learn(x, int(arm), y, float(weight), float(propensity))
        self.steps += 1

    @abstractmethod
    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        """Distribution over `arms` (two or more of them), shape (len(arms),); `penalty` is theirs alone."""

    @abstractmethod
    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        """Fold in one checked observation."""

    def estimate(self, context: ArrayLike) -> Estimate:
        """What the policy believes of every arm in this context; NaN means where it keeps no estimate."""
        return self._estimate(self._context(context))

    def _estimate(self, x: F64) -> Estimate:
        return Estimate(np.full((self.n_arms, self.channels), np.nan), np.zeros(self.n_arms))

    def estimates(self, contexts: F64) -> tuple[F64, F64]:
        """`estimate` of many contexts at once: (n, dim) -> means (n, n_arms, channels) and bonuses (n, n_arms)."""
        each = [self._estimate(x) for x in contexts]
        return np.array([e.mean for e in each]), np.array([e.bonus for e in each])

    # -- arms ---------------------------------------------------------------------------------------------------

    def add_arm(self, *, like: int | None = None, strength: float = 1.0) -> int:
        """Append an arm, usable at once, and return its index.

        Args:
            like: start from this arm's current estimate instead of the prior.
            strength: how many prior observations that estimate counts for, greater than 0.
        """
        if like is not None and not 0 <= like < self.n_arms:
            raise InvalidInput(f"like must be an arm in 0..{self.n_arms - 1}, got {like}")
        if not (strength > 0 and math.isfinite(strength)):
            raise InvalidInput(f"strength must be finite and greater than 0, got {strength}")
        self._add_arm(like, strength)
        self.n_arms += 1
        self._all_arms, self._no_penalty = np.arange(self.n_arms), np.zeros(self.n_arms)
        return self.n_arms - 1

    def _add_arm(self, like: int | None, strength: float) -> None:
        """Grow whatever is kept per arm; `n_arms` is still the old number."""

    def in_order(self, order: Sequence[int]) -> Self:
        """A policy that has learned the same, with arm order[i] of this one in place i.

        Raises:
            InvalidInput: a policy that does not declare `per_arm`, or not every arm once.
        """
        if sorted(order) != list(range(self.n_arms)):
            raise InvalidInput(f"order must name each arm in 0..{self.n_arms - 1} once, got {list(order)}")
        if self.per_arm is None:
            raise InvalidInput(f"{type(self).__name__} cannot take its arms in another order; keep theirs")
        state = self.state()
        rows = {name: state[name] for name in self.per_arm if len(state[name])}  # some are empty without channels
        return type(self).from_state({**state, **{name: array[list(order)] for name, array in rows.items()}})

    def widen(self, arm: int, keep: float) -> None:
        """Trust one arm less: keep a share of its evidence around its present estimate, where the class `widens`.

        Raises:
            InvalidInput: a policy that cannot, an unknown arm, or a share outside (0, 1].
        """
        if not self.widens:
            raise InvalidInput(f"{type(self).__name__} cannot forget one arm's evidence alone; use LinUCB or LinTS")
        if not 0 <= arm < self.n_arms:
            raise InvalidInput(f"arm must be in 0..{self.n_arms - 1}, got {arm}")
        POSITIVE_SHARE.require("keep", keep)
        self._widen(arm, keep)

    def _widen(self, arm: int, keep: float) -> None:
        """Shrink the evidence of one arm."""

    # -- checks -------------------------------------------------------------------------------------------------

    def _context(self, context: ArrayLike) -> F64:
        x = np.asarray(context, np.float64)
        if sound(x, self.dim):
            return x
        if x.shape != (self.dim,):
            raise InvalidInput(f"context must have shape ({self.dim},), got {x.shape}")
        if np.isfinite(x).all():
            raise InvalidInput("context is too large to square; scale its features to about 1 before deciding")
        raise InvalidInput("context must be finite; clean NaN and infinity before deciding")

    def _eligible(self, eligible: Bool | None) -> Index:
        if eligible is None:
            return self._all_arms
        mask = np.asarray(eligible)
        if mask.shape != (self.n_arms,) or mask.dtype != np.bool_:
            raise InvalidInput(f"eligible must be booleans of shape ({self.n_arms},), got {mask.dtype} {mask.shape}")
        arms = mask.nonzero()[0]
        if not len(arms):
            raise InvalidInput("no arm is eligible; resume one or widen the allow-list")
        return arms

    @staticmethod
    def _vector(name: str, values: ArrayLike, length: int) -> F64:
        vector = np.asarray(values, np.float64)
        if sound(vector, length):
            return vector
        raise InvalidInput(f"{name} must be finite with shape ({length},), got {vector.tolist()}")
