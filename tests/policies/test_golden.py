"""Numbers of every policy that change only on purpose: `python -m tests.golden` rewrites and shows them."""

import json

import pytest

from bandit_router.policies import POLICIES
from golden import HORIZON, PINNED, compute

KNOWN = json.loads(PINNED.read_text())


def test_exactly_the_registered_policies_are_pinned():
    assert list(KNOWN) == list(POLICIES)


@pytest.mark.parametrize("name", [name for name in POLICIES if not name.startswith("VW")])
def test_the_numbers_are_the_pinned_ones(name):
    """Plays exactly; utilities up to the order in which sums are formed, which differs between builds of BLAS."""
    numbers = compute(name)
    assert numbers["plays"] == KNOWN[name]["plays"]
    assert numbers["utility"] == pytest.approx(KNOWN[name]["utility"], rel=1e-9)


@pytest.mark.parametrize("name", [name for name in POLICIES if name.startswith("VW")])
def test_the_numbers_of_vowpal_wabbit_are_the_pinned_ones(name):
    """Up to a few draws: its step sizes come from RSQRTSS, an approximation that Intel and AMD round differently."""
    numbers = compute(name)
    for plays, known in zip(numbers["plays"], KNOWN[name]["plays"], strict=True):
        assert sum(abs(a - b) for a, b in zip(plays, known, strict=True)) <= 0.02 * HORIZON
    assert numbers["utility"] == pytest.approx(KNOWN[name]["utility"], rel=5e-3)
