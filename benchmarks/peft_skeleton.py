"""Does the skeleton that calibration loads adapters into behave as a real model does?

Builds a Qwen2 of few layers at Qwen2.5-7B's widths (random weights) and the skeleton of the same adapter, loads the
adapter into both through PEFT, alternating, and compares the weights and the milliseconds. Needs the calibrate extra.

    python benchmarks/peft_skeleton.py > peft_skeleton.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftConfig, get_peft_model
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from bandit_router.paging.adapter_files import AdapterFile, make_adapters
from bandit_router.paging.adapter_library import BaseShape
from bandit_router.paging.page_in import PeftLoader

LOADER = PeftLoader("cpu")


def real_model(layers: int) -> Any:
    """A Qwen2 of the right widths; its weights are never read, so they stay as allocated."""
    config = Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=layers,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=1000,
    )
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    return model.to_empty(device="cpu")


def load_ms(model: Any, adapter: AdapterFile) -> float:
    """Milliseconds of one load_adapter; the adapter stays, to be compared or dropped."""
    began = time.perf_counter()
    model.load_adapter(str(adapter.path.parent), "incoming", torch_device="cpu")
    return 1000 * (time.perf_counter() - began)


def same_weights(model: Any, adapter: AdapterFile) -> bool:
    """Whether every tensor of the file arrived in the model."""
    loaded = model.state_dict()
    file = load_file(adapter.path)
    return all(
        torch.equal(loaded[name.replace(".weight", ".incoming.weight")], tensor.float())
        for name, tensor in file.items()
    )


def compare(adapter: AdapterFile, layers: int, loads: int) -> dict[str, Any]:
    """Medians over alternating loads."""
    LOADER.prepare(adapter)
    config = PeftConfig.from_pretrained(str(adapter.path.parent))
    models = {"real": get_peft_model(real_model(layers), config, adapter_name="resident"), "skeleton": LOADER._model}
    times: dict[str, list[float]] = {name: [] for name in models}
    same = dict.fromkeys(models, True)
    for _ in range(loads + 1):
        for name, model in models.items():
            times[name].append(load_ms(model, adapter))
            same[name] &= same_weights(model, adapter)
            model.delete_adapter("incoming")
    medians = {name: float(np.median(values[1:])) for name, values in times.items()}
    return {
        "size_mb": adapter.size_mb,
        "layers": layers,
        "loads": loads,
        "all_weights_arrived": same,
        "median_ms": {name: round(value, 1) for name, value in medians.items()},
        "skeleton_over_real": round(medians["skeleton"] / medians["real"], 3),
    }


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--loads", type=int, default=20)
    settings = parser.parse_args()
    shape = BaseShape(id="qwen2.5-7b, few layers", hidden=3584, mlp=18944, layers=settings.layers, kv_width=512)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for adapter in make_adapters(Path(folder), shape=shape, ranks=[8, 64]):
            print(f"{adapter.size_mb:.1f} MB", file=sys.stderr)
            rows.append(compare(adapter, settings.layers, settings.loads))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
