"""Restart a policy when River sees that its predictions have stopped holding."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, setting
from bandit_router.policies import river_state
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.lints import LinTS
from bandit_router.policies.linucb import LinUCB
from bandit_router.policies.state import nested

WARM_UP = 10  # errors from which an arm's deviation is taken


class DriftPolicy(Policy):
    """Base of the policies that restart another one on detected drift; a subclass names it in `inner`.

        e_t = (y_t - mean_a(x_t) - m_a) / s_a     one stream per arm a, quality only; m_a, s_a of its errors so far
        when the detector of any arm fires:       begin again with a fresh policy

    Every arm is forgotten, because after a change of ranking the arm that has become best is one that is rarely played,
    and whose own stream therefore stays silent.

    Args:
        n_arms, dim, channels: sizes, see `Policy`.
        threshold: of the Page-Hinkley test, in standard deviations of the error summed over outcomes.
        tolerance: mean shift of the error that is not drift, in its standard deviations.
        others: those of the wrapped policy.

    Where the wrapped policy keeps no estimate, the quality itself is watched. Override `detector` for
    another of River's detectors; those in compiled code (ADWIN) need `allow_pickle = ("river",)` to be saved.

    Source: Page 1954; Hinkley 1971. Restarting all arms on one detection is the global restart of Besson et al. 2022
    (arXiv 1902.01575), whose regret bound also needs forced exploration of every arm.

    Example:
        >>> class DriftSoftmax(DriftPolicy):
        ...     from bandit_router.policies.softmax import Softmax as inner
        >>> DriftSoftmax(n_arms=2, dim=1, temperature=0.1).probabilities([1.0]).tolist()
        [0.5, 0.5]
    """

    inner: ClassVar[type[Policy]]
    allow_pickle: ClassVar[tuple[str, ...]] = ()

    threshold: float = setting(default=20.0, check=POSITIVE, unit="deviations, summed")
    tolerance: float = setting(default=0.25, check=POSITIVE, unit="deviations")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        inner = cls.inner
        cls._declare({**inner.declared, **cls.declared})
        cls.contextual, cls.order_free = inner.contextual, False
        cls.has_estimates, cls.reads_propensity = inner.has_estimates, inner.reads_propensity
        cls.forms = {"detectors": "variable", **nested("inner.", inner.forms)}

    def _start(self) -> None:
        super()._start()
        self.policy = self._fresh_policy()
        self.restarts = 0
        self._watch()

    def detector(self) -> Any:
        """A fresh River detector for one arm's standardised errors."""
        river_state.check_installed()
        from river import drift

        return drift.PageHinkley(min_instances=1, delta=self.tolerance, threshold=self.threshold, alpha=1.0)

    def _fresh_policy(self) -> Policy:
        return self.inner(**{name: getattr(self, name) for name in self.inner.declared})

    def _watch(self) -> None:
        """Begin to watch all arms anew."""
        self._detectors = [self.detector() for _ in range(self.n_arms)]
        self._errors = np.zeros((self.n_arms, 3))  # count, mean, sum of squared deviations (Welford)

    # -- the two verbs ------------------------------------------------------------------------------------------

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        return self.policy._distribution(x, arms, prices, penalty)

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        expected = self.policy.estimate(x).mean[arm, 0]
        self.policy.learn(x, arm, y, weight, propensity)
        if self._has_drifted(arm, y[0] - (0.0 if np.isnan(expected) else expected)):
            self._restart()

    def _has_drifted(self, arm: int, error: float) -> bool:
        count, mean, squares = self._errors[arm]
        if count >= WARM_UP and squares > 0:
            self._detectors[arm].update(float((error - mean) / np.sqrt(squares / (count - 1))))
        step = error - mean
        mean += step / (count + 1)
        self._errors[arm] = count + 1, mean, squares + step * (error - mean)
        return bool(self._detectors[arm].drift_detected)

    def _restart(self) -> None:
        self.restarts += 1
        self.policy = self._fresh_policy()
        self._watch()

    def _estimate(self, x: F64) -> Estimate:
        return self.policy.estimate(x)

    # -- arms and state -----------------------------------------------------------------------------------------

    def _add_arm(self, like: int | None, strength: float) -> None:
        self.policy.add_arm(like=like, strength=strength)
        self._detectors.append(self.detector())
        self._errors = np.vstack([self._errors, np.zeros(3)])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **{f"inner.{name}": array for name, array in self.policy.state().items()},
            "detectors": river_state.save(self._detectors, self._fresh, self.allow_pickle),
            "errors": self._errors,
            "restarts": np.array(self.restarts),
        }

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        inner = {name.removeprefix("inner."): array for name, array in arrays.items() if name.startswith("inner.")}
        self.policy = self.inner.from_state(inner)
        self._detectors = river_state.load(arrays["detectors"], self._fresh, self.allow_pickle)
        self._errors, self.restarts = arrays["errors"], int(arrays["restarts"])

    def _fresh(self) -> list[Any]:
        return [self.detector() for _ in self._errors]


class DriftLinUCB(DriftPolicy):
    """LinUCB, restarted on drift; takes the settings of both.

    Example:
        >>> policy = DriftLinUCB(n_arms=2, dim=1, alpha=0.1, floor=0.1)
        >>> for step in range(200):
        ...     for arm in (0, 1):
        ...         policy.learn([1.0], arm, [0.1 * (step % 3) + 0.6 * (arm == (step >= 100))])
        >>> policy.restarts, policy.probabilities([1.0]).round(6).tolist()
        (1, [0.05, 0.95])
    """

    inner = LinUCB

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


class DriftLinTS(DriftPolicy):
    """LinTS, restarted on drift; takes the settings of both.

    Example:
        >>> DriftLinTS(n_arms=2, dim=1, noise=0.1).probabilities([1.0]).round(6).tolist()
        [0.5, 0.5]
    """

    inner = LinTS

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
