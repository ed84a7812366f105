"""What an operator does to a router that serves: rollout, prices, arms, and a look inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from bandit_router.budgets.limits import Limit
from bandit_router.budgets.pacing import Budgets
from bandit_router.declared import POSITIVE
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.decisions import Decision, check_id
from bandit_router.records.outcomes import Utility
from bandit_router.routing.chooser import Chooser
from bandit_router.routing.explain import Explanation, explain
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner
from bandit_router.settling.protocol import EventStore


class Operations:
    """The side of `Router` that is not asked for every request.

    Attributes:
        learner, chooser, budgets, events: the router's. closed: whether `close` was called.
    """

    learner: Learner
    chooser: Chooser
    budgets: Budgets | None
    events: EventStore
    closed: bool = False

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

    def set_rollout(self, rollout: Rollout | None = None, *, by: str | None = None, **changes: Any) -> None:
        """Change what the policy may decide, for the next decision on; `set_rollout(mode="off")` is the kill switch.

        Args:
            rollout: a whole one; where it names no baseline or no guard, those in force stay. Default: that in force.
            by: who changes it, for the store's record; default the store's name of this process.
            changes: fields of `Rollout` by name, changed in it. A guard that stays keeps its record.

        With a store it stays after a restart and is in force in every process within a second.

        Raises:
            InvalidInput: there is no such field, it names unknown arms, or needs a baseline and there is none.
            StoreUnavailable: not saved yet; it is in force here, and saved when the store is back.
        """
        unknown = [name for name in changes if name not in Rollout.__struct_fields__]
        if unknown:
            raise InvalidInput(f"a rollout has no {unknown[0]!r}; it has {', '.join(Rollout.__struct_fields__)}")
        if not isinstance(rollout, Rollout | None):
            raise InvalidInput(f"expected a Rollout or its fields by name, as in mode='off', got {rollout!r}")
        _check_by(by)
        with self.learner.lock:
            present = self.chooser.rollout
            if rollout is not None:
                changes = {"baseline": rollout.baseline or present.baseline, **changes}
                changes = {"guard": rollout.guard or present.guard, **changes}
            self.chooser.use(msgspec.structs.replace(rollout or present, **changes))
        self.events.changed("rollout", by=by)

    def set_prices(self, prices: Mapping[str, float], *, by: str | None = None) -> None:
        """Change prices; the next decision uses them, nothing is relearned. Kept and shared as `set_rollout` says.

        Raises:
            InvalidInput: the price is on a channel that no outcome so far has metered. StoreUnavailable: as above.
        """
        _check_by(by)
        learner = self.learner
        with learner.lock:
            utility = learner.utility.with_prices(prices)
            for name, seen in zip(learner.channels, learner.metered, strict=True):
                if utility.priced(name) and learner.metered.any() and not seen:
                    raise InvalidInput(
                        f"{name} was never metered, so every arm would look free; report it first, "
                        f"and where bills follow the feedback, give it a scale: Objective(scales={{{name!r}: ...}})"
                    )
            learner.reprice(utility)
        self.events.changed("prices", by=by)

    def set_limit(self, limit: Limit, *, by: str | None = None) -> None:
        """`Budgets.replace`, kept and shared as `set_rollout` says."""
        _check_by(by)
        with self.learner.lock:
            self._budgets().replace(limit)
        self.events.changed("limits", by=by)

    def reprice_arm(self, arm: str, channel: str, factor: float, *, by: str | None = None) -> None:
        """`Budgets.reprice`, on record with who did it."""
        _check_by(by)
        with self.learner.lock:
            self._budgets().reprice(arm, channel, factor)
        self.events.note("reprice", {"arm": arm, "channel": channel, "factor": factor}, by=by)

    def correct_bill(
        self, limit: str, *, arm: str, amount: float = 0.0, tenant: str | None = None, by: str | None = None
    ) -> None:
        """`Budgets.correct`, on record with who did it."""
        _check_by(by)
        with self.learner.lock:
            self._budgets().correct(limit, arm=arm, amount=amount, tenant=tenant)
        self.events.note("bill", {"limit": limit, "arm": arm, "amount": amount, "tenant": tenant}, by=by)

    def _budgets(self) -> Budgets:
        if self.budgets is None:
            raise InvalidInput("this router has no budgets; give it some with Router(budgets=Budgets(...))")
        return self.budgets

    def add_arm(self, arm: Arm, *, like: str | None = None, strength: float = 1.0) -> None:
        """Add an arm, usable at once; `like` starts it at another arm's estimate, see `Policy.add_arm`."""
        self._in_use()
        index = None if like is None else self.catalogue.index(like)
        POSITIVE.require("strength", strength)
        if arm.id in self.catalogue.ids:
            raise InvalidInput(f"arm {arm.id!r} is in the catalogue already; give the new one another id")
        self.events.add_arm(arm, like=index, strength=strength)

    def pause(self, arm_id: str, *, by: str | None = None) -> None:
        """Take an arm out of the draw until `resume`. Raises as `retire` does."""
        self._switch(Catalogue.pause, arm_id, by)

    def resume(self, arm_id: str, *, by: str | None = None) -> None:
        """Put a paused arm back into the draw. Raises as `retire` does."""
        self._switch(Catalogue.resume, arm_id, by)

    def retire(self, arm_id: str, *, by: str | None = None) -> None:
        """Take an arm out of the draw for good; an outcome still under way is accounted to it.

        Raises:
            InvalidInput: no such arm, or a retired one. StoreUnavailable: not saved yet; it is in force here, and
                saved when the store is back.
        """
        self._switch(Catalogue.retire, arm_id, by)

    def _switch(self, change: Callable[[Catalogue, str], None], arm_id: str, by: str | None) -> None:
        self._in_use()
        _check_by(by)
        with self.learner.lock:
            change(self.catalogue, arm_id)
            status = self.catalogue.status(arm_id).value
        self.events.set_status(arm_id, status, by=by)

    def explain(self, decision: Decision | str, *, features: bool = False) -> Explanation:
        """Every arm's mean, bonus, priced channels, penalty and propensity for a decision, and what served.

        Means and bonuses are the policy's beliefs now; they are those of the decision while
        `Explanation.state_version == decision.state_version`.

        Args:
            decision: the decision, or its event id: it is looked up in memory, and then in the store.
            features: also what each element of the context adds to each mean, where that is linear in it; slower.

        Raises:
            InvalidInput: no such event. StoreUnavailable: the store did not answer in time.
        """
        found = self.events.look_up(decision) if isinstance(decision, str) else decision
        if found is None:
            raise InvalidInput(f"no decision of event {decision!r:.80} is known, here or in the store")
        learner = self.learner
        with learner.lock:
            policy = type(learner.policy).from_state(learner.policy.state()) if features else learner.policy
            ids, channels, weights = self.catalogue.ids, learner.channels, learner.weights
            if not features:
                return explain(found, ids, policy, channels, weights)
        return explain(found, ids, policy, channels, weights, features=True)  # on a copy: no decision waits for it

    @property
    def healthy(self) -> bool:
        """Whether the store can be reached, as far as was last seen; decisions go on either way."""
        return self.events.healthy

    def flush(self) -> None:
        """Wait until everything recorded so far is kept.

        Raises:
            StoreUnavailable: it is not within the store's `wait_s`; it is queued, and written when the store is back.
        """
        self.events.flush()

    def close(self) -> None:
        """Write what the store has not written yet, within bounds; later decisions and outcomes are refused."""
        self.closed = True
        self.events.close()

    def _in_use(self) -> None:
        if self.closed:
            raise InvalidInput("this router is closed; make another one on the same store")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_by(by: str | None) -> None:
    if by is not None:
        check_id("by", by)
