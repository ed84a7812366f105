"""Rewards of one decision: when they count, how several are combined, and when the decision is settled.

The rules are pure functions of what was decided and reported; `machine` asks them, over whatever shelf it works.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

import msgspec

from bandit_router.budgets.limits import countable
from bandit_router.errors import InvalidInput
from bandit_router.records.booking import Bill
from bandit_router.records.decisions import Decision, Refusal, Settlement, check_id
from bandit_router.records.failures import Failure, FailureKind, FailureRules
from bandit_router.records.outcomes import CHANNELS, Outcome, Utility

MAX_REWARDS = 100  # that one decision may have; a loop that reports more is broken, or means harm
Aggregate = Literal["first", "last", "sum", "mean", "min", "max"]
Status = Literal["rewarded", "default", "expired", "unmetered", "failed", "diverted", "conflict", "suspect"]

_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
}


class RewardRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rewards of one decision become the one outcome it is settled at.

    Attributes:
        window_s: seconds after the decision in which rewards count. When it closes, what is there is settled. Two days
            by default, so that feedback of the next day counts.
        aggregate: how several values of one channel combine. `first` settles as soon as the utility is known
            and every channel with a scale is there, so that a bill after the feedback is learned before it has a price;
            the others wait for the window to close. `first` and `last` go by order of arrival; the others do not depend
            on it (sums are exactly rounded).
        default: channels filled in when the window closes and the utility is not known, for instance
            Outcome(quality=0.0). Without a default, a decision that got no usable reward is settled as expired and
            never learned.
        failures: what attempts that failed count; a failure settles at once, whatever the aggregate.
        per_source: how many rewards of one source (`observe(source=...)`) count within an hour; None for any number.
    """

    window_s: float = 172_800.0
    aggregate: Aggregate = "first"
    default: Outcome | None = None
    failures: FailureRules = FailureRules()
    per_source: int | None = None

    def __post_init__(self) -> None:
        if not self.window_s > 0:
            raise InvalidInput(f"window_s must be greater than 0, got {self.window_s}")
        if self.aggregate not in _AGGREGATES:
            raise InvalidInput(f"unknown aggregate {self.aggregate!r}; there are {', '.join(_AGGREGATES)}")
        if self.per_source is not None and self.per_source < 1:
            raise InvalidInput(f"per_source must be at least 1, or None for any number, got {self.per_source}")
        if self.default is not None and self.default.problem() is not None:
            raise InvalidInput(f"default must be a valid outcome, got {self.default}")


class StoreRule(RewardRule, frozen=True, kw_only=True):
    """A reward rule as a store applies it.

    Attributes:
        early_s: how long before its decision a reward may arrive.
    """

    early_s: float

    @classmethod
    def of(cls, rule: RewardRule, *, early_s: float) -> StoreRule:
        """The rule, with a store's own `early_s`."""
        return cls(**{name: getattr(rule, name) for name in RewardRule.__struct_fields__}, early_s=early_s)


class Reward(msgspec.Struct, frozen=True, kw_only=True):
    """One report about one decision.

    Attributes:
        event_id: the decision. reward_id: unique within it; a second report with the same id is a duplicate.
        at_s: when it was reported, in seconds of the router's clock. outcome: the channels it carries.
        served_arm: id of the arm that served in fact, None for the decided one; then the outcome is that arm's.
        failure: how the decided arm failed, None where it did not, or nothing was said.
        source: who says so, for instance a client's key id; None where not given.
    """

    event_id: str
    reward_id: str
    at_s: float
    outcome: Outcome
    served_arm: str | None = None
    failure: Failure | None = None
    source: str | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One entry of the settled log: a decision, and the one outcome it ended with.

    Attributes:
        position: place in the log, from 1, without gaps. decision: the decision. outcome: combined channels.
        reward: their utility at the prices of that moment, None when a priced channel is missing.
        status: `rewarded`; `default` when the rule filled something in; `expired` without any usable reward;
            `unmetered` when a priced channel never came; `failed` when the arm did; `diverted` when another arm served
            in its place; `conflict` when two processes decided the event differently; `suspect` when a channel is far
            beyond all that was learned, see `door`.
        learned: whether the policy learned from it.
        failure: how the decided arm failed, None where it did not.
    """

    position: int
    decision: Decision
    outcome: Outcome
    reward: float | None
    status: Status
    learned: bool
    failure: FailureKind | None = None


def combine(rule: RewardRule, outcomes: Sequence[Outcome]) -> Outcome:
    """Merge partial outcomes, each channel on its own, in order of arrival.

    Example:
        >>> parts = [Outcome(cost_usd=0.002), Outcome(quality=0.9)]
        >>> combine(RewardRule(), parts) == Outcome(quality=0.9, cost_usd=0.002)
        True
    """
    if len(outcomes) == 1:
        return outcomes[0]
    aggregate = _AGGREGATES[rule.aggregate]
    merged = {}
    for name in CHANNELS:
        values = [value for outcome in outcomes if (value := getattr(outcome, name)) is not None]
        merged[name] = aggregate(values) if values else None
    return Outcome(**merged)


def refusal(
    rule: StoreRule, reward: Reward, decision: Decision | None, *, seen: Collection[str], settled: bool
) -> Refusal | None:
    """Why a reward does not count, or None; `seen` are the reward ids this decision already has.

    Where several reasons hold, the first is given, in the order they are asked in here.
    """
    problem = reward.outcome.problem()
    if problem is not None:
        return "invalid" if problem == "invalid" else "out_of_range"
    if decision is None or decision.timestamp_s - reward.at_s > rule.early_s:
        return "unknown"
    if reward.reward_id in seen:
        return "duplicate"
    if len(seen) >= MAX_REWARDS:
        return "too_many"
    if reward.at_s > decision.timestamp_s + rule.window_s:
        return "late"
    if settled:
        return "settled"
    if decision.degraded:
        return "degraded"
    return None if reward.served_arm in (None, decision.arm) else "diverted"


def settle(
    rule: RewardRule,
    utility: Utility,
    decision: Decision,
    outcomes: Sequence[Outcome],
    *,
    position: int,
    closed: bool,
) -> Settled | None:
    """The entry that settles a decision now, or None while it stays open."""
    if not closed and rule.aggregate != "first":
        return None
    outcome = combine(rule, outcomes).succeeded() if outcomes else Outcome()
    reward = utility.value(outcome)
    if not closed and (reward is None or (utility.scales and _lacks(outcome, utility.scales))):
        return None
    status: Status = "rewarded"
    if reward is None and rule.default is not None:
        outcome, status = _fill(outcome, rule.default).succeeded(), "default"
        reward = utility.value(outcome)
    if reward is None:
        status = "unmetered" if outcomes else "expired"
    return Settled(
        position=position,
        decision=decision,
        outcome=outcome,
        reward=reward,
        status=status,
        learned=reward is not None and decision.learnable,
    )


def _lacks(outcome: Outcome, channels: Iterable[str]) -> bool:
    return any(getattr(outcome, name) is None for name in channels)


def fail(
    rule: RewardRule,
    utility: Utility,
    decision: Decision,
    kind: FailureKind,
    outcome: Outcome,
    status: Literal["failed", "diverted"],
    *,
    position: int,
) -> Settled:
    """The entry that settles a decision at once, because its arm failed; `outcome` is what that arm's attempt took.

    By the arm's fault it is learned, and a priced channel that stays unknown leaves it without a reward.
    """
    by = rule.failures.of(kind)
    if by.fault:
        known = {"quality": by.quality, **dict.fromkeys(by.zero, 0.0), "failed": 1.0}
        outcome = _fill(outcome, Outcome(**known))
    return Settled(
        position=position,
        decision=decision,
        outcome=outcome,
        reward=utility.value(outcome),
        status=status,
        learned=by.fault and decision.learnable,
        failure=kind,
    )


def conflicting(decision: Decision, *, position: int) -> Settled:
    """The entry that settles a decision of which two processes know different draws: it teaches nothing."""
    return Settled(
        position=position, decision=decision, outcome=Outcome(), reward=None, status="conflict", learned=False
    )


def bill(rule: StoreRule, reward: Reward) -> Bill | None:
    """What a reward bills the budgets, refused or not; None when it has no channel that a limit could count."""
    outcome = countable(_told(rule, reward))
    if not outcome.metered():
        return None
    until_s = reward.at_s + rule.early_s if rule.early_s else 0.0
    return Bill(reward.event_id, outcome, reward.served_arm, until_s, reward.outcome.problem() is None)


def _told(rule: RewardRule, reward: Reward) -> Outcome:
    """The outcome with whether the decided arm has failed, where that is known."""
    outcome, failure = reward.outcome, reward.failure
    if failure is None:
        return outcome.succeeded() if reward.served_arm is None else outcome
    return _fill(outcome, Outcome(failed=1.0)) if rule.failures.of(failure.kind).fault else outcome


def check_ids(reward: Reward) -> None:
    """Raise InvalidInput unless every id of a reward can be one, see `check_id`."""
    check_id("event_id", reward.event_id)
    check_id("reward_id", reward.reward_id)
    if reward.served_arm is not None:
        check_id("served_arm", reward.served_arm)
    if reward.source is not None:
        check_id("source", reward.source)


def answer(
    reward: Reward, decision: Decision | None, entry: Settled | None = None, *, refused: Refusal | None = None
) -> Settlement:
    """What the reporter of a reward is told."""
    return Settlement(
        event_id=reward.event_id,
        arm=None if decision is None else decision.arm,
        reward=None if entry is None or refused is not None else entry.reward,
        refused=refused,
        outcome=reward.outcome,
        failure=None if entry is None else entry.failure,
    )


def _fill(outcome: Outcome, default: Outcome) -> Outcome:
    """`outcome` with its missing channels taken from `default`."""
    values = {name: getattr(outcome, name) for name in CHANNELS}
    return Outcome(**{n: getattr(default, n) if value is None else value for n, value in values.items()})
