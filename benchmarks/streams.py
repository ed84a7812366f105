"""What the benchmarks of speed share: synthetic streams, the machine, where results go."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router import __version__
from bandit_router.arrays import F64
from bandit_router.policies.native import kernel_name

PACKAGES = (
    "numpy",
    "vowpal-wabbit-next",
    "paretobandit",
    "gittins",
    "river",
    "mabwiser",
    "contextualbandits",
    "bayesianbandits",
    "coba",
    "obp",
)
Size = tuple[int, int]


def linear(n_arms: int, dim: int, steps: int, *, seed: int = 0, decay: float = 0.0) -> tuple[F64, F64, F64]:
    """Contexts (steps, dim), rewards and their means (steps, arms): x ~ N(0, I), theta_a ~ N(0, I / d), noise 0.3.

    With `decay` the standard deviations of the contexts fall as i^-decay along a random basis, as in text embeddings.
    """
    rng = np.random.default_rng(seed)
    contexts, theta = rng.normal(size=(steps, dim)), rng.normal(size=(n_arms, dim)) / dim**0.5
    if decay:
        scale = np.arange(1, dim + 1) ** -decay
        turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        contexts = (contexts * (scale * np.sqrt(dim / (scale**2).sum()))) @ turn
    means = contexts @ theta.T
    return contexts, means + 0.3 * rng.normal(size=means.shape), means


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Processor, load and versions: what a figure must be read with."""
    found = {"bandit-router": __version__, "python": platform.python_version(), "kernels": kernel_name()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    processor = {
        "architecture": platform.machine(),
        "model": _processor(),
        "cores": os.cpu_count(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }
    return {"machine": processor, "versions": found}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def publish(document: dict[str, Any]) -> None:
    """The document as JSON on stdout, numbers to five digits."""
    print(json.dumps(_short(document), indent=1))


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
