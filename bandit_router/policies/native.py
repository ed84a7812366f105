"""Whether the compiled kernels are there and wanted."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

import numpy as np

_kernels: ModuleType | None = None
if os.environ.get("BANDIT_ROUTER_KERNELS") != "numpy":  # asked once: one process works in one form
    with suppress(ImportError):  # built without a compiler
        from bandit_router.policies import _kernels


def kernels() -> ModuleType | None:
    """The compiled module; None where it was not built, or BANDIT_ROUTER_KERNELS=numpy was set before the import."""
    return _kernels


def kernel_name() -> str:
    """Which form new linear policies use: "numpy", or "compiled" with the vector instructions chosen at import."""
    module = kernels()
    return "numpy" if module is None else f"compiled {module.TARGET}"


def _sound(values: object, length: int, /) -> bool:
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != (length,):
        return False
    return math.isfinite(values.dot(values))


# Whether this is a float64 array of shape (length,) whose sum of squares is finite, so no element is NaN, infinite or
# too large to square. Bound, not wrapped: a decision asks twice.
sound: Callable[[object, int], bool] = _sound if _kernels is None else _kernels.sound
