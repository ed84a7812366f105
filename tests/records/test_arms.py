import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm, Catalogue, Status


def catalogue(*ids):
    return Catalogue([Arm(id=arm_id) for arm_id in ids or ("a", "b", "c")])


def test_an_adapter_carries_what_paging_and_pricing_need():
    arm = Arm(id="law", kind="adapter", base_model="llama", size_bytes=2**20, rank=16, tags=("legal",))
    assert (arm.kind, arm.base_model, arm.size_bytes, arm.rank, arm.tags) == ("adapter", "llama", 2**20, 16, ("legal",))


@pytest.mark.parametrize("wrong", [{"id": ""}, {"id": "a", "size_bytes": -1}])
def test_an_arm_without_id_or_with_negative_size_is_refused(wrong):
    with pytest.raises(InvalidInput):
        Arm(**wrong)


def test_numbers_of_numpy_and_whole_floats_are_taken_for_what_they_are():
    arm = Arm(id="a", size_bytes=8e7, rank=np.int64(16), input_usd_per_mtok=np.float64(3.0), tags=["legal"])
    assert arm == Arm(id="a", size_bytes=80_000_000, rank=16, input_usd_per_mtok=3.0, tags=("legal",))
    assert [type(value) for value in (arm.size_bytes, arm.rank, arm.input_usd_per_mtok)] == [int, int, float]


@pytest.mark.parametrize("wrong", [{"id": 7}, {"kind": "foo"}, {"size_bytes": 0.5}, {"rank": "16"}, {"tags": "legal"}])
def test_a_field_of_the_wrong_type_is_refused_by_name(wrong):
    with pytest.raises(InvalidInput, match=f"{next(iter(wrong))}: Expected|{next(iter(wrong))}: Invalid"):
        Arm(**{"id": "a", **wrong})


def test_arms_keep_the_order_they_came_in():
    arms = catalogue("z", "a")
    assert arms.add(Arm(id="m")) == 2
    assert arms.ids == ("z", "a", "m")
    assert [arm.id for arm in arms] == ["z", "a", "m"]
    assert (len(arms), arms[1].id, arms.index("m")) == (3, "a", 2)


def test_an_empty_catalogue_is_refused():
    with pytest.raises(InvalidInput, match="at least one arm"):
        Catalogue([])


def test_a_repeated_id_is_refused_even_after_retirement():
    arms = catalogue()
    arms.retire("a")
    with pytest.raises(InvalidInput, match="another id"):
        arms.add(Arm(id="a"))
    assert len(arms) == 3


def test_an_unknown_arm_is_refused_with_the_arms_there_are():
    with pytest.raises(InvalidInput, match=r"unknown arm 'x'.*a, b, c"):
        catalogue().pause("x")


def test_a_paused_arm_comes_back_and_a_retired_one_does_not():
    arms = catalogue()
    arms.pause("a")
    assert (arms.status("a"), arms.active().tolist()) == (Status.PAUSED, [False, True, True])
    arms.resume("a")
    assert arms.status("a") is Status.ACTIVE
    arms.retire("a")
    for operation in (arms.resume, arms.pause, arms.retire):
        with pytest.raises(InvalidInput, match="retired"):
            operation("a")
    assert arms.status("a") is Status.RETIRED


def test_the_mask_is_none_only_when_every_arm_may_be_drawn():
    arms = catalogue()
    assert arms.mask(None) is None
    assert arms.mask(["c", "a"]).tolist() == [True, False, True]
    arms.pause("c")
    assert arms.mask(None).tolist() == [True, True, False]
    assert arms.mask(["c", "a"]).tolist() == [True, False, False]
    assert arms.mask([]).tolist() == [False, False, False]
    with pytest.raises(InvalidInput, match="unknown arm"):
        arms.mask(["a", "x"])


def test_scribbling_on_the_active_mask_changes_nothing():
    arms = catalogue()
    arms.active()[:] = False
    arms.pause("a")
    arms.mask(None)[:] = False
    assert arms.active().tolist() == [False, True, True]
