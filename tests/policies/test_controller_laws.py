"""Every law over every cache controller, and proof that the laws can fail."""

import numpy as np
import pytest

from bandit_router.policies.caching.base import CacheController
from bandit_router.policies.caching.eviction import LRU
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.controllers import CONTROLLERS, EVERYTHING, Hindsight, build_controller
from bandit_router.testing import CONTROLLER_LAWS, check_controller

LIMITED = [name for name in CONTROLLERS if name != EVERYTHING]  # that one has room for everything by definition


def factory(name):
    """A registered controller as the simulator builds it, told that arms 2 to 5 will be wanted in turn."""

    def make(*, capacity, costs):
        paging = Paging.__new__(Paging)
        paging.capacity, paging.costs = capacity, costs
        best = capacity.floor.copy()
        if capacity.room_for(best, 2):
            best[2] = True
        known = Hindsight(best, 0.0, 2 + np.arange(3000) % 4, seed=5)
        return build_controller(name, paging, known, {})

    return make


@pytest.mark.parametrize("law", CONTROLLER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", LIMITED)
def test_law(name, law):
    law(factory(name))


class Greedy(LRU):
    """Keeps everything it ever saw."""

    def _insert(self, arm):
        resident = self.resident.copy()
        resident[arm] = True
        return resident


class Shared(LRU):
    """Hands out its own array."""

    def after(self, served, values):
        proposal = self._after(served, values)
        if proposal is not None:
            self.resident = proposal
        return proposal


class Restless(LRU):
    """Proposes after misses, and does not say that they wake it."""

    wakes_on_miss = False


class Eager(LRU):
    """Proposes after every request."""

    def _after(self, served, values):
        return super()._after(served, values) if served.miss else self.resident.copy()


class Global(LRU):
    """Draws from the global generator."""

    def _touch(self, arm, step):
        self.priority[arm] = np.random.random()  # noqa: NPY002


class Diary(LRU):
    """Writes down every request."""

    def _touch(self, arm, step):
        super()._touch(arm, step)
        self.diary = [*getattr(self, "diary", []), arm]


class Vandal(LRU):
    """Writes into the context."""

    def _touch(self, arm, step):
        super()._touch(arm, step)

    def _after(self, served, values):
        served.context[:] = 0.0
        return super()._after(served, values)


class Careless(LRU):
    """Takes whatever costs it is given."""

    def __init__(self, *, capacity, costs):
        super().__init__(capacity=capacity, costs=np.zeros(len(capacity.sizes)))
        self.costs = costs


class Forcing(CacheController):
    """Forces an arm that does not exist."""

    def forced(self, step):
        return 99

    def _after(self, served, values):
        return None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Greedy, "proposals_fit_and_keep_what_is_pinned: three slots, insert: at step .* does not fit"),
        (Forcing, "proposals_fit_and_keep_what_is_pinned: .* forced arm 99"),
        (Vandal, "proposals_fit_and_keep_what_is_pinned: .* writes into what it is handed"),
        (Restless, "nothing_moves_while_it_holds: it proposed at step"),
        (Eager, "nothing_moves_while_it_holds: it proposed at step"),
        (Global, "equal_requests_give_equal_sets"),
        (Shared, "answers_are_copies"),
        (Diary, "memory_is_bounded: it grew"),
        (Careless, "impossible_costs_are_refused: costs were accepted"),
    ],
)
def test_a_broken_controller_is_named_with_the_law_it_breaks(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_controller(broken)
