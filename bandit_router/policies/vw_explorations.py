"""Vowpal Wabbit's explorations, one policy each."""

from __future__ import annotations

from typing import ClassVar

from bandit_router.arrays import F64, Index
from bandit_router.declared import COUNT, POSITIVE, SHARE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Merges
from bandit_router.policies.distributions import mix
from bandit_router.policies.vw import Estimator, VWPolicy

_RESUMABLE = ["--adaptive", "--invariant"]


class EstimatingVW(VWPolicy):
    """Base of the explorations that leave the way of learning open.

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        estimator: see `Estimator`; its name or number.
    """

    estimator: Estimator = setting(default=Estimator.MTR)

    def _estimator(self) -> Estimator:
        return self.estimator


class VWEpsilonGreedy(EstimatingVW):
    """Play VW's cheapest arm, with probability epsilon any arm (`--epsilon`).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        epsilon: exploration share.
        estimator: see `Estimator`.

    Source: Langford & Zhang 2007 (epoch-greedy) as in Bietti et al. 2021 (arXiv 1802.04064), Algorithm 3.

    Example:
        >>> policy = VWEpsilonGreedy(n_arms=2, dim=1, epsilon=0.2)
        >>> policy.learn([1.0], arm=1, outcome=[1.0], propensity=0.5)
        >>> policy.probabilities([1.0]).round(6).tolist()
        [0.1, 0.9]
    """

    epsilon: float = setting(default=0.05, check=SHARE, unit="share of the traffic")

    def _exploration(self) -> list[str]:
        return ["--epsilon", str(self.epsilon), *(_RESUMABLE if self.estimator is Estimator.DR else [])]


class VWSoftmax(EstimatingVW):
    """Play arms in proportion to exp(-inverse_temperature * cost) (`--softmax --lambda`).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        inverse_temperature: per unit of quality; large is greedy. Priced channels and penalties count in the same unit.
        estimator: see `Estimator`.

    Source: Boltzmann exploration, see `Softmax`; VW's `cb_explore_adf_softmax`.

    Example:
        >>> policy = VWSoftmax(n_arms=2, dim=1, inverse_temperature=2.0)
        >>> policy.probabilities([1.0], penalty=[0.5, 0.0]).round(4).tolist()  # 1 / (1 + e)
        [0.2689, 0.7311]
    """

    inverse_temperature: float = setting(default=30.0, check=POSITIVE, unit="per unit of quality")

    def _exploration(self) -> list[str]:
        words = ["--softmax", "--lambda", str(self.inverse_temperature)]
        return words + (_RESUMABLE if self.estimator is Estimator.DR else [])


class VWSquareCB(VWPolicy):
    """Play every arm with probability inverse to its estimated gap (`--squarecb`; MTR learning only).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        gamma_scale: VW's `--gamma_scale`; gamma_t = gamma_scale * t^0.5, larger explores less.

    Source: Foster & Rakhlin 2020 (arXiv 2002.04926), Algorithm 1. VW's deltas leave t out, so it cannot be merged.

    Example:
        >>> policy = VWSquareCB(n_arms=2, dim=1)
        >>> policy.learn([1.0], arm=0, outcome=[1.0], propensity=0.5)
        >>> bool(policy.probabilities([1.0])[0] > 0.5)
        True
    """

    merges: ClassVar[Merges] = None

    gamma_scale: float = setting(default=10.0, check=POSITIVE)

    def _exploration(self) -> list[str]:
        return ["--squarecb", "--gamma_scale", str(self.gamma_scale)]


class VWBag(EstimatingVW):
    """Train several models on resampled outcomes, play what a random one finds cheapest (`--bag`).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        bags: number of models.
        epsilon: exploration share on top.
        estimator: see `Estimator`.

    Source: online bagging (Oza & Russell 2001) as bootstrapped Thompson sampling, Bietti et al. 2021, Algorithm 4.

    Example:
        >>> VWBag(n_arms=2, dim=1, bags=4, epsilon=0.1).probabilities([1.0]).sum().round(9).item()
        1.0
    """

    bags: int = setting(default=5, check=COUNT, unit="models")
    epsilon: float = setting(default=0.02, check=SHARE, unit="share of the traffic")

    def _exploration(self) -> list[str]:
        return ["--bag", str(self.bags), "--epsilon", str(self.epsilon), *_RESUMABLE]


class VWCover(EstimatingVW):
    """Keep a small set of policies whose mixture covers the plausible ones, play the mixture (`--cover`).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        policies: size of the set.
        epsilon: exploration share on top; VW anneals it with the number of outcomes.
        estimator: see `Estimator`; VW uses MTR for the first policy of the set alone.

    Source: Agarwal et al. 2014 (arXiv 1402.0555), the online cover of their section 6.

    Example:
        >>> VWCover(n_arms=2, dim=1, policies=3).probabilities([1.0]).sum().round(9).item()
        1.0
    """

    policies: int = setting(default=4, check=COUNT, unit="policies")
    epsilon: float = setting(default=0.02, check=SHARE, unit="share of the traffic")
    estimator: Estimator = setting(default=Estimator.DR)

    def _exploration(self) -> list[str]:
        return ["--cover", str(self.policies), "--epsilon", str(self.epsilon), *_RESUMABLE]


class VWRegCB(VWPolicy):
    """Play the arm whose plausible cost is lowest (`--regcb --regcbopt`; MTR learning only).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        mellowness: VW's `--mellowness`, the width of the plausible range; larger explores more.
        floor: share spread evenly over the eligible arms, mixed into VW's distribution, which has none.

    Plausible costs are clipped to [-1, 1]: qualities are taken to lie in [0, 1], and of penalties and priced channels
    what exceeds one unit of quality counts as one.

    Source: Foster et al. 2018 (arXiv 1803.01088), RegCB.Opt. VW's deltas leave its counter out, so it cannot be merged.

    Example:
        >>> VWRegCB(n_arms=2, dim=1).probabilities([1.0]).tolist()
        [0.5, 0.5]
    """

    merges: ClassVar[Merges] = None

    mellowness: float = setting(default=0.01, check=POSITIVE)
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _exploration(self) -> list[str]:
        words = ["--regcb", "--regcbopt", "--mellowness", str(self.mellowness)]
        return [*words, "--cb_min_cost", "-1", "--cb_max_cost", "1"]

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return mix(super()._distribution(x, arms, prices, penalty), self.floor)


class VWRND(EstimatingVW):
    """Explore where small random networks are still badly predicted (`--rnd`).

    Args:
        n_arms, dim, channels, learning_rate, bits, seed: see `VWPolicy`.
        networks: number of random targets.
        alpha: VW's `--rnd_alpha`, the width of the bonus.
        epsilon: exploration share on top.
        estimator: see `Estimator`.

    Penalties and prices of metered channels are refused: VW computes the bonus from every feature of an arm, so a known
    cost cannot be added to a prediction without changing it. That is also why this policy is not in the registry.

    Source: Burda et al. 2018 (arXiv 1810.12894); VW's `cb_explore_adf_rnd` gives no regret bound.

    Example:
        >>> VWRND(n_arms=2, dim=1).probabilities([1.0]).sum().round(9).item()
        1.0
    """

    networks: int = setting(default=3, check=COUNT, unit="networks")
    alpha: float = setting(default=0.1, check=POSITIVE)
    epsilon: float = setting(default=0.02, check=SHARE, unit="share of the traffic")

    def _exploration(self) -> list[str]:
        words = ["--rnd", str(self.networks), "--rnd_alpha", str(self.alpha), "--epsilon", str(self.epsilon)]
        return words + _RESUMABLE

    def _offset(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64 | None:
        offset = super()._offset(x, arms, prices, penalty)
        if offset is not None:
            raise InvalidInput("VWRND cannot honour penalties or metered prices; use VWBag or VWSquareCB instead")
        return offset
