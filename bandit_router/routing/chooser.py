"""One choice: from a context to an arm, under the rollout's rules, with the exact probability of what was drawn."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.policies.distributions import draw
from bandit_router.policies.native import sound
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
            return self._baseline(eligible, None, "off" if mode == "online" else mode)
        try:
            p = self._distribution(x, mask, penalty)
            index = draw(p, self.uniform(event_id))
            propensity: float = p.item(index)
            if not 0 < propensity <= 1 + 1e-9:
                raise FloatingPointError(f"propensity {propensity} of arm {index}")
            if mode == "online" and (self.record is None or self._trusted(self.record, p, x, eligible)):
                return Choice(index, min(propensity, 1.0), p, mode)
        except Exception as error:
            if mask is not None and not mask.any():
                raise  # the request's fault: no arm at all
            choice = self.degraded(x, eligible)  # raises where the context cannot be used
            name, at = type(self.learner.policy).__name__, traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {at.filename}:{at.lineno}"  # its text may have the context in it
            _log.error("policy %s failed (%s); serving the baseline", name, what)
            return choice
        mode = "guarded" if mode == "online" else mode
        return self._baseline(eligible, p, mode, proposed=index)

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
        """The declared baseline, or where it may not serve the first eligible arm, if it can be one that may be chosen.

        What may be chosen is what the rollout allows and does not cap at 0.
        """
        catalogue = self.learner.catalogue
        allowed = catalogue.active() if eligible is None else eligible
        if self.rollout.baseline is not None:
            index = catalogue.index(self.rollout.baseline)
            if allowed[index]:
                return index
        if not allowed.any():
            raise InvalidInput("no arm is eligible; resume one or widen the allow-list")
        chosen = self._choosable(allowed)
        return int(np.flatnonzero(chosen if chosen.any() else allowed)[0])

    def _choosable(self, allowed: Bool) -> Bool:
        if not self._bounded:
            return allowed
        mask = self.rollout.mask(self.learner.catalogue, allowed)
        capped = [self.learner.catalogue.index(arm) for arm, cap in self.rollout.caps.items() if cap == 0]
        chosen = allowed.copy() if mask is None else mask.copy()
        chosen[capped] = False
        return chosen

    def _baseline(self, eligible: Bool | None, p: F64 | None, mode: Mode, proposed: int | None = None) -> Choice:
        """The baseline by the rollout's word; degraded where it may not serve, a budget refusing it for instance."""
        index = self.baseline_index(eligible)
        stands_in = self.learner.catalogue[index].id != self.rollout.baseline
        return Choice(index, 1.0, p, mode, proposed=proposed, degraded=stands_in)

    def _check(self, x: F64) -> None:
        dim = self.learner.policy.dim
        if not sound(x, dim):
            raise InvalidInput(
                f"context must be finite, small enough to square, and of shape ({dim},), got shape {x.shape}; clean "
                "NaN and infinity, and scale the features to about 1 before deciding"
            )

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
