"""The page-ins that calibration times: from where, to where, through which loader."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bandit_router.paging.adapter_files import AdapterFile, check_installed, tensor_header
from bandit_router.paging.page_cache import evict

Prepare = Callable[[AdapterFile], Any]
Load = Callable[[AdapterFile, Any], Any]


@dataclass(frozen=True, slots=True)
class Tier:
    """One kind of page-in.

    Attributes:
        name: key in the profile. description: from where to where, through what.
        prepare: untimed; puts the adapter where the load starts from.
        load: timed; takes what `prepare` returned, and returns what the load produced, so that it stays alive.
        gpu: whether the load ends on a GPU.
    """

    name: str
    description: str
    prepare: Prepare
    load: Load
    gpu: bool = False


class NotEvicted(RuntimeError):
    """The page cache kept a file that a cold load must find gone."""


def make_cold(adapter: AdapterFile) -> None:
    """Evict the file, or refuse: a load from a warm cache must not be called cold."""
    if not evict(adapter.path):
        raise NotEvicted("this system's page cache keeps the file (a memory file system, or no posix_fadvise)")


def make_warm(adapter: AdapterFile) -> None:
    """Read the file once, so that the page cache holds it."""
    with adapter.path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def read_host(adapter: AdapterFile, _: Any = None) -> dict[str, Any]:
    """Read every tensor into ordinary host memory, copied: a lazily mapped tensor would not have been loaded."""
    if any(tensor["dtype"] == "BF16" for tensor in tensor_header(adapter.path).values()):
        try:
            from safetensors.torch import load_file as load_torch  # NumPy has no bfloat16
        except ImportError:
            raise ImportError("bfloat16 adapters need torch: pip install 'bandit-router[calibrate]'") from None
        return {name: tensor.clone() for name, tensor in load_torch(adapter.path).items()}
    from safetensors.numpy import load_file

    return load_file(adapter.path)


class PeftLoader:
    """Loads an adapter into a model through PEFT, next to one that is loaded already, and drops it again.

    The model is a skeleton: a linear layer of the right shape wherever the adapter has weights, its own weights a
    placeholder without memory, as neither adding nor loading an adapter reads them. So a 7B-shaped adapter can be
    loaded in full on a machine that could not hold the base model.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._prepared: AdapterFile | None = None
        self._model: Any = None

    def prepare(self, adapter: AdapterFile) -> None:
        """Build the model at the first load of an adapter; drop what the previous load left."""
        if self._prepared != adapter:
            from peft import PeftConfig, get_peft_model

            config = PeftConfig.from_pretrained(str(adapter.path.parent))
            self._model = get_peft_model(_skeleton(adapter, self.device), config, adapter_name="resident")
            self._prepared = adapter
        elif "incoming" in self._model.peft_config:
            self._model.delete_adapter("incoming")

    def load(self, adapter: AdapterFile, _: Any = None) -> None:
        """PeftModel.load_adapter with its defaults, which cast half precision to float32."""
        self._model.load_adapter(str(adapter.path.parent), "incoming", torch_device=self.device)
        _synchronize(self.device)


def _skeleton(adapter: AdapterFile, device: str) -> Any:
    """Nested modules with a linear layer for every pair of LoRA weights in the file."""
    import torch

    root = torch.nn.Module()
    shapes = {name: tensor["shape"] for name, tensor in tensor_header(adapter.path).items()}
    suffix = ".lora_A.weight"
    for name in (name for name in shapes if name.endswith(suffix)):
        module = name.removesuffix(suffix)
        inputs, outputs = shapes[name][1], shapes[f"{module}.lora_B.weight"][0]
        linear = torch.nn.Linear(inputs, outputs, bias=False, device="meta")
        placeholder = torch.zeros(1, dtype=torch.bfloat16, device=device).expand(outputs, inputs)
        linear.weight = torch.nn.Parameter(placeholder, requires_grad=False)
        parent, (*path, leaf) = root, module.removeprefix("base_model.model.").split(".")
        for step in path:
            if not hasattr(parent, step):
                parent.add_module(step, torch.nn.Module())
            parent = getattr(parent, step)
        parent.add_module(leaf, linear)
    return root


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def host_tiers() -> list[Tier]:
    """Storage to host memory through safetensors; needs no torch."""
    return [
        Tier("cold-host", "storage, evicted from the page cache -> host memory, safetensors", make_cold, read_host),
        Tier("warm-host", "page cache -> host memory, safetensors", make_warm, read_host),
    ]


def peft_tiers(device: str) -> list[Tier]:
    """Storage to a model on `device` through PEFT."""
    loader = PeftLoader(device)
    gpu = device.startswith("cuda")
    end, where = ("-gpu", "GPU") if gpu else ("", "host memory")

    def prepared(place: Prepare) -> Prepare:
        def prepare(adapter: AdapterFile) -> None:
            loader.prepare(adapter)
            place(adapter)

        return prepare

    cold = f"storage, evicted from the page cache -> model in {where}, PEFT load_adapter"
    warm = f"page cache -> model in {where}, PEFT load_adapter"
    return [
        Tier(f"cold-peft{end}", cold, prepared(make_cold), loader.load, gpu),
        Tier(f"warm-peft{end}", warm, prepared(make_warm), loader.load, gpu),
    ]


def gpu_tiers(device: str) -> list[Tier]:
    """Storage and host memory, pageable and pinned, to a GPU."""
    import torch
    from safetensors.torch import load_file

    def from_storage(adapter: AdapterFile, _: Any) -> Any:
        tensors = load_file(adapter.path, device=device)
        _synchronize(device)
        return tensors

    def pageable(adapter: AdapterFile) -> list[Any]:
        return [torch.as_tensor(tensor) for tensor in read_host(adapter).values()]

    def pinned(adapter: AdapterFile) -> list[Any]:
        return [tensor.pin_memory() for tensor in pageable(adapter)]

    def copy(_: AdapterFile, tensors: list[Any]) -> Any:
        copies = [tensor.to(device, non_blocking=True) for tensor in tensors]
        _synchronize(device)
        return copies

    return [
        Tier("cold-gpu", "storage, evicted from the page cache -> GPU, safetensors", make_cold, from_storage, True),
        Tier("warm-gpu", "page cache -> GPU, safetensors", make_warm, from_storage, True),
        Tier("pageable-gpu", "pageable host memory -> GPU, one copy per tensor", pageable, copy, True),
        Tier("pinned-gpu", "pinned host memory -> GPU, one copy per tensor", pinned, copy, True),
    ]


def available_tiers() -> tuple[list[Tier], list[str]]:
    """The tiers this machine can measure, and what is missing for the others.

    Raises:
        ImportError: safetensors is missing, without which there is none.
    """
    check_installed()
    tiers, missing = host_tiers(), []
    try:
        import torch
    except ImportError:
        return tiers, ["PEFT and GPU tiers need torch: pip install 'bandit-router[calibrate]'"]
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        missing.append("GPU tiers need a CUDA device, and torch sees none")
    else:
        tiers += gpu_tiers(device)
    try:
        import peft  # noqa: F401
    except ImportError:
        return tiers, [*missing, "PEFT tiers need peft: pip install 'bandit-router[calibrate]'"]
    return tiers + [tier for where in dict.fromkeys(("cpu", device)) for tier in peft_tiers(where)], missing


def energy_meter() -> Callable[[], float]:
    """Joules the first CUDA device has drawn since its driver started, by NVML; always NaN where it does not answer."""
    try:
        import pynvml
        import torch

        if not torch.cuda.is_available():
            return lambda: math.nan
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except ImportError:
        return lambda: math.nan
    except (AttributeError, pynvml.NVMLError):  # an older torch without UUIDs, or a GPU without the counter
        return lambda: math.nan
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) / 1000
