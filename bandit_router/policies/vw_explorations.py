"""Vowpal Wabbit's explorations, one policy each."""

from __future__ import annotations

from typing import ClassVar

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import check_positive, check_share, mix
from bandit_router.policies.vw import Estimator, VWPolicy

_RESUMABLE = ["--adaptive", "--invariant"]


def _count(name: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{name} must be at least 1, got {value}")


class VWEpsilonGreedy(VWPolicy):
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        epsilon: float = 0.05,
        estimator: int = Estimator.MTR,
    ) -> None:
        check_share("epsilon", epsilon)
        self.epsilon, self.estimator = epsilon, Estimator(estimator)
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

    def _exploration(self) -> list[str]:
        return ["--epsilon", str(self.epsilon), *(_RESUMABLE if self.estimator is Estimator.DR else [])]


class VWSoftmax(VWPolicy):
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        inverse_temperature: float = 30.0,
        estimator: int = Estimator.MTR,
    ) -> None:
        check_positive("inverse_temperature", inverse_temperature)
        self.inverse_temperature, self.estimator = inverse_temperature, Estimator(estimator)
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

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

    mergeable: ClassVar[bool] = False

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        gamma_scale: float = 10.0,
    ) -> None:
        check_positive("gamma_scale", gamma_scale)
        self.gamma_scale = gamma_scale
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

    def _exploration(self) -> list[str]:
        return ["--squarecb", "--gamma_scale", str(self.gamma_scale)]


class VWBag(VWPolicy):
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        bags: int = 5,
        epsilon: float = 0.02,
        estimator: int = Estimator.MTR,
    ) -> None:
        check_share("epsilon", epsilon)
        _count("bags", bags)
        self.bags, self.epsilon, self.estimator = bags, epsilon, Estimator(estimator)
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

    def _exploration(self) -> list[str]:
        return ["--bag", str(self.bags), "--epsilon", str(self.epsilon), *_RESUMABLE]


class VWCover(VWPolicy):
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        policies: int = 4,
        epsilon: float = 0.02,
        estimator: int = Estimator.DR,
    ) -> None:
        check_share("epsilon", epsilon)
        _count("policies", policies)
        self.policies, self.epsilon, self.estimator = policies, epsilon, Estimator(estimator)
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

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

    mergeable: ClassVar[bool] = False

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        mellowness: float = 0.01,
        floor: float = 0.01,
    ) -> None:
        check_positive("mellowness", mellowness)
        check_share("floor", floor)
        self.mellowness, self.floor = mellowness, floor
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

    def _exploration(self) -> list[str]:
        words = ["--regcb", "--regcbopt", "--mellowness", str(self.mellowness)]
        return [*words, "--cb_min_cost", "-1", "--cb_max_cost", "1"]

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return mix(super()._distribution(x, arms, prices, penalty), self.floor)


class VWRND(VWPolicy):
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

    def __init__(
        self,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        learning_rate: float = 0.5,
        bits: int = 18,
        seed: int = 0,
        networks: int = 3,
        alpha: float = 0.1,
        epsilon: float = 0.02,
        estimator: int = Estimator.MTR,
    ) -> None:
        check_share("epsilon", epsilon)
        check_positive("alpha", alpha)
        _count("networks", networks)
        self.networks, self.alpha, self.epsilon = networks, alpha, epsilon
        self.estimator = Estimator(estimator)
        super().__init__(n_arms=n_arms, dim=dim, channels=channels, learning_rate=learning_rate, bits=bits, seed=seed)

    def _exploration(self) -> list[str]:
        words = ["--rnd", str(self.networks), "--rnd_alpha", str(self.alpha), "--epsilon", str(self.epsilon)]
        return words + _RESUMABLE

    def _offset(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64 | None:
        offset = super()._offset(x, arms, prices, penalty)
        if offset is not None:
            raise InvalidInput("VWRND cannot honour penalties or metered prices; use VWBag or VWSquareCB instead")
        return offset
