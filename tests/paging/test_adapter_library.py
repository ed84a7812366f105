"""Adapter sizes from the shapes of the base model."""

from __future__ import annotations

import pytest

from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_library import QWEN2_5_7B, BaseShape, adapter_library

# (input, output) of each projection of Qwen2.5-7B, written out by hand.
Q, K, V, OUT = (3584, 3584), (3584, 512), (3584, 512), (3584, 3584)
GATE, UP, DOWN = (3584, 18944), (3584, 18944), (18944, 3584)


def test_parameters_equal_the_sum_over_the_seven_projections() -> None:
    per_layer = sum(8 * inputs + outputs * 8 for inputs, outputs in (Q, K, V, OUT, GATE, UP, DOWN))
    assert QWEN2_5_7B.lora_parameters(8) == 28 * per_layer == 8 * 2_523_136


def test_parameters_of_attention_alone_equal_the_sum_over_its_projections() -> None:
    per_layer = sum(inputs + outputs for inputs, outputs in (Q, K, V, OUT))
    assert QWEN2_5_7B.lora_parameters(1, ["q_proj", "k_proj", "v_proj", "o_proj"]) == 28 * per_layer == 630_784
    assert QWEN2_5_7B.lora_parameters(16, ["q_proj", "v_proj"]) == 16 * 315_392


def test_weights_have_the_sizes_of_published_adapters() -> None:
    library = adapter_library(n_adapters=8, extra_bytes=0)
    assert [round(arm.size_bytes / 1e6, 1) for arm in library] == [40.4, 80.7, 80.7, 161.5, 161.5, 323.0, 323.0, 645.9]


def test_fifteen_adapters_span_fifty_to_656_megabytes_with_unique_ids() -> None:
    library = adapter_library()
    sizes_mb = [arm.size_bytes / 1e6 for arm in library]
    assert (len(library), len({arm.id for arm in library})) == (15, 15)
    assert (round(min(sizes_mb)), round(max(sizes_mb))) == (50, 656)
    assert {arm.kind for arm in library} == {"adapter"}
    assert {arm.rank for arm in library} == {8, 16, 32, 64}
    assert library[0].base_model == "qwen2.5-7b"
    assert library[0].tags == ("bf16",)


def test_two_hundred_adapters_keep_ids_of_one_length_in_order() -> None:
    ids = [arm.id for arm in adapter_library(n_adapters=200)]
    assert [name.split("-")[1] for name in ids] == [f"{i:03d}" for i in range(200)]


@pytest.mark.parametrize(
    "settings", [{"n_adapters": 0}, {"ranks": ()}, {"ranks": (0,)}, {"dtypes": ("int3",)}, {"extra_bytes": -1}]
)
def test_a_library_that_cannot_be_built_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        adapter_library(**settings)


def test_unknown_modules_and_empty_shapes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown modules w_pack; there are q_proj"):
        QWEN2_5_7B.lora_parameters(8, ["w_pack"])
    with pytest.raises(InvalidInput, match="layers must be at least 1"):
        BaseShape(id="none", hidden=1, mlp=1, layers=0, kv_width=1)
