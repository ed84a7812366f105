"""Every law over every environment that a preset names, and proof that the laws can fail."""

import numpy as np
import pytest

from bandit_router.simulators.adapters import LinearAdapters, TableAdapters
from bandit_router.simulators.configs import TraceConfig
from bandit_router.simulators.environment import Block
from bandit_router.simulators.scenario import load_scenario, presets
from bandit_router.simulators.table import load_table
from bandit_router.testing import ENVIRONMENT_LAWS, check_environment


def environments():
    """Those of the presets; a trace of named adapters has no outcomes, so it is not an `Environment`."""
    for name in presets():
        scenario, folder = load_scenario(name)
        if not isinstance(scenario.environment, TraceConfig):
            yield pytest.param(scenario.environment.build(name, folder), id=name)
    yield pytest.param(LinearAdapters(drift="utility"), id="utility-drift")
    yield pytest.param(TableAdapters(load_table("models_llm")), id="adapter_table")


@pytest.mark.parametrize("law", ENVIRONMENT_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("environment", list(environments()))
def test_law(environment, law):
    law(environment)


class Twins(LinearAdapters):
    """Names two arms alike."""

    def __init__(self):
        super().__init__(n_adapters=2)
        self.arms = (self.arms[0],) * 3


class Unlimited(LinearAdapters):
    """Has a reference amount of nothing."""

    def __init__(self):
        super().__init__(n_adapters=2)
        self.scales = {"cost_usd": 0.0}


class Changed(LinearAdapters):
    """Gives out blocks that `change` has spoilt."""

    def __init__(self):
        super().__init__(n_adapters=2)

    def blocks(self, seed, horizon):
        for block in super().blocks(self.seed(seed), horizon):
            yield Block(*self.change(*block[:3]))

    def seed(self, seed):
        return seed

    def change(self, contexts, outcomes, means):
        return contexts, outcomes, means


class Wide(Changed):
    """Its contexts are longer than it says."""

    def change(self, contexts, outcomes, means):
        return np.hstack([contexts, contexts]), outcomes, means


class Monotonous(Changed):
    """Ignores the seed."""

    def seed(self, seed):
        return 0


class Optimist(Changed):
    """Says that the arms are better than they are."""

    def change(self, contexts, outcomes, means):
        return contexts, outcomes, means + 0.05


class Stateful(Changed):
    """Draws from a generator of its own, whatever stream is read."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def change(self, contexts, outcomes, means):
        return contexts, means + 0.1 * self.rng.normal(size=means.shape), means


class Exposed(LinearAdapters):
    """Keeps its stream and hands out views of it."""

    def __init__(self):
        super().__init__(n_adapters=2)
        self.kept = {}

    def blocks(self, seed, horizon):
        self.kept.setdefault((seed, horizon), list(super().blocks(seed, horizon)))
        yield from self.kept[seed, horizon]


class Unspeakable(Changed):
    """Describes itself by an array."""

    def describe(self):
        return {"theta": np.zeros(2)}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Twins, "arms_and_channels_are_named_once: arms must be"),
        (Unlimited, "arms_and_channels_are_named_once: scales name 'cost_usd'"),
        (Wide, r"blocks_have_the_declared_shapes: contexts of block 0 must have shape \(1024, 5\)"),
        (Stateful, "a_seed_is_a_stream: two readings"),
        (Monotonous, "a_seed_is_a_stream: seeds 1 and 2"),
        (Exposed, "a_reader_cannot_spoil_it"),
        (Optimist, "means_are_what_outcomes_average: quality of base averages"),
        (Unspeakable, "its_description_is_json"),
    ],
)
def test_a_broken_environment_is_named_with_the_law_it_breaks(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_environment(broken())
