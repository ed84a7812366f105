"""Adapter files made and found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_files import find_adapters, make_adapters, tensor_header
from bandit_router.paging.adapter_library import TINY, BaseShape


def test_made_adapters_hold_the_formula_s_parameters_in_peft_s_layout(tmp_path: Path) -> None:
    small, large = make_adapters(tmp_path, shape=TINY, ranks=[8, 4, 8])
    tensors = load_file(large.path)
    assert sum(tensor.size for tensor in tensors.values()) == TINY.lora_parameters(8)
    assert tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"].shape == (8, 64)
    assert tensors["base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight"].shape == (16, 8)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert small.size_mb < large.size_mb == large.path.stat().st_size / 1e6
    assert small.peft


def test_the_header_is_what_the_library_wrote(tmp_path: Path) -> None:
    save_file({"a": np.zeros((2, 3), np.float32)}, tmp_path / "a.safetensors", metadata={"format": "np"})
    header = tensor_header(tmp_path / "a.safetensors")
    assert {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()} == {"a": ("F32", [2, 3])}


def test_a_folder_gives_files_by_size_and_what_peft_can_load(tmp_path: Path) -> None:
    """A users folder gives its files by size and says which PEFT can load."""
    save_file({"a": np.zeros(100, np.float32)}, tmp_path / "large.safetensors")
    save_file({"a": np.zeros(10, np.float32)}, tmp_path / "small.safetensors")
    save_file({"b": np.zeros(10, np.float32)}, tmp_path / "small-too.safetensors")
    found = find_adapters(tmp_path)
    assert [(adapter.path.name, adapter.peft) for adapter in found] == [
        ("small-too.safetensors", False),
        ("large.safetensors", False),
    ]


def test_a_folder_without_adapters_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no \.safetensors file"):
        find_adapters(tmp_path)
    for content in (b"", b"not a header", b"\x02\0\0\0\0\0\0\0{"):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(InvalidInput, match="is not a safetensors file"):
            find_adapters(tmp_path)


def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    vast = BaseShape(id="vast", hidden=10**9, mlp=10**9, layers=10**3, kv_width=1)
    with pytest.raises(InvalidInput, match="MB are free"):
        make_adapters(tmp_path, shape=vast, ranks=[8])
    with pytest.raises(InvalidInput, match="float16 or float32"):
        make_adapters(tmp_path, shape=TINY, ranks=[8], dtype="int3")
    assert not list(tmp_path.iterdir())
