import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS, COSTS, Outcome, Utility

amount = st.floats(0, 1e6)


def test_a_channel_that_was_not_metered_is_nan_and_not_zero():
    vector = Outcome(quality=0.5, energy_j=0.0).vector()
    np.testing.assert_array_equal(vector, [0.5, math.nan, 0.0, *[math.nan] * (len(CHANNELS) - 3)])
    assert Outcome(quality=0.5).vector(("quality",)).tolist() == [0.5]


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (Outcome(quality=0.0, tokens=12), None),
        (Outcome(quality=np.float32(0.5)), None),
        (Outcome(), None),
        (Outcome(quality=math.nan), "invalid"),
        (Outcome(quality=0.5, cost_usd=math.inf), "invalid"),
        (Outcome(quality="0.5"), "invalid"),
        (Outcome(quality=0.5, latency_s=1 + 2j), "invalid"),
        (Outcome(quality=1.0001), "out_of_range"),
        (Outcome(quality=-0.1), "out_of_range"),
        (Outcome(quality=0.5, energy_j=-1.0), "out_of_range"),
    ],
)
def test_a_problem_is_named(outcome, problem):
    assert outcome.problem() == problem


def test_utility_equals_the_hand_calculation():
    # 0.8 - 0.5 * 0.002 / 0.01 - 0.1 * 30 / 60 = 0.8 - 0.1 - 0.05
    utility = Utility(prices={"cost_usd": 0.5, "latency_s": 0.1}, scales={"cost_usd": 0.01, "latency_s": 60.0})
    assert utility.value(Outcome(quality=0.8, cost_usd=0.002, latency_s=30.0)) == pytest.approx(0.65)


def test_a_counting_channel_that_is_missing_leaves_no_utility():
    utility = Utility(prices={"cost_usd": 0.5, "energy_j": 0.0})
    assert utility.value(Outcome(quality=0.8)) is None
    assert utility.value(Outcome(cost_usd=0.1)) is None
    assert utility.value(Outcome(quality=0.8, cost_usd=0.2)) == pytest.approx(0.7)


@given(st.tuples(st.floats(0, 1), *[amount] * len(COSTS)), st.tuples(amount, amount))
def test_the_weights_price_a_vector_like_the_outcome_itself(values, prices):
    utility = Utility(prices={"cost_usd": prices[0], "tokens": prices[1]}, scales={"tokens": 100.0})
    outcome = Outcome(**dict(zip(CHANNELS, values, strict=True)))
    assert outcome.vector() @ utility.weights() == pytest.approx(utility.value(outcome), rel=1e-9, abs=1e-9)


def test_weights_follow_the_channels_asked_for():
    utility = Utility(prices={"energy_j": 0.3}, scales={"energy_j": 10.0})
    assert utility.weights(("quality", "energy_j")).tolist() == [1.0, -0.03]
    with pytest.raises(InvalidInput, match="energy_j is priced but not metered"):
        utility.weights(("quality", "cost_usd"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prices": {"quality": 1.0}},
        {"prices": {"carbon": 1.0}},
        {"prices": {"cost_usd": math.nan}},
        {"scales": {"cost_usd": 0.0}},
        {"scales": {"cost_usd": math.inf}},
    ],
)
def test_an_unusable_price_or_scale_is_refused(wrong):
    with pytest.raises(InvalidInput):
        Utility(**wrong)


def test_changing_a_price_keeps_the_others_and_the_old_utility():
    before = Utility(prices={"cost_usd": 0.2, "energy_j": 0.1}, scales={"cost_usd": 0.01})
    after = before.with_prices({"cost_usd": 0.4})
    assert after == Utility(prices={"cost_usd": 0.4, "energy_j": 0.1}, scales={"cost_usd": 0.01})
    assert before.prices["cost_usd"] == 0.2
