"""The laws of a cache controller, functions of a factory `make(capacity=..., costs=...) -> CacheController`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.paging.residency import OnMiss, Residency
from bandit_router.policies.caching.base import CacheController, Capacity, Served, Values
from bandit_router.testing.laws import check, expect

ARMS, DIM, STEPS = 7, 2, 800
SIZES = np.array([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0])  # arm 0 takes no room; arm 1 is pinned
COSTS = 0.1 * SIZES
PINNED = np.arange(ARMS) == 1
CAPACITIES = {
    "three slots": Capacity(SIZES, 3, None, PINNED),
    "six bytes": Capacity(SIZES, None, 6.0, PINNED),
    "three slots of six bytes": Capacity(SIZES, 3, 6.0, PINNED),
    "no room": Capacity(SIZES, 1, None, PINNED),
    "no limit": Capacity(SIZES),
}
ROOM = CAPACITIES["three slots"]


class Factory(Protocol):
    """Makes a fresh controller; a controller class is one."""

    def __call__(self, *, capacity: Capacity, costs: F64) -> CacheController:
        """A controller that has seen nothing."""
        ...


def check_controller(make: Factory) -> None:
    """Check every law; raises AssertionError naming the first that is broken.

    Example:
        >>> from bandit_router import LRU
        >>> check_controller(LRU)
    """
    check(CONTROLLER_LAWS, make)


class Step(NamedTuple):
    """One step of `drive`: what the controller was asked and told, and what it answered; `held` before it was told."""

    served: Served
    forced: int | None
    held: int
    proposal: Bool | None


def drive(
    controller: CacheController, *, steps: int = STEPS, seed: int = 0, on_miss: OnMiss = "insert"
) -> Iterator[Step]:
    """Serve random requests under a controller as the simulator does, every proposal applied by `Residency`.

    The router plays the arm of the best noisy utility minus its paging cost, unless the controller forces one. What a
    controller is handed is read-only.
    """
    rng = np.random.default_rng(seed)
    slopes = np.random.default_rng(99).normal(size=(ARMS, DIM))

    def values(contexts: F64) -> tuple[F64, F64]:
        mean = 0.5 + 0.2 * contexts @ slopes.T
        return mean, np.full_like(mean, 0.05)

    residency = _residency(controller, on_miss)
    for step in range(steps):
        context = rng.uniform(-1, 1, DIM)
        context.flags.writeable = False
        forced = controller.forced(step)
        held = controller.holds(step) if forced is None else 1
        utility = values(context[None])[0][0] + 0.1 * rng.normal(size=ARMS) - residency.penalty()
        arm = int(utility.argmax()) if forced is None else forced
        expect(0 <= arm < ARMS, f"forced arm {arm} at step {step}; there are 0..{ARMS - 1}")
        served = Served(step, context, arm, residency.serve(arm, 1.0))
        proposal = _proposal(controller, served, values)
        if proposal is not None:
            _apply(residency, proposal, served)
        expect(
            bool((controller.resident == residency.resident).all()),
            f"after step {step} the controller holds {_ids(controller.resident)}, {_ids(residency.resident)} is there",
        )
        yield Step(served, forced, held, proposal)


def _residency(controller: CacheController, on_miss: OnMiss) -> Residency:
    start = controller.initial()
    try:
        return Residency(capacity=controller.capacity, costs=controller.costs, on_miss=on_miss, resident=start)
    except InvalidInput as error:
        raise AssertionError(f"the initial set {_ids(start)} does not do: {error}") from None


def _proposal(controller: CacheController, served: Served, values: Values) -> Bool | None:
    try:
        proposal = controller.after(served, values)
    except ValueError as error:
        if "read-only" in str(error):
            raise AssertionError(f"it writes into what it is handed: {error}") from None
        raise
    expect(
        proposal is None or (proposal.shape == (ARMS,) and proposal.dtype == np.bool_),
        f"expected None or booleans of shape ({ARMS},), got {proposal!r}",
    )
    return proposal


def _apply(residency: Residency, proposal: Bool, served: Served) -> None:
    try:
        residency.apply(proposal, np.ones(ARMS), missed=served.arm if served.miss else None)
    except InvalidInput as error:
        raise AssertionError(f"at step {served.step}: {error}") from None


def _ids(resident: Bool) -> list[int]:
    return [int(arm) for arm in np.flatnonzero(resident)]


def proposals_fit_and_keep_what_is_pinned(make: Factory) -> None:
    """Under slots, bytes, both, no room and no limit, on either kind of miss; and its own record is what is there."""
    for name, capacity in CAPACITIES.items():
        for on_miss in ("insert", "page_through"):
            try:
                for _ in drive(make(capacity=capacity, costs=COSTS), steps=300, on_miss=on_miss):
                    pass
            except AssertionError as error:
                raise AssertionError(f"{name}, {on_miss}: {error}") from None


def nothing_moves_while_it_holds(make: Factory) -> None:
    """Between the ends of what `holds` says, it neither forces nor proposes, unless a miss wakes it."""
    controller, until = make(capacity=ROOM, costs=COSTS), 0
    for served, forced, held, proposal in drive(controller):
        step = served.step
        expect(held >= 1, f"holds({step}) must be at least 1, got {held}")
        expect(step >= until or forced is None, f"it forced arm {forced} at step {step} though it held until {until}")
        until = until if step < until else step + held
        if served.miss and controller.wakes_on_miss:
            until = step + 1
        expect(step + 1 == until or proposal is None, f"it proposed at step {step} though it held until {until}")


def equal_requests_give_equal_sets(make: Factory) -> None:
    """Two fresh controllers on the same stream hold the same sets; what it draws comes from a seed it was given."""
    first, second = (make(capacity=ROOM, costs=COSTS) for _ in range(2))
    for ours, theirs in zip(drive(first), drive(second), strict=True):
        same = (first.resident == second.resident).all() and ours.forced == theirs.forced
        expect(bool(same), f"at step {ours.served.step}: {_ids(first.resident)} and {_ids(second.resident)}")


def answers_are_copies(make: Factory) -> None:
    """A caller may scribble on the initial set and on a proposal."""
    controller = make(capacity=ROOM, costs=COSTS)
    controller.initial()[:] = True
    before = controller.resident.copy()
    expect(bool((controller.initial() == before).all()), "the initial set changed with the caller's copy")
    for step in drive(controller):
        if step.proposal is not None:
            held = controller.resident.copy()
            step.proposal[:] = ~step.proposal
            expect(bool((controller.resident == held).all()), "the resident set changed with the caller's proposal")


def memory_is_bounded(make: Factory) -> None:
    """Three times as many requests do not make it larger; what it collects and settles may come and go."""
    controller, largest = make(capacity=ROOM, costs=COSTS), [0, 0, 0]
    for step in drive(controller, steps=3 * STEPS):
        third, done = divmod(step.served.step, STEPS)
        if done >= STEPS - 50:
            largest[third] = max(largest[third], len(pickle.dumps(vars(controller))))
    expect(largest[2] <= 1.05 * largest[0] + 64, f"it grew from {largest[0]} to {largest[2]} bytes pickled")


def impossible_costs_are_refused(make: Factory) -> None:
    """Costs of a wrong shape, negative or NaN raise InvalidInput."""
    for name, costs in (("shape", COSTS[1:]), ("negative", -COSTS), ("NaN", np.full(ARMS, np.nan))):
        try:
            make(capacity=ROOM, costs=costs)
        except InvalidInput:
            continue
        raise AssertionError(f"costs were accepted though wrong: {name}")


CONTROLLER_LAWS: tuple[Callable[[Factory], None], ...] = (
    proposals_fit_and_keep_what_is_pinned,
    nothing_moves_while_it_holds,
    equal_requests_give_equal_sets,
    answers_are_copies,
    memory_is_bounded,
    impossible_costs_are_refused,
)
