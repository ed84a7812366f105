"""Whether the compiled kernels are there and wanted."""

from __future__ import annotations

import os
from types import ModuleType

_kernels: ModuleType | None
try:
    from bandit_router.policies import _kernels
except ImportError:  # built without a compiler
    _kernels = None


def kernels() -> ModuleType | None:
    """The compiled module, or None where it was not built or BANDIT_ROUTER_KERNELS=numpy asks for the NumPy form."""
    return None if os.environ.get("BANDIT_ROUTER_KERNELS") == "numpy" else _kernels


def kernel_name() -> str:
    """Which form new linear policies use: "numpy", or "compiled" with the vector instructions chosen at import."""
    module = kernels()
    return "numpy" if module is None else f"compiled {module.TARGET}"
