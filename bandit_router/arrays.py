"""The arrays that are passed around, by element type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
"""Numbers, float64."""
Bool = NDArray[np.bool_]
"""A mask."""
Index = NDArray[np.intp]
"""Positions, for instance of arms."""
