"""Records as bytes keep every field, and the records of before can be read."""

import re

import msgspec
import numpy as np
import pytest

from bandit_router import Arm, Budgets, Outcome, Rate, Router, Store
from bandit_router.records.decisions import Decision
from bandit_router.store.wire import decode_decision, encode_decision

FIELDS_OF_BEFORE = 16  # the tag and what a decision had before tenant, unit and resident
ORDER = """d1 event_id arm arm_index propensity probabilities context eligible penalty timestamp_s policy
    state_version degraded mode proposed booking tenant unit resident unhealthy"""
MASK = np.array([True, False, True])


def decision(**changes):
    """A decision with every field filled."""
    made = Router(
        arms=[Arm(id=arm) for arm in "abc"],
        context=2,
        budgets=Budgets(
            limits=[Rate(name="cap", channel="cost_usd", per_request=1.0)],
            expected={arm: Outcome(cost_usd=0.5) for arm in "abc"},
        ),
    ).decide([1.0, 0.5], event_id="r-1", eligible=["a", "c"], tenant="t", unit="u", resident=["a", "c"])
    return msgspec.structs.replace(made, **{"penalty": np.array([0.1, 0.2, 0.3]), "proposed": "a", **changes})


def same(mine, other):
    return np.array_equal(mine, other) if isinstance(mine, np.ndarray) else mine == other


@pytest.mark.parametrize(
    "empty", [None, "probabilities", "eligible", "penalty", "proposed", "booking", "tenant", "unit"]
)
def test_a_round_trip_keeps_every_field(empty):
    made = decision(**({} if empty is None else {empty: None}))
    again = decode_decision(encode_decision(made))
    for name in Decision.__struct_fields__:
        assert same(getattr(made, name), getattr(again, name)), name


def test_fields_are_written_in_the_order_that_the_format_has():
    made = decision()
    written = msgspec.msgpack.decode(encode_decision(made))
    order = re.findall(r"\w+", ORDER)
    found = dict(zip(order, written, strict=True))
    assert found["d1"] == "d1"
    for name in order[1:]:
        if name != "booking":
            value = getattr(made, name)
            assert found[name] == (value.tobytes() if isinstance(value, np.ndarray) else value), name


def test_a_record_of_before_lacks_only_what_it_did_not_know():
    made = decision()
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_decision(made))[:FIELDS_OF_BEFORE])
    again = decode_decision(old)
    assert (again.tenant, again.unit, again.resident) == (None, None, None)
    assert again.booking == made.booking
    assert np.array_equal(again.context, made.context)


def test_a_store_hands_back_whose_the_request_was(tmp_path):
    url = f"sqlite:///{tmp_path / 'events.db'}"
    arms = [Arm(id=arm) for arm in "abc"]
    with Router(arms=arms, context=1, store=Store(url)) as router:
        made = router.decide([1.0], event_id="r-1", tenant="t", unit="u", resident=["a", "c"])
    assert (made.tenant, made.unit, made.resident.tolist()) == ("t", "u", MASK.tolist())
    with Router(arms=arms, context=1, store=Store(url)) as router:
        again = router.decide([0.0], event_id="r-1")
    assert (again.tenant, again.unit, again.resident.tolist()) == ("t", "u", MASK.tolist())
