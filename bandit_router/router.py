"""The engine a serving loop embeds: `decide` before the call, `observe` after it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arms import Arm, Catalogue
from bandit_router.budgets import Budgets
from bandit_router.events import REFUSALS, Decision, Refusal, Settlement, event_uniform
from bandit_router.explain import Explanation, explain
from bandit_router.outcomes import CHANNELS, Outcome, Utility
from bandit_router.policies import DEFAULT_POLICY, policy_class
from bandit_router.policies.base import F64, InvalidInput, Policy
from bandit_router.policies.distributions import draw

_log = logging.getLogger(__name__)


class _Event:
    """A decision and whether it has been settled."""

    __slots__ = ("decision", "settled")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.settled = False


class Router:
    """Decides which arm serves a request and learns from what comes back. Thread-safe.

    Args:
        arms: what can be served, in a fixed order.
        dim: length of the context vector.
        policy: name of a policy, or a policy with n_arms = len(arms), this dim and one channel per `channels`.
        settings: constructor arguments of a named policy, for instance {"alpha": 0.1}.
        utility: prices and reference scales; default quality alone.
        channels: outcome channels that are learned. All of them by default, so that a price set later takes effect
            without relearning.
        key: secret of the keyed draw, at most 64 bytes. Give every replica the same one: a retried event then draws
            the same number everywhere. Default: random for this process.
        window_s: seconds after which an outcome is refused as late.
        fallback: id of the arm served when the policy fails; default the first active arm.
        budgets: limits on what is spent, see `Budgets`; they settle on every outcome, learned from or refused.
        max_events: decisions remembered; the oldest is forgotten beyond that, and counted if it was unsettled.
        clock: seconds, for timestamps and the window.

    Example:
        >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], dim=1, key=b"secret")
        >>> decision = router.decide([1.0], event_id="r-1")
        >>> router.observe("r-1", Outcome(quality=0.9)).reward
        0.9
    """

    def __init__(
        self,
        *,
        arms: Sequence[Arm],
        dim: int,
        policy: str | Policy = DEFAULT_POLICY,
        settings: Mapping[str, Any] | None = None,
        utility: Utility | None = None,
        channels: Sequence[str] = CHANNELS,
        key: bytes | None = None,
        window_s: float = 3600.0,
        fallback: str | None = None,
        budgets: Budgets | None = None,
        max_events: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalogue = Catalogue(arms)
        self.channels = tuple(channels)
        unknown = [name for name in self.channels if name not in CHANNELS]
        if self.channels[:1] != ("quality",) or unknown:
            raise InvalidInput(f"channels must be quality first, then any of {CHANNELS[1:]}, got {self.channels}")
        if max_events < 1 or not window_s > 0:
            raise InvalidInput(f"max_events and window_s must be above 0, got {max_events} and {window_s}")
        self.policy = self._build(policy, dim, settings)
        self.utility = Utility() if utility is None else utility
        self._weights = self.utility.weights(self.channels)
        self._metered = np.zeros(len(self.channels), dtype=np.int64)
        self.key = secrets.token_bytes(32) if key is None else key
        event_uniform(self.key, "")  # refuses an unusable key here rather than in the first decision
        self.window_s, self.max_events, self.clock = window_s, max_events, clock
        self.fallback, self.budgets = fallback, budgets
        if fallback is not None:
            self.catalogue.index(fallback)
        self.counters: dict[str, int] = dict.fromkeys(("decided", "settled", "degraded_decisions", "forgotten"), 0)
        self.counters.update({f"refused_{reason}": 0 for reason in REFUSALS})
        self._events: OrderedDict[str, _Event] = OrderedDict()
        self._lock = threading.RLock()

    def _build(self, policy: str | Policy, dim: int, settings: Mapping[str, Any] | None) -> Policy:
        sizes = {"n_arms": len(self.catalogue), "dim": dim, "channels": len(self.channels)}
        if isinstance(policy, str):
            return policy_class(policy)(**sizes, **(settings or {}))
        got = {name: getattr(policy, name) for name in sizes}
        if got != sizes:
            raise InvalidInput(f"the policy must have {sizes}, got {got}")
        return policy

    # -- the two verbs ---------------------------------------------------------------------------------------

    def decide(
        self,
        context: ArrayLike,
        *,
        event_id: str,
        eligible: Iterable[str] | None = None,
        penalty: Mapping[str, float] | None = None,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
    ) -> Decision:
        """Draw the arm that serves this request. The same event id always gets the same decision back.

        Args:
            context: feature vector, shape (dim,), finite.
            event_id: the caller's id of the request; it also fixes the random number of the draw.
            eligible: ids of the arms allowed for this request; default all active ones.
            penalty: known cost of an arm at this decision, in utility units, by arm id.
            tenant: whose request it is, for budgets. bounds: by arm id, the most it can take, for hard budgets.

        Raises:
            BudgetExhausted: no eligible arm can be paid for under a hard budget.
            InvalidInput: unusable arguments, before any state changes. A failure of the policy itself is not raised:
                the fallback arm is served and the decision is marked degraded.
        """
        with self._lock:
            known = self._events.get(event_id)
            if known is not None:
                return known.decision
            mask = self.catalogue.mask(eligible)
            cost = None if penalty is None else self._penalties(penalty)
            request: dict[str, Any] = {"now_s": self.clock(), "tenant": tenant, "bounds": bounds}
            if self.budgets is not None:
                terms = self.budgets.terms(arms=self.catalogue.ids, eligible=mask, penalty=cost, **request)
                mask, cost = terms.eligible, terms.penalty
            decision = self._draw(_numbers(context), event_id, mask, cost)
            if self.budgets is not None:
                self.budgets.reserve(event_id, decision.arm, **request)
            self._remember(decision)
            return decision

    def observe(self, event_id: str, outcome: Outcome) -> Settlement:
        """Account one outcome to its decision, once. Never raises for bad data: it is refused, counted and returned.

        Refusals: unknown event, duplicate, late (past `window_s`), invalid (NaN or infinite), out_of_range (negative,
        or a quality outside [0, 1]), unmetered (a channel that has a price is missing), degraded (the policy did not
        choose this arm). A refused outcome changes nothing, so a corrected one can still be reported.
        """
        with self._lock:
            if self.budgets is not None:
                self.budgets.settle(event_id, outcome)
            event = self._events.get(event_id)
            reason = self._refusal(event, outcome)
            if event is None or reason is not None:
                return self._refuse(event_id, event, outcome, reason or "unknown")
            decision = event.decision
            y = outcome.vector(self.channels)
            self.policy.learn(decision.context, decision.arm_index, y, propensity=decision.propensity)
            self._metered += ~np.isnan(y)
            event.settled = True
            self.counters["settled"] += 1
            return Settlement(
                event_id=event_id,
                arm=decision.arm,
                reward=self.utility.value(outcome),
                refused=None,
                outcome=outcome,
            )

    # -- operations ------------------------------------------------------------------------------------------

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """Change prices; the next decision uses them, nothing is relearned.

        Raises:
            InvalidInput: the price is on a channel that no outcome so far has metered.
        """
        with self._lock:
            utility = self.utility.with_prices(prices)
            for name, seen in zip(self.channels, self._metered, strict=True):
                if utility.priced(name) and self.counters["settled"] and not seen:
                    raise InvalidInput(f"{name} was never metered, so every arm would look free; report it first")
            self._weights = utility.weights(self.channels)
            self.utility = utility

    def add_arm(self, arm: Arm, *, like: str | None = None, strength: float = 1.0) -> None:
        """Add an arm, usable at once; `like` starts it at another arm's estimate, see `Policy.add_arm`."""
        with self._lock:
            index = None if like is None else self.catalogue.index(like)
            if arm.id in self.catalogue.ids:
                raise InvalidInput(f"arm {arm.id!r} is in the catalogue already; give the new one another id")
            self.policy.add_arm(like=index, strength=strength)
            self.catalogue.add(arm)

    def pause(self, arm_id: str) -> None:
        """Take an arm out of the draw until `resume`."""
        with self._lock:
            self.catalogue.pause(arm_id)

    def resume(self, arm_id: str) -> None:
        """Put a paused arm back into the draw."""
        with self._lock:
            self.catalogue.resume(arm_id)

    def retire(self, arm_id: str) -> None:
        """Take an arm out of the draw for good; an outcome still under way is accounted to it."""
        with self._lock:
            self.catalogue.retire(arm_id)

    def explain(self, decision: Decision) -> Explanation:
        """Every arm's mean, bonus, priced channels, penalty and propensity for this decision.

        Means and bonuses are the policy's beliefs now; they are those of the decision while
        `Explanation.state_version == decision.state_version`.
        """
        with self._lock:
            return explain(decision, self.catalogue.ids, self.policy, self.channels, self._weights)

    # -- inside ----------------------------------------------------------------------------------------------

    def _draw(self, x: F64, event_id: str, mask: Any, cost: F64 | None) -> Decision:
        degraded = False
        p: F64 | None = None
        uniform = event_uniform(self.key, event_id)
        try:
            p = self.policy.probabilities(x, mask, self._weights, cost)
            index = draw(p, uniform)
            propensity = float(p[index])
            if not 0 < propensity <= 1 + 1e-9:
                raise FloatingPointError(f"propensity {propensity} of arm {index}")
        except InvalidInput:
            raise
        except Exception:
            _log.exception("policy %s failed; serving the fallback arm", type(self.policy).__name__)
            degraded, p, propensity = True, None, 1.0
            index = self._fallback_index(mask)
        return Decision(
            event_id=event_id,
            arm=self.catalogue[index].id,
            arm_index=index,
            propensity=min(propensity, 1.0),
            probabilities=p,
            context=x,
            eligible=mask,
            penalty=cost,
            timestamp_s=self.clock(),
            policy=type(self.policy).__name__,
            state_version=self.policy.steps,
            degraded=degraded,
        )

    def _fallback_index(self, mask: Any) -> int:
        allowed = self.catalogue.active() if mask is None else mask
        if self.fallback is not None:
            index = self.catalogue.index(self.fallback)
            if allowed[index]:
                return index
        return int(np.flatnonzero(allowed)[0])

    def _remember(self, decision: Decision) -> None:
        self.counters["decided"] += 1
        self.counters["degraded_decisions"] += decision.degraded
        self._events[decision.event_id] = _Event(decision)
        if len(self._events) > self.max_events:
            _, oldest = self._events.popitem(last=False)
            self.counters["forgotten"] += not oldest.settled

    def _refusal(self, event: _Event | None, outcome: Outcome) -> Refusal | None:
        if event is None:
            return "unknown"
        if event.settled:
            return "duplicate"
        if event.decision.degraded:
            return "degraded"
        if self.clock() - event.decision.timestamp_s > self.window_s:
            return "late"
        problem = outcome.problem()
        if problem is not None:
            return "invalid" if problem == "invalid" else "out_of_range"
        return "unmetered" if self.utility.value(outcome) is None else None

    def _refuse(self, event_id: str, event: _Event | None, outcome: Outcome, reason: Refusal) -> Settlement:
        self.counters[f"refused_{reason}"] += 1
        arm = None if event is None else event.decision.arm
        return Settlement(event_id=event_id, arm=arm, reward=None, refused=reason, outcome=outcome)

    def _penalties(self, penalty: Mapping[str, float]) -> F64:
        cost = np.zeros(len(self.catalogue))
        for arm_id, value in penalty.items():
            cost[self.catalogue.index(arm_id)] = value
        return cost


def _numbers(context: ArrayLike) -> F64:
    """A copy of the caller's context: what it does to its own array later must not reach the learner."""
    try:
        return np.array(context, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"context must be an array of numbers, got {context!r}") from None
