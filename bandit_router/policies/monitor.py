"""Silent changes: a detector on each arm's prediction errors, and less trust in what the changed arm had taught.

Only the arm concerned is touched: its estimate stays and the evidence for it shrinks, so its confidence interval widens
and the next outcomes count for more. A price change is no silent change: tell the budgets (`Budgets.reprice`).

Example:
    >>> from bandit_router import LinUCB
    >>> policy, monitor = LinUCB(n_arms=2, dim=1, floor=0.0), DriftMonitor()
    >>> for n in range(200):  # arm 0 earns 0.8 and 1.0 in turn, and from the 100th time on 0.4 less
    ...     outcome = 0.8 + 0.2 * (n % 2) - 0.4 * (n >= 100)
    ...     if monitor.observe(policy, [1.0], arm=0, quality=outcome):
    ...         print(f"change after {n - 99} outcomes")
    ...     policy.learn([1.0], arm=0, outcome=[outcome])
    change after 8 outcomes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit_router.arrays import F64
from bandit_router.declared import COUNT, NOT_NEGATIVE, POSITIVE, POSITIVE_SHARE, Declared, setting
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy


class DriftMonitor(Declared):
    """Two-sided CUSUM on standardised prediction errors, one for each arm.

        up = max(0, up + z - slack), down = max(0, down - z - slack), change when either exceeds `threshold`

    Args:
        threshold: in standard deviations of the error; higher is slower and raises fewer false alarms.
        slack: half the smallest shift worth finding, in the same unit.
        patience: outcomes of an arm before it is watched, and again after each change; its model needs them.
        keep: share of the arm's evidence that is kept at a change, in (0, 1].

    With the defaults a shift of 0.8 standard deviations is found after about 27 outcomes; for normal errors a false
    alarm comes about once in 10^4 outcomes. Skewed errors raise more; a false alarm costs some exploration of one arm.

    Source: Page 1954, "Continuous inspection schemes", Biometrika 41; the errors of a model that is still learning are
    not independent, which that theory assumes.
    """

    threshold: float = setting(default=15.0, check=POSITIVE, unit="deviations")
    slack: float = setting(default=0.25, check=NOT_NEGATIVE, unit="deviations")
    patience: int = setting(default=50, check=COUNT, unit="outcomes")
    keep: float = setting(default=0.02, check=POSITIVE_SHARE, unit="share of the evidence")

    def _start(self) -> None:
        self._sums = np.zeros((0, 4))  # by arm: outcomes since the last change, mean square error, up, down

    def observe(self, policy: Policy, context: ArrayLike, *, arm: int, quality: float) -> bool:
        """Compare an outcome with its prediction, before it is learned; on a change shrink the arm's evidence.

        Returns:
            Whether a change was found.
        """
        while arm >= len(self._sums):
            self._sums = np.vstack([self._sums, np.zeros(4)])
        error = quality - float(policy.estimate(context).mean[arm, 0])
        row = self._sums[arm]
        row[0] += 1.0
        row[1] += (error**2 - row[1]) / row[0]
        if row[0] <= self.patience or row[1] == 0.0:
            return False
        z = error / np.sqrt(row[1])
        row[2:] = np.maximum(0.0, row[2:] + np.array([z, -z]) - self.slack)
        if row[2:].max() <= self.threshold:
            return False
        row[:] = 0.0
        policy.widen(arm, self.keep)
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in self.declared}

    def fresh(self) -> DriftMonitor:
        """A monitor with the same settings that has seen nothing."""
        return type(self)(**self.settings)

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> DriftMonitor:
        """A monitor with the settings and sums of a saved one. Raises InvalidInput when it is no such state."""
        try:
            threshold, slack, patience, keep = (float(value) for value in state["settings"])
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(f"not a state of DriftMonitor: it has {', '.join(state) or 'nothing'}") from None
        monitor = cls(threshold=threshold, slack=slack, patience=int(patience), keep=keep)
        monitor.restore(state)
        return monitor

    def state(self) -> dict[str, NDArray[Any]]:
        """The settings, and the sums of every arm."""
        return {"settings": np.array(list(self.settings.values())), "sums": self._sums.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state. Raises InvalidInput when it is not one."""
        sums: F64 = np.asarray(state.get("sums", np.zeros(0)), dtype=np.float64)
        if sums.ndim != 2 or sums.shape[1] != 4 or not np.isfinite(sums).all():
            raise InvalidInput(f"state must hold finite sums of shape (arms, 4), got {sums.shape}")
        self._sums = sums.copy()
