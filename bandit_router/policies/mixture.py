"""Choose the policy online: several policies side by side, weighed by how well each has predicted."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.hybrid import HierarchicalLinTS
from bandit_router.policies.lints import LinTS
from bandit_router.policies.state import nested
from bandit_router.policies.thompson import GaussianThompson


class PolicyMixture(Policy):
    """Base of the mixtures of policies; a subclass names them in `bases`.

        p = sum_j w_j p_j,      w_j proportional to exp(-rate * sum_t (y_t - f_j(x_t, a_t))^2)

    with p_j the distribution of policy j, f_j its quality estimate of the arm that was played, cut to [0, 1], and y the
    quality that came. Every policy learns every outcome. Where the p_j are posterior win probabilities, p is Thompson
    sampling under the posterior over models: first a model, then its parameters.

    Args:
        n_arms, dim, channels: sizes, see `Policy`. The policies have their default settings.
        rate: of the weights, per squared unit of quality.

    Raises:
        InvalidInput: at the definition of a subclass, for bases that are named twice or keep no estimate.

    Why predictions and not rewards. CORRAL (Agarwal et al. 2017, arXiv 1612.06246) and Exp4 charge policy j with
    p_j(a) / p(a) times the loss, p_j at the prices, penalties and eligible arms of the decision. An outcome comes
    without these, and prices may have moved; the squared error of a quality needs none of them, has no importance
    weights, and stays right when a price changes.

    Bound. Squared error is (1/2)-exp-concave on [0, 1], so with a rate up to 1/2 the weighted average of the f_j has a
    total squared error of at most the best policy's plus log(number of policies) / rate, on every sequence (Kivinen &
    Warmuth 1999). That bounds predictions, not regret: a policy that predicts well and explores badly is not found
    out, and policies without a quality estimate cannot take part.
    """

    order_free: ClassVar[bool] = False
    has_estimates: ClassVar[bool] = True
    bases: ClassVar[tuple[type[Policy], ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if len(set(cls.bases)) < len(cls.bases) or not all(base.has_estimates for base in cls.bases):
            names = [base.__name__ for base in cls.bases]
            raise InvalidInput(f"bases must be different policies that estimate qualities, got {names}")
        cls.contextual = any(base.contextual for base in cls.bases)
        cls.reads_propensity = any(base.reads_propensity for base in cls.bases)
        cls.forms = {name: form for base in cls.bases for name, form in nested(f"{base.__name__}.", base.forms).items()}

    rate: float = setting(default=0.5, check=POSITIVE, unit="per squared utility")

    def _start(self) -> None:
        super()._start()
        sizes = {"n_arms": self.n_arms, "dim": self.dim, "channels": self.channels}
        self.policies = [base(**sizes) for base in self.bases]
        self.errors = np.zeros(len(self.bases))

    def weights(self) -> F64:
        """Share of the traffic that each policy decides, shape (policies,)."""
        return np.asarray(softmax(-self.rate * self.errors))

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        each = [policy._distribution(x, arms, prices, penalty) for policy in self.policies]
        return np.asarray(self.weights() @ each)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        guesses = [policy._estimate(x).mean[arm, 0] for policy in self.policies]
        self.errors += weight * (y[0] - np.clip(np.nan_to_num(guesses), 0.0, 1.0)) ** 2
        for policy in self.policies:
            policy.learn(x, arm, y, weight, propensity)

    def _estimate(self, x: F64) -> Estimate:
        each = [policy._estimate(x) for policy in self.policies]
        means = np.array([np.nan_to_num(one.mean) for one in each])
        mean = means.mean(axis=0)  # of the metered costs, which the weights know nothing of
        mean[:, 0] = self.weights() @ means[:, :, 0]
        return Estimate(mean, np.asarray(self.weights() @ [one.bonus for one in each]))

    def _add_arm(self, like: int | None, strength: float) -> None:
        for policy in self.policies:
            policy.add_arm(like=like, strength=strength)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        nested = {
            f"{type(policy).__name__}.{name}": array
            for policy in self.policies
            for name, array in policy.state().items()
        }
        return {**nested, "errors": self.errors}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.errors = arrays["errors"]
        for j, base in enumerate(self.bases):
            prefix = f"{base.__name__}."
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            self.policies[j] = base.from_state(own)


class MixtureThompson(PolicyMixture):
    """Thompson sampling that learns what the context is worth: to each arm apart, to all arms alike, or nothing.

    The policies are `LinTS`, `HierarchicalLinTS` and `GaussianThompson`.

    Args:
        n_arms, dim, channels, rate: see `PolicyMixture`.

    Example:
        >>> policy = MixtureThompson(n_arms=2, dim=2, rate=10.0)
        >>> for step in range(100):
        ...     policy.learn([1.0, step % 2], arm=step // 2 % 2, outcome=[float(step % 2)])
        >>> policy.weights().round(2).tolist()  # the quality follows the context, alike for both arms
        [0.0, 1.0, 0.0]
    """

    bases = (LinTS, HierarchicalLinTS, GaussianThompson)
