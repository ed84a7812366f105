"""The engine a serving loop embeds: `decide` before the call, `observe` after it."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar, Unpack

import msgspec
from numpy.typing import ArrayLike, NDArray

from bandit_router.arrays import F64, Bool
from bandit_router.budgets.pacing import Budgets
from bandit_router.encoding.contexts import Encoder, Request
from bandit_router.errors import InvalidInput, NoArmAvailable
from bandit_router.policies import DEFAULT_POLICY, build
from bandit_router.policies.base import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.booking import Booking
from bandit_router.records.decisions import REFUSALS, Decision, Settlement, check_id, event_uniform, frozen_context
from bandit_router.records.failures import Failure
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.chooser import Choice, Chooser
from bandit_router.routing.config import load_config
from bandit_router.routing.controls import controls
from bandit_router.routing.groups import Objective, PolicySpec, check_kinds
from bandit_router.routing.health import ArmHealth, Health
from bandit_router.routing.operations import Operations
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner
from bandit_router.settling.memory import Memory
from bandit_router.settling.protocol import EventStore, EventStoreSettings
from bandit_router.settling.rules import Reward

DEFAULT_OBJECTIVE, EVERYTHING, NOTHING, DEFAULT_HEALTH = Objective(), Rollout(), Outcome(), Health()
_UNCOUNTED = ("invalid", "out_of_range", "unknown", "unavailable")  # such a report can come again


A = TypeVar("A", bound=NDArray[Any])


class Terms(TypedDict, total=False):
    """What may be said of one decision beside its context.

    Attributes:
        eligible: ids of the arms allowed for this request; default all active ones.
        penalty: known cost of an arm at this decision, in utility units, by arm id.
        unit: whom the holdout is drawn by, for instance a user; default the request's session, else the event.
        tenant: whose request it is, for budgets; default the request's.
        bounds: by arm id, the most it can take, for hard budgets.
        resident: ids in fast memory now, for the record (`AdapterCache.resident`); default not known.
        drawn: False where the caller has chosen, and names the arm as the only eligible one. It is on record and on
            the budgets as a degraded decision, which neither the policy nor replay learns from.
    """

    eligible: Iterable[str] | None
    penalty: Mapping[str, float] | None
    unit: str | None
    tenant: str | None
    bounds: Mapping[str, Outcome] | None
    resident: Iterable[str] | None
    drawn: bool


class Said(TypedDict, total=False):
    """What may be said of one outcome beside its channels.

    Attributes:
        reward_id: unique within the event; the same id again is a duplicate. Default: the names of the channels that
            the outcome carries, so cost now and quality later are two rewards, and a retry is not; "failure" for one.
        failure: how the decided arm failed, for instance `Failure("timeout")`; what that counts is a rule, see
            `FailureRules`. The outcome has what the attempt took, or may be left out.
        served_arm: id of the arm that served in the end, where a gateway retried or fell back to another one. The
            outcome is then that arm's and is not counted to the decided one, which has failed as `failure` says; where
            nothing is said, as `FailureRules.diverted` says.
        source: who reports, for instance a client's key id, for `RewardRule.per_source` and `state unlearn`.
    """

    reward_id: str | None
    failure: Failure | None
    served_arm: str | None
    source: str | None


class Router(Operations):
    """Decides which arm serves a request and learns from what comes back. Thread-safe.

    Args:
        arms: what can be served, in a fixed order.
        context: length of the context vector, the names of its elements, or an encoder of requests (see `encoding`).
        policy: name of a policy, a `PolicySpec` with its settings, or a policy with n_arms = len(arms), the context's
            length and one channel per channel of the objective.
        objective: prices and scales, the channels that are learned, and how rewards settle; default quality alone.
        rollout: what the policy may decide, and the arm that serves otherwise; default everything. See `Rollout`.
        health: when an arm that fails is left alone, and how many calls an arm takes at once; see `Health`.
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
        context: int | Sequence[str] | Encoder,
        policy: str | PolicySpec | Policy = DEFAULT_POLICY,
        objective: Objective = DEFAULT_OBJECTIVE,
        rollout: Rollout = EVERYTHING,
        health: Health = DEFAULT_HEALTH,
        budgets: Budgets | None = None,
        store: EventStoreSettings | None = None,
        key: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_kinds(
            arms, context, objective=(objective, Objective), rollout=(rollout, Rollout), health=(health, Health)
        )
        if not callable(clock):
            raise InvalidInput(f"clock must be a function that returns seconds, such as time.time, got {clock!r}")
        if budgets is not None and objective.rewards.aggregate == "sum":
            raise InvalidInput(
                "budgets settle a channel at its first bill and would lose the rest of a sum; report one bill for the "
                "whole request, or give RewardRule another aggregate than 'sum'"
            )
        catalogue = Catalogue(arms)
        named = tuple(context) if isinstance(context, Sequence) else None
        self.encoder = context if callable(context) else None
        dim = context.dim if callable(context) else context if isinstance(context, int) else len(context)
        spec = PolicySpec(name=policy) if isinstance(policy, str) else policy
        sizes = {"n_arms": len(catalogue), "dim": dim, "channels": len(objective.channels)}
        self.learner = Learner(
            catalogue=catalogue,
            policy=spec.build(**sizes) if isinstance(spec, PolicySpec) else build(spec, None, **sizes),
            channels=objective.channels,
            utility=objective.utility,
            monitor=spec.monitor if isinstance(spec, PolicySpec) else None,
            features=named,
        )
        self.key = secrets.token_bytes(32) if key is None else key
        self.chooser = Chooser(learner=self.learner, key=self.key, rollout=rollout)
        catalogue.flags(health.in_flight)
        self.health = ArmHealth(health, uniform=partial(event_uniform, self.key))
        self.clock, self.budgets = clock, budgets
        if budgets is not None:
            budgets.lock = self.learner.lock
        self.counters: Counter[str] = Counter(
            dict.fromkeys(("decided", "settled", "degraded_decisions", "forgotten"), 0)
        )
        self.counters.update({f"refused_{reason}": 0 for reason in REFUSALS})
        store = Memory() if store is None else store
        self.events: EventStore = store.attach(
            self.learner,
            rule=objective.rewards,
            counters=self.counters,
            clock=clock,
            budgets=budgets,
            cooling=self.health,
        )
        self.events.steer(controls(self.learner, self.chooser, budgets))

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
            NoArmAvailable: every eligible arm is left alone or busy, see `Health`; it says when to come again.
            InvalidInput: unusable arguments, before any state changes. A failure of the policy or of the store is not
                raised: the baseline is served and the decision is marked degraded.
        """
        decision, new = self._decide(context, event_id, **terms) if terms else self._decide(context, event_id)
        if new:
            self.events.record(decision)
        return decision

    async def adecide(self, context: Request | ArrayLike, *, event_id: str, **terms: Unpack[Terms]) -> Decision:
        """`decide` for an event loop: where it has to wait for the store, it awaits."""
        decision, new = self._decide(context, event_id, **terms)
        if new:
            await self.events.arecord(decision)
        return decision

    def observe(self, event_id: str, outcome: Outcome = NOTHING, **said: Unpack[Said]) -> Settlement:
        """Count one outcome, complete or partial, to its decision. Bad data is never raised: it is refused and counted.

        Args:
            event_id: the decision. outcome: the channels known now; the rest can follow.
            said: how the arm failed, which one served, and the id of this report, see `Said`.

        Refusals: unknown event, duplicate (this reward id is known), too_many (of the event, or of the source in this
        hour), settled (the decision is, without it), late (after the window), invalid (NaN or infinite),
        out_of_range (negative, above 1e12, or a quality outside [0, 1]), degraded (the policy did not choose this arm),
        diverted (another arm served), suspect (far beyond all that was learned; settled, unlearned), unavailable (the
        store could take no more). An invalid outcome changes nothing, so a corrected one can still be reported. With
        neither reward, refusal nor failure it is pending.
        """
        reward = self._reward(event_id, outcome, **said)
        return self._told(reward, self.events.report(reward))

    async def aobserve(self, event_id: str, outcome: Outcome = NOTHING, **said: Unpack[Said]) -> Settlement:
        """`observe` for an event loop: where it has to wait for the store, it awaits."""
        reward = self._reward(event_id, outcome, **said)
        return self._told(reward, await self.events.areport(reward))

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
        drawn: bool = True,
    ) -> tuple[Decision, bool]:
        if self.closed:
            self._in_use()
        if isinstance(context, Request):
            unit = context.session if unit is None else unit
            tenant = context.tenant if tenant is None else tenant
            context = self._encoded(context)
        learner = self.learner
        with learner.lock:
            check_id("event_id", event_id)
            if tenant is not None:
                check_id("tenant", tenant)
            if unit is not None:
                check_id("unit", unit)
            known = self.events.find(event_id)
            if known is not None:
                return known, False
            mask = learner.catalogue.mask(eligible)
            cost = None if penalty is None else learner.catalogue.penalties(penalty)
            x = frozen_context(context)
            usual = learner.door.clip(x)
            clipped = usual is not x
            if clipped:
                x = _frozen(usual)
            near = None if resident is None else _frozen(learner.catalogue.flags(resident))
            shut = self._shut(event_id, mask)
            if shut is not None:
                mask = ~_frozen(shut) if mask is None else mask & ~_frozen(shut)
            if self.budgets is not None:
                request: dict[str, Any] = {"now_s": self.clock(), "tenant": tenant, "bounds": bounds}
                mask = self.chooser.servable(mask)
                terms = self.budgets.terms(arms=learner.catalogue.ids, eligible=mask, penalty=cost, **request)
                mask, cost = terms.eligible, terms.penalty
            if drawn and self.events.accepting():
                choice = self.chooser.choose(x, event_id, event_id if unit is None else unit, mask, cost)
            else:
                choice = self.chooser.degraded(x, mask)
            booking = None
            if self.budgets is not None:
                arm, chosen = learner.catalogue[choice.arm].id, choice.mode == "online" and not choice.degraded
                booking = self.budgets.reserve(event_id, arm, chosen=chosen, **request)
            if mask is not None:
                _frozen(mask)
            if cost is not None:
                _frozen(cost)
            decision = self._decision(choice, x, event_id, mask, cost, booking, tenant, unit, near, shut)
            self.counters["decided"] += 1
            if clipped:
                self.counters["clipped_contexts"] += 1
            if drawn and decision.degraded:
                self.counters["degraded_decisions"] += 1
            self.health.begin(event_id, decision.arm, decision.timestamp_s)
            self.events.remember(decision)
            return decision, True

    def _shut(self, event_id: str, mask: Bool | None) -> Bool | None:
        """The arms that health keeps out of this draw."""
        try:
            return self.health.shut(self.learner.catalogue.ids, event_id, self.chooser.servable(mask), self.clock())
        except NoArmAvailable:
            self.counters["unavailable"] += 1
            raise

    def _reported_s(self, event_id: str) -> float:
        """Now; not before the decision, if it is known here, though the clock may have been set back since."""
        now_s = self.clock()
        known = self.events.find(event_id) if isinstance(event_id, str) else None
        return now_s if known is None else max(now_s, known.timestamp_s)

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
        tenant: str | None,
        unit: str | None,
        resident: Bool | None,
        unhealthy: Bool | None,
    ) -> Decision:
        catalogue, policy = self.learner.catalogue, self.learner.policy
        decision = Decision(  # no more keywords here: beyond 15 Python makes a dictionary of them for the call
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
        )
        if tenant is None and unit is None and resident is None and unhealthy is None:
            return decision
        rare = {"tenant": tenant, "unit": unit, "resident": resident, "unhealthy": unhealthy}
        return msgspec.structs.replace(decision, **rare)

    def _told(self, reward: Reward, settlement: Settlement) -> Settlement:
        """Count a report for the health of the drawn arm."""
        if settlement.arm is None or settlement.refused in _UNCOUNTED:
            return settlement
        failure = reward.failure
        if failure is None and reward.served_arm not in (None, settlement.arm):
            failure = Failure("diverted")
        elsewhere = None if settlement.failure is None else settlement.arm  # decided by another process, or long ago
        with self.learner.lock:
            self.health.told(reward.event_id, failure, reward.at_s, arm_id=elsewhere)
            self.counters["arms_opened"] = self.health.opened
        return settlement

    def _reward(
        self,
        event_id: str,
        outcome: Outcome,
        *,
        reward_id: str | None = None,
        failure: Failure | None = None,
        served_arm: str | None = None,
        source: str | None = None,
    ) -> Reward:
        self._in_use()
        if not isinstance(outcome, Outcome) or not isinstance(failure, Failure | None):
            outcome, failure, reward_id = NOTHING, None, ""  # an empty id is refused as invalid
        if reward_id is None:
            reward_id = "failure" if failure is not None else "+".join(outcome.metered())
        return Reward(
            event_id=event_id,
            reward_id=reward_id,
            at_s=self._reported_s(event_id),
            outcome=outcome.plain(),
            served_arm=served_arm,
            failure=failure,
            source=source,
        )


def _frozen(array: A) -> A:
    """The array, which nobody can write to from now on."""
    array.setflags(write=False)
    return array
