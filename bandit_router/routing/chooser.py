"""One choice: from a context to an arm, under the rollout's rules, with the exact probability of what was drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import draw
from bandit_router.records.decisions import Mode, event_uniform
from bandit_router.routing.exploration import plausible, spread
from bandit_router.routing.guard import GuardRecord
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner

_log = logging.getLogger(__name__)


class Choice(NamedTuple):
    """What was chosen; the fields are those of `Decision`, arms by index."""

    arm: int
    propensity: float
    probabilities: F64 | None
    mode: Mode
    proposed: int | None = None
    degraded: bool = False


class Chooser:
    """Asks the policy, applies the rollout and the guard, and draws. Called under the learner's lock.

    Args:
        learner: policy, catalogue and prices. key: of the keyed draw. rollout: what the policy may decide.

    Attributes:
        record: what the guard has saved up, None without one.
        uniform: the number in [0, 1) that an event's arm is drawn with; by default it depends on key and event id
            alone. Simulations put their own stream here, so that every policy has the same luck.
    """

    def __init__(self, *, learner: Learner, key: bytes, rollout: Rollout) -> None:
        event_uniform(key, "")
        self.learner, self.key = learner, key
        self.uniform: Callable[[str], float] = partial(event_uniform, key)
        self.record: GuardRecord | None = None
        self.use(rollout)

    def use(self, rollout: Rollout) -> None:
        """Decide by another rollout from now on. Raises InvalidInput, before any change, when it cannot be used."""
        rollout.check(self.learner.catalogue)
        guard = rollout.guard
        if guard is not None and not self.learner.policy.has_estimates:
            raise InvalidInput("a guard needs a policy that estimates utilities, for instance LinUCB")
        if self.record is None or self.record.guard != guard:
            self.record = None if guard is None else GuardRecord(guard)
        self.rollout, self._bounded = rollout, rollout.allowed is not None or bool(rollout.floors or rollout.caps)

    def choose(self, x: F64, event_id: str, unit: str, eligible: Bool | None, penalty: F64 | None) -> Choice:
        """Choose an arm.

        Raises:
            InvalidInput: unusable arguments. A failure of the policy is not raised: the choice is degraded.
        """
        rollout = self.rollout
        mode: Mode = "holdout" if rollout.holdout and rollout.holds_out(unit, self.key) else rollout.mode
        mask = rollout.mask(self.learner.catalogue, eligible) if self._bounded else eligible
        if mode == "off" or (self._bounded and self._stands_aside(mode, mask, eligible)):
            self._check(x)
            return Choice(self.baseline_index(eligible), 1.0, None, "off" if mode == "online" else mode)
        try:
            p = self._distribution(x, mask, penalty)
            index = draw(p, self.uniform(event_id))
            propensity: float = p.item(index)
            if not 0 < propensity <= 1 + 1e-9:
                raise FloatingPointError(f"propensity {propensity} of arm {index}")
            if mode == "online" and (self.record is None or self._trusted(self.record, p, x, eligible)):
                return Choice(index, min(propensity, 1.0), p, mode)
        except InvalidInput:
            raise
        except Exception:
            _log.exception("policy %s failed; serving the baseline", type(self.learner.policy).__name__)
            return self.degraded(x, eligible)
        mode = "guarded" if mode == "online" else mode
        return Choice(self.baseline_index(eligible), 1.0, p, mode, proposed=index)

    def servable(self, eligible: Bool | None) -> Bool | None:
        """The eligible arms that may come to serve, which budgets must be able to pay for; None for all."""
        rollout = self.rollout
        if rollout.mode != "online":
            return eligible
        serving = () if rollout.baseline is None else (rollout.baseline,)
        return rollout.mask(self.learner.catalogue, eligible, *serving)

    def degraded(self, x: F64, eligible: Bool | None) -> Choice:
        """The baseline, because nothing better can be had. Raises InvalidInput for an unusable context."""
        self._check(x)
        return Choice(self.baseline_index(eligible), 1.0, None, self.rollout.mode, degraded=True)

    def baseline_index(self, eligible: Bool | None) -> int:
        """The baseline arm, or the first eligible one where it may not serve."""
        catalogue = self.learner.catalogue
        allowed = catalogue.active() if eligible is None else eligible
        if self.rollout.baseline is not None:
            index = catalogue.index(self.rollout.baseline)
            if allowed[index]:
                return index
        if not allowed.any():
            raise InvalidInput("no arm is eligible; resume one or widen the allow-list")
        return int(np.flatnonzero(allowed)[0])

    def _check(self, x: F64) -> None:
        dim = self.learner.policy.dim
        if x.shape != (dim,) or not np.isfinite(x).all():
            raise InvalidInput(f"context must be finite with shape ({dim},), got shape {x.shape}")

    def _stands_aside(self, mode: Mode, mask: Bool | None, eligible: Bool | None) -> bool:
        """Whether the policy may choose no arm, and the baseline serves; online only an eligible, declared one does."""
        if mask is None or mask.any():
            return False
        return mode != "online" or self.learner.catalogue[self.baseline_index(eligible)].id == self.rollout.baseline

    def _distribution(self, x: F64, mask: Bool | None, penalty: F64 | None) -> F64:
        learner, share = self.learner, self.rollout.explore_share
        p = learner.policy.probabilities(x, mask, learner.weights, penalty)
        if share:
            likely = plausible(learner.policy.estimate(x), learner.weights, penalty, mask)
            p = spread(p, share, likely, mask)
        return self.rollout.bound(p, mask, learner.catalogue) if self._bounded else p

    def _trusted(self, record: GuardRecord, p: F64, x: F64, eligible: Bool | None) -> bool:
        learner, baseline = self.learner, self.baseline_index(eligible)
        return record.allows(p, learner.policy.estimate(x), learner.weights, baseline=baseline)
