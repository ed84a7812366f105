"""Adapter files to measure: real safetensors in PEFT's layout, made on the spot or found in a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_library import BaseShape
from bandit_router.paging.model import MB

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """One adapter on storage.

    Attributes:
        path: its safetensors file.
        size_mb: bytes of that file, in MB (10^6 bytes).
        peft: whether PEFT's configuration lies beside it.
    """

    path: Path
    size_mb: float
    peft: bool


def check_installed() -> None:
    """Raise ImportError with the way out when safetensors is missing."""
    if importlib.util.find_spec("safetensors") is None:
        raise ImportError("measuring adapters needs safetensors: pip install 'bandit-router[calibrate]'")


def make_adapters(
    folder: Path, *, shape: BaseShape, ranks: Sequence[int], dtype: str = "float16", seed: int = 0
) -> list[AdapterFile]:
    """Write one adapter of random weights per rank, over all linear layers of `shape`.

    Args:
        folder: an existing folder on the storage to be measured.
        shape: widths of the base model. ranks: LoRA ranks.
        dtype: "float16" (as many bytes as bfloat16, which NumPy lacks) or "float32".
        seed: of the weights, which no timing depends on.

    Raises:
        InvalidInput: an unknown dtype, a rank below 1, or too little space; nothing has been written.
        ImportError: safetensors is missing.
    """
    check_installed()
    from safetensors.numpy import save_file

    if dtype not in {"float16", "float32"}:
        raise InvalidInput(f"dtype must be float16 or float32, got {dtype!r}")
    needed = sum(shape.lora_parameters(rank) for rank in set(ranks)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed * 1.1 > free:
        raise InvalidInput(f"the adapters need {needed / MB:.0f} MB, {free / MB:.0f} MB are free; use fewer ranks")
    rng = np.random.default_rng(seed)
    for rank in sorted(set(ranks)):
        target = folder / f"rank-{rank}"
        target.mkdir()
        save_file(dict(_weights(shape, rank, dtype, rng)), target / WEIGHTS)
        config = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": rank,
            "target_modules": sorted(name.rpartition(".")[2] for name in shape.linears()),
            "inference_mode": True,
        }
        (target / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return find_adapters(folder)


def _weights(shape: BaseShape, rank: int, dtype: str, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    for layer in range(shape.layers):
        for name, (inputs, outputs) in shape.linears().items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            for part, size in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                yield f"{module}.{part}.weight", rng.standard_normal(size, dtype=np.float32).astype(dtype)


def find_adapters(folder: Path) -> list[AdapterFile]:
    """The safetensors files under a folder, smallest first; of several with the same size, the first by path.

    Raises:
        InvalidInput: there is none, or one is not in the safetensors format.
    """
    found: dict[int, AdapterFile] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensor_header(path)
        size = path.stat().st_size
        peft = path.name == WEIGHTS and (path.parent / CONFIG).is_file()
        found.setdefault(size, AdapterFile(path, size / MB, peft))
    if not found:
        raise InvalidInput(f"no .safetensors file under {os.fspath(folder)}; give the folder that holds the adapters")
    return [found[size] for size in sorted(found)]


def tensor_header(path: Path) -> dict[str, dict[str, Any]]:
    """Dtypes and shapes of a safetensors file's tensors by name, from its header alone.

    Raises:
        InvalidInput: the file is not in the safetensors format.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, dict[str, Any]] = json.loads(file.read(length))
    except (ValueError, struct.error, OverflowError, MemoryError):
        raise InvalidInput(f"{path} is not a safetensors file; take it out of the folder") from None
    header.pop("__metadata__", None)
    return header
