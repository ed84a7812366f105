"""Any River regressor or classifier as the value model of each arm, under our explorations.

River's own bandit policies are not wrapped. Their `pull` draws an arm and advances a random state, and none of them
can say with which probability it drew, so neither the propensity nor a retry can be exact. Exp3 divides by the
probabilities of its last pull, whatever decision an outcome belongs to. LinUCBDisjoint hands `burn_in` to its base
class in the place of `reward_scaler`: with burn_in=1 the first `update` raises AttributeError, with burn_in=0 its
bonus is one posterior standard deviation, whatever `alpha` (which is the prior). The policies here that answer to the
same names meet the laws: EpsilonGreedy, Exp3, UCB1, BetaThompson, LinUCB.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, SHARE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies import river_state
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.distributions import greedy, inverse_gap, softmax
from bandit_router.policies.state import Form


class RiverPolicy(Policy):
    """Base of the policies over River models: one model per arm and channel, priced at decision time.

    A subclass may override `model`, and has to say `allow_pickle = ("river",)` when a model cannot be saved as numbers
    (see `river_state`); the names are the packages whose classes a snapshot may then hold.

    Args:
        n_arms, dim, channels: sizes, see `Policy`. Features are named by their position, 0 to dim - 1.

    A classifier answers with its probability of True and learns whether the quality is at least one half. Where
    `learn_one` takes no `w`, a weight has to be a whole number and the outcome is learned as often. An added arm
    starts from a copy of the model of `like`; River's models have no number of prior observations, so `strength` is
    not used. A prediction that is not finite (a diverged model) counts as 0, which is what an untrained model says.

    Example:
        >>> class Forest(RiverSquareCB):
        ...     allow_pickle = ("river",)
        ...     def model(self, channel):
        ...         from river import forest
        ...         return forest.ARFRegressor(n_models=3, seed=channel)
        >>> Forest(n_arms=2, dim=1).probabilities([1.0]).tolist()
        [0.5, 0.5]
    """

    has_estimates: ClassVar[bool] = True
    forms: ClassVar[Mapping[str, Form]] = {"models": "variable"}
    allow_pickle: ClassVar[tuple[str, ...]] = ()

    def _start(self) -> None:
        super()._start()
        river_state.check_installed()
        from river import base, compose

        self.models = [self._models() for _ in range(self.n_arms)]
        last = [list(m.steps.values())[-1] if isinstance(m, compose.Pipeline) else m for m in self.models[0]]
        self._classifies = [isinstance(model, base.Classifier) for model in last]
        self._weighted = all("w" in inspect.signature(model.learn_one).parameters for model in last)

    def model(self, channel: int) -> Any:
        """A fresh model of one outcome channel; here a Bayesian linear regression, which needs no step size."""
        from river import linear_model

        return linear_model.BayesianLinearRegression()

    def _models(self) -> list[Any]:
        return [self.model(channel) for channel in range(self.channels)]

    def _explore(self, scores: F64) -> F64:
        """A distribution from the arms' utilities."""
        raise NotImplementedError

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        features, utility = dict(enumerate(x.tolist())), -penalty
        for channel, price in enumerate(prices.tolist()):
            if price:
                utility += price * self._predict(arms.tolist(), channel, features)
        return self._explore(utility)

    def _predict(self, arms: Iterable[int], channel: int, features: dict[int, float]) -> F64:
        models = [self.models[arm][channel] for arm in arms]
        if self._classifies[channel]:
            chances = [model.predict_proba_one(features) for model in models]
            return np.array([chance.get(True, 0.0) if chance else 0.5 for chance in chances])
        values = np.array([model.predict_one(features) for model in models], dtype=np.float64)
        return values if math.isfinite(values.sum()) else np.where(np.isfinite(values), values, 0.0)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        if not (self._weighted or weight.is_integer()):
            raise InvalidInput(f"these River models take no weights, so weight must be a whole number, got {weight}")
        features = dict(enumerate(x.tolist()))
        extra, times = ({"w": weight}, 1) if self._weighted and weight != 1.0 else ({}, int(weight))
        for model, classifies, value in zip(self.models[arm], self._classifies, y.tolist(), strict=True):
            if math.isnan(value):
                continue
            for _ in range(times):
                model.learn_one(features, value >= 0.5 if classifies else value, **extra)

    def _estimate(self, x: F64) -> Estimate:
        features = dict(enumerate(x.tolist()))
        means = [self._predict(range(self.n_arms), channel, features) for channel in range(self.channels)]
        return Estimate(np.stack(means, axis=1), np.zeros(self.n_arms))

    def _add_arm(self, like: int | None, strength: float) -> None:
        if like is None:
            self.models.append(self._models())
        else:
            self.models.append([model.clone(include_attributes=True) for model in self.models[like]])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        self._estimate(np.zeros(self.dim))  # some models finish learning when first asked: let that precede the save
        flat = [model for models in self.models for model in models]
        return {"models": river_state.save(flat, self._fresh, self.allow_pickle)}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        flat = river_state.load(arrays["models"], self._fresh, self.allow_pickle)
        if len(flat) != len(self.models) * self.channels:
            raise InvalidInput(f"expected {len(self.models) * self.channels} River models, got {len(flat)}")
        self.models = [flat[i : i + self.channels] for i in range(0, len(flat), self.channels)]

    def _fresh(self) -> list[Any]:
        return [model for _ in self.models for model in self._models()]


class RiverEpsilonGreedy(RiverPolicy):
    """Play the arm whose River model predicts most; with probability epsilon any eligible arm.

    Args:
        n_arms, dim, channels: see `RiverPolicy`.
        epsilon: exploration share.

    Example:
        >>> policy = RiverEpsilonGreedy(n_arms=2, dim=1, epsilon=0.2)
        >>> policy.learn([1.0], arm=1, outcome=[1.0])
        >>> policy.probabilities([1.0]).tolist()
        [0.1, 0.9]
    """

    epsilon: float = setting(default=0.05, check=SHARE, unit="share of the traffic")

    def _explore(self, scores: F64) -> F64:
        return greedy(scores, self.epsilon)


class RiverSoftmax(RiverPolicy):
    """Play arms in proportion to exp(utility / temperature), utilities from River models.

    Args:
        n_arms, dim, channels: see `RiverPolicy`.
        temperature: in utility units; small is greedy, large is uniform.

    Example:
        >>> RiverSoftmax(n_arms=4, dim=1).probabilities([1.0]).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    temperature: float = setting(default=0.02, check=POSITIVE, unit="utility")

    def _explore(self, scores: F64) -> F64:
        return softmax(scores, self.temperature)


class RiverSquareCB(RiverPolicy):
    """Play every arm with probability inverse to its estimated gap, estimates from River models.

    Args:
        n_arms, dim, channels: see `RiverPolicy`.
        rate: gamma_t = rate * sqrt(1 + t), per unit of utility; larger explores less.

    Source: Foster & Rakhlin 2020 (arXiv 2002.04926), Algorithm 1, made for any online regression; the schedule sqrt(t)
    is that of a finite-dimensional one.

    Example:
        >>> policy = RiverSquareCB(n_arms=2, dim=1, rate=10.0)
        >>> for _ in range(50):
        ...     policy.learn([1.0], arm=0, outcome=[1.0])
        >>> bool(policy.probabilities([1.0])[0] > 0.8)
        True
    """

    rate: float = setting(default=20.0, check=POSITIVE, unit="per unit of utility")

    def _explore(self, scores: F64) -> F64:
        return inverse_gap(scores, self.rate * (1.0 + self.steps) ** 0.5)
