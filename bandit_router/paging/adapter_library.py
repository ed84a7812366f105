"""A library of LoRA adapters with the sizes that real ones have, worked out from the shapes of the base model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import msgspec

from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


class BaseShape(msgspec.Struct, frozen=True, kw_only=True):
    """Widths of a decoder-only transformer with gated MLP, as far as LoRA needs them.

    Attributes:
        id: name of the base model.
        hidden: width of the residual stream. mlp: width of the MLP. layers: decoder layers.
        kv_width: key/value heads times head size.
    """

    id: str
    hidden: int
    mlp: int
    layers: int
    kv_width: int

    def __post_init__(self) -> None:
        for name in ("hidden", "mlp", "layers", "kv_width"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"base shape {self.id!r}: {name} must be at least 1, got {getattr(self, name)}")

    def linears(self) -> dict[str, tuple[int, int]]:
        """The seven linear layers of one decoder layer: (input width, output width) by module name."""
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (self.hidden, self.kv_width),
            "self_attn.v_proj": (self.hidden, self.kv_width),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.hidden, self.mlp),
            "mlp.up_proj": (self.hidden, self.mlp),
            "mlp.down_proj": (self.mlp, self.hidden),
        }

    def lora_parameters(self, rank: int, modules: Sequence[str] | None = None) -> int:
        """Parameters of an adapter: rank * (input + output width) per adapted linear layer and decoder layer.

        Args:
            rank: LoRA rank, at least 1.
            modules: short module names such as "q_proj"; default all seven.

        Example:
            >>> QWEN2_5_7B.lora_parameters(1), QWEN2_5_7B.lora_parameters(1, ["q_proj", "v_proj"])
            (2523136, 315392)
        """
        if rank < 1:
            raise InvalidInput(f"rank must be at least 1, got {rank}")
        widths = {name.rpartition(".")[2]: sum(shape) for name, shape in self.linears().items()}
        unknown = set(modules or ()) - set(widths)
        if unknown:
            raise InvalidInput(f"unknown modules {', '.join(sorted(unknown))}; there are {', '.join(widths)}")
        return rank * self.layers * sum(widths[name] for name in (modules or widths))


# Widths from the model's published configuration.
QWEN2_5_7B = BaseShape(id="qwen2.5-7b", hidden=3584, mlp=18944, layers=28, kv_width=512)
TINY = BaseShape(id="tiny", hidden=32, mlp=64, layers=2, kv_width=16)
BASE_SHAPES = {shape.id: shape for shape in (QWEN2_5_7B, TINY)}


def adapter_library(
    *,
    n_adapters: int = 15,
    ranks: Sequence[int] = (8, 16, 32, 64),
    dtypes: Sequence[str] = ("bf16", "fp32"),
    shape: BaseShape = QWEN2_5_7B,
    extra_bytes: int = 10_000_000,
) -> list[Arm]:
    """Adapters over all linear layers of one base model, cycling through ranks and dtypes.

    Args:
        n_adapters: how many, at least 1.
        ranks: LoRA ranks to cycle through.
        dtypes: keys of `DTYPE_BYTES`; each adapter carries its own as a tag.
        shape: the base model.
        extra_bytes: bytes of the other files in an adapter's folder (tokenizer, configuration).

    Returns:
        Arms of kind "adapter" with `size_bytes` = parameters * bytes per parameter + `extra_bytes`.

    Raises:
        InvalidInput: nothing to cycle through, an unknown dtype, a rank or size below its least.

    The defaults are inferred, not published: they reproduce the range of 50 to 656 MB that notes on POLAR (arXiv
    2604.16583) give for 15 adapters of Qwen2.5-7B at ranks 8 to 64; 10 MB is about what Qwen's tokenizer files take.

    Example:
        >>> library = adapter_library(n_adapters=8)
        >>> [(arm.id, arm.size_bytes) for arm in (library[0], library[-1])]
        [('adapter-00-r8-bf16', 50370176), ('adapter-07-r64-fp32', 655922816)]
    """
    if n_adapters < 1 or extra_bytes < 0 or not ranks or not dtypes:
        raise InvalidInput(
            "adapter_library needs n_adapters of at least 1, extra_bytes of at least 0, and some ranks and dtypes; "
            f"got {n_adapters}, {extra_bytes}, {list(ranks)}, {list(dtypes)}"
        )
    unknown = set(dtypes) - set(DTYPE_BYTES)
    if unknown:
        raise InvalidInput(f"unknown dtypes {', '.join(sorted(unknown))}; there are {', '.join(DTYPE_BYTES)}")
    kinds = list(product(ranks, dtypes))
    digits = len(str(n_adapters - 1)) if n_adapters > 10 else 2
    return [
        Arm(
            id=f"adapter-{i:0{digits}d}-r{rank}-{dtype}",
            kind="adapter",
            base_model=shape.id,
            size_bytes=shape.lora_parameters(rank) * DTYPE_BYTES[dtype] + extra_bytes,
            rank=rank,
            tags=(dtype,),
        )
        for i, (rank, dtype) in enumerate(kinds[i % len(kinds)] for i in range(n_adapters))
    ]
