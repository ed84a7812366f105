"""Cascades: try an arm, look at its answer, and escalate to a stronger one when a learned rule says so.

Two decisions a request, each a bandit of its own with its own log and propensities: which arm answers first, and, given
what its answer looks like, whether that answer is served or the last arm is asked as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.decisions import Decision, Settlement
from bandit_router.records.outcomes import COSTS, Outcome
from bandit_router.routing.router import Router

STOP, ESCALATE = "stop", "escalate"
GATE_ARMS = (Arm(id=STOP), Arm(id=ESCALATE))


class Cascade:
    """Two routers over one request: `first` picks the arm that answers, `gate` stops there or escalates to `last`.

    Args:
        first: router over the arms. It learns what a request that begins with an arm comes to: the quality of the
            answer that was served in the end, and the costs of both calls.
        gate: router over `GATE_ARMS`. Its context is the request's followed by the signals of the first answer. It
            learns what is still open: stopping gives the first answer's quality at no further cost, escalating the
            last arm's quality and cost.
        last: id of the arm that escalations go to. A request that begins there is not gated.

    The two draw with different random numbers (the gate's event id ends in ":gate"), so the probability of a whole
    course is the product of the two logged propensities. While the gate learns, what an arm of `first` comes to moves.
    With several arms that may begin, signals should mean the same for all of them, or name the arm.

    Raises:
        InvalidInput: the gate has other arms, its dim leaves no room for a signal, or `last` is no arm of `first`.

    Source: the cost-ordered cascade of FrugalGPT (Chen, Zaharia & Zou 2023, arXiv 2305.05176), with thresholds
    learned online from partial feedback instead of offline from full information.

    Example:
        >>> first = Router(arms=[Arm(id="small"), Arm(id="large")], dim=1, key=b"secret")
        >>> cascade = Cascade(first=first, gate=Router(arms=GATE_ARMS, dim=2, key=b"secret"), last="large")
        >>> decision = cascade.decide([1.0], event_id="r-1")
        >>> answer = Outcome(quality=0.2, cost_usd=0.001)  # of decision.arm
        >>> second = Outcome(quality=0.9, cost_usd=0.01) if cascade.escalates(decision, signals=[0.3]) else None
        >>> settlement = cascade.observe("r-1", answer, second)
    """

    def __init__(self, *, first: Router, gate: Router, last: str) -> None:
        if gate.catalogue.ids != (STOP, ESCALATE):
            raise InvalidInput(f"the gate's arms must be GATE_ARMS, {(STOP, ESCALATE)}, got {gate.catalogue.ids}")
        if gate.policy.dim <= first.policy.dim:
            raise InvalidInput(f"the gate's dim must be {first.policy.dim} plus the signals, got {gate.policy.dim}")
        first.catalogue.index(last)
        self.first, self.gate, self.last = first, gate, last

    def decide(self, context: ArrayLike, *, event_id: str) -> Decision:
        """Draw the arm that answers first; see `Router.decide`."""
        return self.first.decide(context, event_id=event_id)

    def escalates(self, decision: Decision, *, signals: ArrayLike) -> bool:
        """Draw whether to ask the last arm as well; the same event gets the same answer.

        Args:
            decision: of `decide`. signals: what the first answer looks like, for instance a judge's score or the mean
                log-probability of its tokens, shape (gate.dim - first.dim,).
        """
        if decision.arm == self.last:
            return False
        context = np.concatenate([decision.context, np.atleast_1d(np.asarray(signals, dtype=np.float64))])
        return self.gate.decide(context, event_id=_gate_id(decision.event_id)).arm == ESCALATE

    def observe(self, event_id: str, first: Outcome, second: Outcome | None = None) -> Settlement:
        """Count what came of a request to both decisions; returns the settlement of the first one.

        Args:
            event_id: the request. first: of the first answer. second: of the last arm's, where it was asked.

        A decision that the gate no longer remembers is counted there as `Router.observe` counts it.

        Raises:
            InvalidInput: `second` is given though the gate stopped, or missing though it escalated; nothing changed.
        """
        begun, step = self.first.events.find(event_id), self.gate.events.find(_gate_id(event_id))
        ungated = step is None and begun is not None and begun.arm == self.last
        escalated = step is not None and step.arm == ESCALATE
        if (ungated or step is not None) and escalated != (second is not None):
            what = "escalated: pass what came of the last arm" if escalated else "stopped: there is no second outcome"
            raise InvalidInput(f"{event_id} {what}")
        if not ungated:
            self.gate.observe(_gate_id(event_id), _stopped(first) if second is None else second)
        return self.first.observe(event_id, first if second is None else _total(first, second))

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """Change the prices of both decisions; see `Router.set_prices`."""
        for router in (self.first, self.gate):
            router.set_prices(prices)


def _gate_id(event_id: str) -> str:
    return f"{event_id}:gate"


def _stopped(first: Outcome) -> Outcome:
    """Stopping costs nothing more, in every channel that the first answer metered."""
    free = {name: 0.0 for name in first.metered() if name != "quality"}
    return Outcome(quality=first.quality, **free)


def _total(first: Outcome, second: Outcome) -> Outcome:
    """The quality that was served and the sum of what was metered of both."""
    both = [name for name in COSTS if name in first.metered() and name in second.metered()]
    sums = {name: getattr(first, name) + getattr(second, name) for name in both}
    return Outcome(quality=second.quality, **sums)
