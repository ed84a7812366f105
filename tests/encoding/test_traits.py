"""Labels, tools and length as columns."""

from __future__ import annotations

import math

import pytest

from bandit_router.encoding.contexts import Request
from bandit_router.encoding.traits import Traits
from bandit_router.errors import InvalidInput


def test_columns_are_tags_modalities_tools_length_and_its_absence() -> None:
    encode = Traits(tags=["urgent", "legal"], modalities=["image"])
    assert encode.dim == 6
    request = Request(tags=("legal", "other"), modalities=("image", "audio"), tools=1, tokens=99)
    assert encode(request).tolist() == pytest.approx([0, 1, 1, 1, math.log(100) / math.log(1e6), 0])
    assert encode(Request()).tolist() == [0, 0, 0, 0, 0, 1]


def test_a_length_above_a_million_is_one() -> None:
    assert Traits()(Request(tokens=10**9))[1] == 1.0


@pytest.mark.parametrize("wrong", [{"tags": "urgent"}, {"tags": ["a", "a"]}, {"modalities": ["b", "b"]}])
def test_labels_are_distinct_and_a_sequence(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=r"Traits: [a-z]+ must be (distinct|a list of words), got"):
        Traits(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"tags": "urgent"}, {"tags": (1,)}, {"session": 3}, {"tenant": b"t"}, {"tools": -1}, {"tokens": 1.5}],
)
def test_a_request_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        Request(**wrong)
