"""The engine a serving loop embeds: `decide` before the call, `observe` after it."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import msgspec
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Bool
from bandit_router.budgets.pacing import Budgets
from bandit_router.declared import POSITIVE
from bandit_router.encoding.contexts import Encoder, Request
from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, build
from bandit_router.policies.base import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.booking import Booking
from bandit_router.records.decisions import REFUSALS, Decision, Settlement, check_id, frozen_context
from bandit_router.records.outcomes import Outcome, Utility
from bandit_router.routing.chooser import Choice, Chooser
from bandit_router.routing.config import load_config
from bandit_router.routing.explain import Explanation, explain
from bandit_router.routing.groups import Objective, PolicySpec
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner
from bandit_router.settling.memory import Memory
from bandit_router.settling.protocol import EventStore, EventStoreSettings
from bandit_router.settling.rules import Reward, check_ids

DEFAULT_OBJECTIVE, EVERYTHING = Objective(), Rollout()


class Terms(TypedDict, total=False):
    """What may be said of one decision beside its context.

    Attributes:
        eligible: ids of the arms allowed for this request; default all active ones.
        penalty: known cost of an arm at this decision, in utility units, by arm id.
        unit: whom the holdout is drawn by, for instance a user; default the request's session, else the event.
        tenant: whose request it is, for budgets; default the request's.
        bounds: by arm id, the most it can take, for hard budgets.
        resident: ids in fast memory now, for the record (`AdapterCache.resident`); default not known.
    """

    eligible: Iterable[str] | None
    penalty: Mapping[str, float] | None
    unit: str | None
    tenant: str | None
    bounds: Mapping[str, Outcome] | None
    resident: Iterable[str] | None


class Router:
    """Decides which arm serves a request and learns from what comes back. Thread-safe.

    Args:
        arms: what can be served, in a fixed order.
        context: length of the context vector, or an encoder of requests into one (see `encoding`).
        policy: name of a policy, a `PolicySpec` with its settings, or a policy with n_arms = len(arms), the context's
            length and one channel per channel of the objective.
        objective: prices and scales, the channels that are learned, and how rewards settle; default quality alone.
        rollout: what the policy may decide, and the arm that serves otherwise; default everything. See `Rollout`.
        budgets: limits on what is spent, see `Budgets`; they settle on every outcome, learned from or refused, each
            channel at the first bill that has it, so rewards that add up (aggregate "sum") cannot go with them. With a
            store they go on after a restart, and routers on one store share them.
        store: where decisions and rewards are kept, a durable `Store` or `Memory`; default None, which is `Memory()`.
        key: secret of the keyed draw, at most 64 bytes. Give every replica the same one: a retried event then draws
            the same number everywhere. Default: random for this process.
        clock: seconds, for timestamps and the window.

    Example:
        >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], context=1, key=b"secret")
        >>> decision = router.decide([1.0], event_id="r-1")
        >>> router.observe("r-1", Outcome(quality=0.9)).reward
        0.9
    """

    def __init__(
        self,
        *,
        arms: Sequence[Arm],
        context: int | Encoder,
        policy: str | PolicySpec | Policy = DEFAULT_POLICY,
        objective: Objective = DEFAULT_OBJECTIVE,
        rollout: Rollout = EVERYTHING,
        budgets: Budgets | None = None,
        store: EventStoreSettings | None = None,
        key: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if budgets is not None and objective.rewards.aggregate == "sum":
            raise InvalidInput(
                "budgets settle a channel at its first bill and would lose the rest of a sum; report one bill for the "
                "whole request, or give RewardRule another aggregate than 'sum'"
            )
        catalogue = Catalogue(arms)
        self.encoder = None if isinstance(context, int) else context
        dim = context if isinstance(context, int) else context.dim
        spec = PolicySpec(name=policy) if isinstance(policy, str) else policy
        sizes = {"n_arms": len(catalogue), "dim": dim, "channels": len(objective.channels)}
        self.learner = Learner(
            catalogue=catalogue,
            policy=spec.build(**sizes) if isinstance(spec, PolicySpec) else build(spec, None, **sizes),
            channels=objective.channels,
            utility=objective.utility,
            monitor=spec.monitor if isinstance(spec, PolicySpec) else None,
        )
        self.key = secrets.token_bytes(32) if key is None else key
        self.chooser = Chooser(learner=self.learner, key=self.key, rollout=rollout)
        self.clock, self.budgets, self._closed = clock, budgets, False
        if budgets is not None:
            budgets.lock = self.learner.lock
        self.counters: Counter[str] = Counter(
            dict.fromkeys(("decided", "settled", "degraded_decisions", "forgotten"), 0)
        )
        self.counters.update({f"refused_{reason}": 0 for reason in REFUSALS})
        store = Memory() if store is None else store
        self._early_s = store.early_s
        self.events: EventStore = store.attach(
            self.learner, rule=objective.rewards, counters=self.counters, clock=clock, budgets=budgets
        )

    @classmethod
    def from_config(cls, path: str | Path, **instead: Any) -> Self:
        """The router that a TOML file describes, see `RouterConfig`.

        Args:
            path: the file; relative paths in it start from its folder.
            instead: arguments of `Router` that take the place of what the file says, for instance `clock`.

        Raises:
            InvalidInput: the file, the line, and the names that are allowed there.
        """
        return cls(**load_config(path).arguments(Path(path).parent, **instead))

    # -- the two verbs ---------------------------------------------------------------------------------------

    def decide(self, context: Request | ArrayLike, *, event_id: str, **terms: Unpack[Terms]) -> Decision:
        """Draw the arm that serves this request. The same event id always gets the same decision back.

        Args:
            context: the vector, finite, shape (dim,); or a `Request`, where the router has an encoder.
            event_id: the caller's id of the request; it also fixes the random number of the draw.
            terms: what else holds for this decision, see `Terms`.

        Raises:
            BudgetExhausted: no eligible arm can be paid for under a hard budget.
            InvalidInput: unusable arguments, before any state changes. A failure of the policy or of the store is not
                raised: the baseline is served and the decision is marked degraded.
        """
        decision, new = self._decide(context, event_id, **terms)
        if new:
            self.events.record(decision)
        return decision

    async def adecide(self, context: Request | ArrayLike, *, event_id: str, **terms: Unpack[Terms]) -> Decision:
        """`decide` for an event loop: where it has to wait for the store, it awaits."""
        decision, new = self._decide(context, event_id, **terms)
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
        return self.chooser.rollout

    def set_rollout(self, **changes: Any) -> None:
        """Change what the policy may decide, for the next decision on; `set_rollout(mode="off")` is the kill switch.

        Args:
            changes: fields of `Rollout` by name; the others stay as they are. A guard that stays keeps its record.

        Raises:
            InvalidInput: there is no such field, it names unknown arms, or needs a baseline and there is none.
        """
        unknown = [name for name in changes if name not in Rollout.__struct_fields__]
        if unknown:
            raise InvalidInput(f"a rollout has no {unknown[0]!r}; it has {', '.join(Rollout.__struct_fields__)}")
        with self.learner.lock:
            self.chooser.use(msgspec.structs.replace(self.chooser.rollout, **changes))

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
        self._in_use()
        index = None if like is None else self.catalogue.index(like)
        POSITIVE.require("strength", strength)
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
        self._in_use()
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
        """Write what the store has not written yet, within bounds; later decisions and outcomes are refused."""
        self._closed = True
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
        context: Request | ArrayLike,
        event_id: str,
        *,
        unit: str | None = None,
        eligible: Iterable[str] | None = None,
        penalty: Mapping[str, float] | None = None,
        tenant: str | None = None,
        bounds: Mapping[str, Outcome] | None = None,
        resident: Iterable[str] | None = None,
    ) -> tuple[Decision, bool]:
        self._in_use()
        if isinstance(context, Request):
            unit = context.session if unit is None else unit
            tenant = context.tenant if tenant is None else tenant
            context = self._encoded(context)
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
            x = frozen_context(context)
            near = None if resident is None else learner.catalogue.flags(resident)
            if self.budgets is not None:
                request: dict[str, Any] = {"now_s": self.clock(), "tenant": tenant, "bounds": bounds}
                mask = self.chooser.servable(mask)
                terms = self.budgets.terms(arms=learner.catalogue.ids, eligible=mask, penalty=cost, **request)
                mask, cost = terms.eligible, terms.penalty
            if self.events.accepting():
                choice = self.chooser.choose(x, event_id, event_id if unit is None else unit, mask, cost)
            else:
                choice = self.chooser.degraded(x, mask)
            booking = None
            if self.budgets is not None:
                booking = self.budgets.reserve(event_id, learner.catalogue[choice.arm].id, **request)
            for array in (mask, cost, near):
                if array is not None:
                    array.flags.writeable = False
            decision = self._decision(
                choice, x, event_id, mask, cost, booking, {"tenant": tenant, "unit": unit, "resident": near}
            )
            self.counters["decided"] += 1
            if decision.degraded:
                self.counters["degraded_decisions"] += 1
            self.events.remember(decision)
            return decision, True

    def _reported_s(self, event_id: str) -> float:
        """Now; not before the decision, if it is known here, though the clock may have been set back since."""
        now_s = self.clock()
        known = self.events.find(event_id) if isinstance(event_id, str) else None
        return now_s if known is None else max(now_s, known.timestamp_s)

    def _in_use(self) -> None:
        if self._closed:
            raise InvalidInput("this router is closed; make another one on the same store")

    def _encoded(self, request: Request) -> F64:
        if self.encoder is None:
            raise InvalidInput(
                "this router takes context vectors; pass a vector, or make it with an encoder as context"
            )
        return self.encoder(request)

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
        self._in_use()
        if not isinstance(outcome, Outcome):  # an empty id is refused as invalid
            outcome, reward_id = Outcome(), ""
        return Reward(
            event_id=event_id,
            reward_id="+".join(outcome.metered()) if reward_id is None else reward_id,
            at_s=self._reported_s(event_id),
            outcome=outcome,
            served_arm=served_arm,
        )
