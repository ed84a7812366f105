"""The engine a serving loop embeds: `decide` before the call, `observe` after it."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Bool
from bandit_router.budgets.pacing import Budgets
from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, built
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import check_positive
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.booking import Booking
from bandit_router.records.decisions import REFUSALS, Decision, Settlement, check_id
from bandit_router.records.outcomes import CHANNELS, COSTS, Outcome, Utility
from bandit_router.routing.chooser import Choice, Chooser
from bandit_router.routing.explain import Explanation, explain
from bandit_router.routing.guard import ConservativeGuard
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner
from bandit_router.settling.memory import MemoryStore
from bandit_router.settling.protocol import DurableStore, EventStore
from bandit_router.settling.rules import Reward, RewardRule, check_ids


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
        rewards: when and how rewards settle a decision; default `RewardRule()`, without a store one with early_s=0:
            nobody else decides then, so a reward for an event that is not known is a mistake.
        baseline: id of the arm that serves when the policy may not or cannot decide; default the first eligible one.
        rollout: what the policy may decide; default everything. See `Rollout`.
        guard: lets the policy explore only what its record can pay for; see `ConservativeGuard`.
        monitor: lets a linear policy trust an arm less that has changed silently; see `DriftMonitor`. The default
            policy watches for changes itself and takes none.
        budgets: limits on what is spent, see `Budgets`; they settle on every outcome, learned from or refused, each
            channel at the first bill that has it, so rewards that add up (aggregate "sum") cannot go with them. With a
            store they go on after a restart, and routers on one store share them.
        store: a durable event store (`bandit_router.store.Store`); default in memory only.
        max_events: decisions remembered in memory; beyond that the oldest is forgotten, and counted if unsettled.
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
        rewards: RewardRule | None = None,
        baseline: str | None = None,
        rollout: Rollout | None = None,
        guard: ConservativeGuard | None = None,
        monitor: DriftMonitor | None = None,
        budgets: Budgets | None = None,
        store: DurableStore | None = None,
        max_events: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        unknown = [name for name in channels if name not in CHANNELS]
        if tuple(channels)[:1] != ("quality",) or unknown:
            raise InvalidInput(f"channels must be quality first, then any of {COSTS}, got {tuple(channels)}")
        if max_events < 1:
            raise InvalidInput(f"max_events must be above 0, got {max_events}")
        if budgets is not None and rewards is not None and rewards.aggregate == "sum":
            raise InvalidInput(
                "budgets settle a channel at its first bill and would lose the rest of a sum; report one bill for the "
                "whole request, or give RewardRule another aggregate than 'sum'"
            )
        catalogue = Catalogue(arms)
        self.learner = Learner(
            catalogue=catalogue,
            policy=built(policy, settings, n_arms=len(catalogue), dim=dim, channels=len(channels)),
            channels=channels,
            utility=Utility() if utility is None else utility,
            monitor=monitor,
        )
        self.key = secrets.token_bytes(32) if key is None else key
        self._chooser = Chooser(
            learner=self.learner,
            key=self.key,
            baseline=baseline,
            rollout=Rollout() if rollout is None else rollout,
            guard=guard,
        )
        self.clock, self.budgets = clock, budgets
        self.counters: Counter[str] = Counter(
            dict.fromkeys(("decided", "settled", "degraded_decisions", "forgotten"), 0)
        )
        self.counters.update({f"refused_{reason}": 0 for reason in REFUSALS})
        if rewards is None:
            rewards = RewardRule(early_s=0.0) if store is None else RewardRule()
        self._early_s = rewards.early_s
        self.events: EventStore = (
            MemoryStore(learner=self.learner, rule=rewards, max_events=max_events, counters=self.counters)
            if store is None
            else store.attach(
                self.learner,
                rule=rewards,
                counters=self.counters,
                clock=clock,
                max_events=max_events,
                budgets=budgets,
            )
        )

    # -- the two verbs ---------------------------------------------------------------------------------------

    def decide(
        self,
        context: ArrayLike,
        *,
        event_id: str,
        unit: str | None = None,
        eligible: Iterable[str] | None = None,
        penalty: Mapping[str, float] | None = None,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
        resident: Iterable[str] | None = None,
    ) -> Decision:
        """Draw the arm that serves this request. The same event id always gets the same decision back.

        Args:
            context: feature vector, shape (dim,), finite.
            event_id: the caller's id of the request; it also fixes the random number of the draw.
            unit: whom the holdout is drawn by, for instance a user; default the event.
            eligible: ids of the arms allowed for this request; default all active ones.
            penalty: known cost of an arm at this decision, in utility units, by arm id.
            tenant: whose request it is, for budgets. bounds: by arm id, the most it can take, for hard budgets.
            resident: ids in fast memory now, for the record (`AdapterCache.resident`); default not known.

        Raises:
            BudgetExhausted: no eligible arm can be paid for under a hard budget.
            InvalidInput: unusable arguments, before any state changes. A failure of the policy or of the store is not
                raised: the baseline is served and the decision is marked degraded.
        """
        decision, new = self._decide(context, event_id, unit, eligible, penalty, tenant, bounds, resident)
        if new:
            self.events.record(decision)
        return decision

    async def adecide(
        self,
        context: ArrayLike,
        *,
        event_id: str,
        unit: str | None = None,
        eligible: Iterable[str] | None = None,
        penalty: Mapping[str, float] | None = None,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
        resident: Iterable[str] | None = None,
    ) -> Decision:
        """`decide` for an event loop: where it has to wait for the store, it awaits."""
        decision, new = self._decide(context, event_id, unit, eligible, penalty, tenant, bounds, resident)
        if new:
            await self.events.arecord(decision)
        return decision

    def observe(
        self, event_id: str, outcome: Outcome, *, reward_id: str | None = None, served_arm: str | None = None
    ) -> Settlement:
        """Count one outcome, complete or partial, to its decision. Bad data is never raised: it is refused and counted.

        Args:
            event_id: the decision. outcome: the channels known now; the rest can follow.
            reward_id: unique within the event; the same id again is a duplicate. Default: the names of the channels
                that the outcome carries, so cost now and quality later are two rewards, and a retry is not.
            served_arm: id of the arm that served in the end, where a gateway retried or fell back to another one.

        Refusals: unknown event, duplicate (this reward id is known), settled (the decision is, without it), late (after
        the window), invalid (NaN or infinite), out_of_range (negative, or a quality outside [0, 1]), degraded (the
        policy did not choose this arm), diverted (another arm served), unavailable (the store could take no more). An
        invalid outcome changes nothing, so a corrected one can still be reported. With neither reward nor refusal it is
        pending.
        """
        reward = self._reward(event_id, outcome, reward_id, served_arm)
        self._settle_budgets(reward)
        return self.events.report(reward)

    async def aobserve(
        self, event_id: str, outcome: Outcome, *, reward_id: str | None = None, served_arm: str | None = None
    ) -> Settlement:
        """`observe` for an event loop: where it has to wait for the store, it awaits."""
        reward = self._reward(event_id, outcome, reward_id, served_arm)
        self._settle_budgets(reward)
        return await self.events.areport(reward)

    # -- operations ------------------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The arms; change them through the router."""
        return self.learner.catalogue

    @property
    def policy(self) -> Policy:
        """The policy as it has learned so far."""
        return self.learner.policy

    @property
    def utility(self) -> Utility:
        """The prices in force."""
        return self.learner.utility

    @property
    def rollout(self) -> Rollout:
        """What the policy may decide now."""
        return self._chooser.rollout

    def set_rollout(self, rollout: Rollout) -> None:
        """Change what the policy may decide, for the next decision on; `Rollout(mode="off")` is the kill switch.

        Raises:
            InvalidInput: it names unknown arms, or needs a baseline and the router has none.
        """
        with self.learner.lock:
            self._chooser.use(rollout)

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """Change prices; the next decision uses them, nothing is relearned.

        Raises:
            InvalidInput: the price is on a channel that no outcome so far has metered.
        """
        learner = self.learner
        with learner.lock:
            utility = learner.utility.with_prices(prices)
            for name, seen in zip(learner.channels, learner.metered, strict=True):
                if utility.priced(name) and learner.metered.any() and not seen:
                    raise InvalidInput(f"{name} was never metered, so every arm would look free; report it first")
            learner.reprice(utility)

    def add_arm(self, arm: Arm, *, like: str | None = None, strength: float = 1.0) -> None:
        """Add an arm, usable at once; `like` starts it at another arm's estimate, see `Policy.add_arm`."""
        index = None if like is None else self.catalogue.index(like)
        check_positive("strength", strength)
        if arm.id in self.catalogue.ids:
            raise InvalidInput(f"arm {arm.id!r} is in the catalogue already; give the new one another id")
        self.events.add_arm(arm, like=index, strength=strength)

    def pause(self, arm_id: str) -> None:
        """Take an arm out of the draw until `resume`. Raises as `retire` does."""
        self._switch(Catalogue.pause, arm_id)

    def resume(self, arm_id: str) -> None:
        """Put a paused arm back into the draw. Raises as `retire` does."""
        self._switch(Catalogue.resume, arm_id)

    def retire(self, arm_id: str) -> None:
        """Take an arm out of the draw for good; an outcome still under way is accounted to it.

        Raises:
            InvalidInput: no such arm, or a retired one. StoreUnavailable: not saved yet; it is in force here, and
                saved when the store is back.
        """
        self._switch(Catalogue.retire, arm_id)

    def _switch(self, change: Callable[[Catalogue, str], None], arm_id: str) -> None:
        with self.learner.lock:
            change(self.catalogue, arm_id)
            status = self.catalogue.status(arm_id).value
        self.events.set_status(arm_id, status)

    def explain(self, decision: Decision) -> Explanation:
        """Every arm's mean, bonus, priced channels, penalty and propensity for this decision.

        Means and bonuses are the policy's beliefs now; they are those of the decision while
        `Explanation.state_version == decision.state_version`.
        """
        learner = self.learner
        with learner.lock:
            return explain(decision, self.catalogue.ids, learner.policy, learner.channels, learner.weights)

    def close(self) -> None:
        """Write what the store has not written yet; the router must not be used afterwards."""
        self.events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _decide(
        self,
        context: ArrayLike,
        event_id: str,
        unit: str | None,
        eligible: Iterable[str] | None,
        penalty: Mapping[str, float] | None,
        tenant: str | None,
        bounds: Mapping[str, Outcome] | None,
        resident: Iterable[str] | None,
    ) -> tuple[Decision, bool]:
        learner = self.learner
        with learner.lock:
            check_id("event_id", event_id)
            for name, value in (("tenant", tenant), ("unit", unit)):
                if value is not None:
                    check_id(name, value)
            known = self.events.find(event_id)
            if known is not None:
                return known, False
            mask = learner.catalogue.mask(eligible)
            cost = None if penalty is None else learner.catalogue.penalties(penalty)
            x = _numbers(context)
            near = None if resident is None else learner.catalogue.flags(resident)
            if self.budgets is not None:
                request: dict[str, Any] = {"now_s": self.clock(), "tenant": tenant, "bounds": bounds}
                mask = self._chooser.servable(mask)
                terms = self.budgets.terms(arms=learner.catalogue.ids, eligible=mask, penalty=cost, **request)
                mask, cost = terms.eligible, terms.penalty
            if self.events.accepting():
                choice = self._chooser.choose(x, event_id, event_id if unit is None else unit, mask, cost)
            else:
                choice = self._chooser.degraded(x, mask)
            booking = None
            if self.budgets is not None:
                booking = self.budgets.reserve(event_id, learner.catalogue[choice.arm].id, **request)
            decision = self._decision(
                choice, x, event_id, mask, cost, booking, {"tenant": tenant, "unit": unit, "resident": near}
            )
            self.counters["decided"] += 1
            if decision.degraded:
                self.counters["degraded_decisions"] += 1
            self.events.remember(decision)
            return decision, True

    def _decision(
        self,
        choice: Choice,
        x: F64,
        event_id: str,
        mask: Bool | None,
        cost: F64 | None,
        booking: Booking | None,
        whose: Mapping[str, Any],
    ) -> Decision:
        catalogue, policy = self.learner.catalogue, self.learner.policy
        return Decision(
            event_id=event_id,
            arm=catalogue[choice.arm].id,
            arm_index=choice.arm,
            propensity=choice.propensity,
            probabilities=choice.probabilities,
            context=x,
            eligible=mask,
            penalty=cost,
            timestamp_s=self.clock(),
            policy=type(policy).__name__,
            state_version=policy.steps,
            degraded=choice.degraded,
            mode=choice.mode,
            proposed=None if choice.proposed is None else catalogue[choice.proposed].id,
            booking=booking,
            **whose,
        )

    def _settle_budgets(self, reward: Reward) -> None:
        if self.budgets is None:
            return
        with suppress(InvalidInput), self.learner.lock:  # the event store refuses and counts it
            check_ids(reward)
            until_s = reward.at_s + self._early_s if self._early_s else 0.0
            self.budgets.settle(reward.event_id, reward.outcome, served_arm=reward.served_arm, until_s=until_s)

    def _reward(self, event_id: str, outcome: Outcome, reward_id: str | None, served_arm: str | None) -> Reward:
        return Reward(
            event_id=event_id,
            reward_id="+".join(outcome.metered()) if reward_id is None else reward_id,
            at_s=self.clock(),
            outcome=outcome,
            served_arm=served_arm,
        )


def _numbers(context: ArrayLike) -> F64:
    """A copy of the caller's context: what it does to its own array later must not reach the learner."""
    try:
        return np.array(context, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"context must be an array of numbers, got {context!r}") from None
