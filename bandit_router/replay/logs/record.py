"""One decision as the event log spells it, from a router's decision and from the log in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from bandit_router.arrays import Bool
from bandit_router.records.decisions import Decision
from bandit_router.records.outcomes import CHANNELS, COSTS, Amounts, Outcome
from bandit_router.replay.logs.logged import LoggedEvents


class Row(Amounts, frozen=True):  # not keyword-only, as the channels are: so they come last in the record
    """One decision as the event log spells it; the JSON Lines format is this record, one per line.

    `eligible` and `resident` are arm ids, None for all eligible and for residency not logged. `context` is a vector,
    or named features: then the log's features are the sorted names, and absent ones are 0. An empty context is one
    constant feature. `probabilities` is the whole logged distribution by arm id, where it is known. `weight` is how
    many decisions the row stands for, above 1 where the collector dropped some at random.
    """

    event_id: str
    arm: str
    context: list[float] | dict[str, float] = msgspec.field(default_factory=list)
    propensity: float | None = None
    timestamp_s: float | None = None
    eligible: list[str] | None = None
    probabilities: dict[str, float] | None = None
    policy: str = ""
    state_version: int = -1
    resident: list[str] | None = None
    reward: float | None = None
    mode: str = "online"
    degraded: bool = False
    weight: float = 1.0

    def problem(self) -> str | None:
        """Why this row cannot be used, or None."""
        if not self.event_id or not self.arm:
            return "empty event id or arm"
        if self.propensity is not None and not 0 < self.propensity <= 1:
            return "propensity outside (0, 1]"
        if self.eligible is not None and self.arm not in self.eligible:
            return "served arm not among the eligible"
        values = self.context.values() if isinstance(self.context, dict) else self.context
        if not all(map(math.isfinite, values)):
            return "context not finite"
        numbers = (self.reward, self.timestamp_s, *(getattr(self, name) for name in CHANNELS))
        if not all(value is None or math.isfinite(value) for value in numbers):
            return "outcome, reward or timestamp not finite"
        if any((getattr(self, name) or 0.0) < 0 for name in COSTS):
            return "negative cost"
        if not (self.weight > 0 and math.isfinite(self.weight)) or not -1 <= self.state_version < 2**63:
            return "weight or state_version out of range"
        return None if self.probabilities is None else self._distribution_problem(self.probabilities)

    def _distribution_problem(self, p: dict[str, float]) -> str | None:
        if self.arm not in p or not all(value >= 0 for value in p.values()) or abs(sum(p.values()) - 1) > 1e-3:
            return "probabilities are no distribution over the arms"
        return None


def row_of(
    decision: Decision,
    outcome: Outcome | None,
    *,
    arms: Sequence[str],
    reward: float | None = None,
    resident: Iterable[str] | None = None,
) -> Row:
    """The record of a router's decision and what became of it; encode it to write the event log line by line.

    `probabilities` is what the served arm was drawn from. Where the baseline served, whatever the policy proposed, that
    is the baseline alone.

    Args:
        decision: from `Router.decide`. outcome: what was observed, None if nothing was.
        arms: the catalogue's ids in its order, also with arms added since; those were not eligible.
        reward: `Settlement.reward`. resident: ids in fast memory then.

    Example:
        >>> from bandit_router import Arm
        >>> from bandit_router import Router
        >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], dim=1, clock=lambda: 0.0)
        >>> decision = router.decide([1.0], event_id="r-1")
        >>> outcome = Outcome(quality=0.9)
        >>> settled = router.observe("r-1", outcome)
        >>> row = row_of(decision, outcome, arms=router.catalogue.ids, reward=settled.reward)
        >>> row.event_id, row.propensity, row.quality
        ('r-1', 0.5, 0.9)
    """
    metered = {} if outcome is None else {name: getattr(outcome, name) for name in CHANNELS}
    return Row(
        event_id=decision.event_id,
        arm=decision.arm,
        context=decision.context.tolist(),
        propensity=decision.propensity,
        timestamp_s=decision.timestamp_s,
        eligible=_eligible(decision, arms),
        probabilities=_drawn_from(decision, arms),
        policy=decision.policy,
        state_version=decision.state_version,
        resident=None if resident is None else list(resident),
        **metered,
        reward=reward,
        mode=decision.mode,
        degraded=decision.degraded,
    )


def _eligible(decision: Decision, arms: Sequence[str]) -> list[str] | None:
    """Ids of the arms that were eligible; None for all of `arms`, unless some are known to have been added since."""
    mask, p = decision.eligible, decision.probabilities
    if mask is not None:
        return [arm for arm, allowed in zip(arms[: len(mask)], mask, strict=True) if allowed]
    return None if p is None or len(p) == len(arms) else list(arms[: len(p)])


def _drawn_from(decision: Decision, arms: Sequence[str]) -> dict[str, float] | None:
    """The distribution that the served arm was drawn from, by arm id; None where only its propensity is known."""
    p = decision.probabilities
    if decision.propensity == 1.0:  # also where the policy's own would have drawn another arm
        return {decision.arm: 1.0}
    return None if p is None else dict(zip(arms[: len(p)], p.tolist(), strict=True))


def rows_of(log: LoggedEvents) -> Iterable[Row]:
    """The log row by row; what an exporter of one record per line writes."""
    arms = np.array(log.arms, dtype=object)

    def known(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    def ids(mask: Bool | None, i: int) -> list[str] | None:
        return None if mask is None else arms[mask[i]].tolist()

    for i in range(len(log)):
        p = None if log.probabilities is None else dict(zip(log.arms, log.probabilities[i].tolist(), strict=True))
        yield Row(
            event_id=log.event_id[i],
            arm=log.arms[log.arm[i]],
            context=log.contexts[i].tolist(),
            propensity=known(log.propensity[i]),
            timestamp_s=known(log.timestamp_s[i]),
            eligible=ids(log.eligible, i),
            probabilities=p,
            policy=log.policy[i],
            state_version=int(log.state_version[i]),
            resident=ids(log.resident, i),
            **{name: known(log.outcomes[i, c]) for c, name in enumerate(CHANNELS)},
            reward=known(log.reward[i]),
            mode=log.mode[i],
            degraded=bool(log.degraded[i]),
            weight=float(log.weight[i]),
        )
