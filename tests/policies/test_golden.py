"""Numbers of every policy that change only on purpose: `python -m tests.golden` rewrites and shows them."""

import json

import pytest

from bandit_router.policies import POLICIES
from golden import PINNED, compute

KNOWN = json.loads(PINNED.read_text())


def test_exactly_the_registered_policies_are_pinned():
    assert list(KNOWN) == list(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_the_numbers_are_the_pinned_ones(name):
    """Plays exactly; utilities up to the order in which sums are formed, which differs between builds of BLAS."""
    numbers = compute(name)
    assert numbers["plays"] == KNOWN[name]["plays"]
    assert numbers["utility"] == pytest.approx(KNOWN[name]["utility"], rel=1e-9)
