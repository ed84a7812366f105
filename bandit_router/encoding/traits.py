"""Encoders of what else is known of a request: labels, length, tools, modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bandit_router.arrays import F64
from bandit_router.declared import DISTINCT, Declared, setting
from bandit_router.encoding.contexts import Request

_LOG_MILLION = math.log(1e6)


class Traits(Declared):
    """One column per known tag and modality, then tools, log length, and whether the length is unknown.

    Args:
        tags, modalities: the known labels, distinct; others are left out. `dim` is their number + 3.

    Columns: 1 for each tag and modality that the request has; 1 if it offers tools; log(1 + tokens), 1 at a million;
    1 if the number of tokens is not known.

    Example:
        >>> encode = Traits(tags=["urgent"], modalities=["image"])
        >>> encode(Request(tags=("urgent",), tools=2, tokens=999)).round(3).tolist()
        [1.0, 0.0, 1.0, 0.5, 0.0]
    """

    tags: Sequence[str] = setting(default=(), check=DISTINCT, unit="labels")
    modalities: Sequence[str] = setting(default=(), check=DISTINCT, unit="labels")

    def _start(self) -> None:
        self.dim = len(self.tags) + len(self.modalities) + 3

    def __call__(self, request: Request) -> F64:
        """Shape (dim,)."""
        length = 0.0 if request.tokens is None else min(math.log1p(request.tokens) / _LOG_MILLION, 1.0)
        labels = [tag in request.tags for tag in self.tags] + [m in request.modalities for m in self.modalities]
        return np.array([*map(float, labels), float(request.tools > 0), length, float(request.tokens is None)])
