"""Measuring joules and GPU-seconds: what counts them, and the split of a window's total over the requests it served.

A counter answers with a running total, or None where nothing is metered; None is passed on as null and never becomes 0.

Example:
    >>> requests = WindowSplit(RecordedMeter([100.0, 160.0]).joules)
    >>> requests.finish("r-1", prompt_tokens=0, output_tokens=20)
    >>> requests.finish("r-2", prompt_tokens=0, output_tokens=40)
    >>> requests.close()
    {'r-1': 20.0, 'r-2': 40.0}
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from bandit_router.errors import InvalidInput


class EnergyMeter(Protocol):
    """Counts joules."""

    def joules(self) -> float | None:
        """Joules since some fixed moment, or None when nothing is metered."""


class NoMeter:
    """No meter: the channel is null."""

    def joules(self) -> None:
        """None."""


class RecordedMeter:
    """Plays back recorded totals, one for each call; the last one stays. For tests and replay.

    Args:
        totals: joules, in order, not empty; None where the meter gave none.
    """

    def __init__(self, totals: Iterable[float | None]) -> None:
        self._totals = list(totals)
        if not self._totals:
            raise InvalidInput("a recorded meter needs at least one total")

    def joules(self) -> float | None:
        """The next total."""
        return self._totals.pop(0) if len(self._totals) > 1 else self._totals[0]


class NvmlMeter:
    """The energy counters of NVIDIA GPUs (Volta and later), summed. The GPU alone: no host, no cooling.

    Args:
        gpus: NVML indices; default all. NVML ignores CUDA_VISIBLE_DEVICES.

    Raises:
        ImportError: the package `nvidia-ml-py` is missing. A machine without a driver, or a GPU without the counter,
            is no error: `joules` is None there.
    """

    def __init__(self, gpus: Sequence[int] | None = None) -> None:
        try:
            import pynvml
        except ImportError:
            raise ImportError("NvmlMeter needs the extra 'energy': pip install 'bandit-router[energy]'") from None
        self._nvml: Any = pynvml
        self._handles: list[Any] = []
        try:
            pynvml.nvmlInit()
            indices = range(pynvml.nvmlDeviceGetCount()) if gpus is None else gpus
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices]
        except pynvml.NVMLError:
            self._handles = []

    def joules(self) -> float | None:
        """Joules since the driver was loaded; None without a GPU that counts them."""
        if not self._handles:
            return None
        try:
            millijoules = [self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles]
        except self._nvml.NVMLError:
            return None
        return float(sum(millijoules)) / 1000.0


class ZeusMeter:
    """Zeus (https://ml.energy/zeus): GPUs by counter or by polling power, and the host where `host` asks for it.

    Args:
        monitor: a `zeus.monitor.ZeusMonitor`; default one of all GPUs.
        host: add what Zeus knows of CPU and memory (RAPL).
    """

    _WINDOW = "bandit_router"

    def __init__(self, *, monitor: Any = None, host: bool = False) -> None:
        if monitor is None:
            try:
                from zeus.monitor import ZeusMonitor
            except ImportError:
                raise ImportError("ZeusMeter needs the extra 'energy': pip install 'bandit-router[energy]'") from None
            monitor = ZeusMonitor()
        self._monitor, self._host, self._total = monitor, host, 0.0
        self._monitor.begin_window(self._WINDOW)

    def joules(self) -> float | None:
        """Joules since this meter was made; None when Zeus measured nothing."""
        measured = self._monitor.end_window(self._WINDOW)
        self._monitor.begin_window(self._WINDOW)
        parts = [measured.gpu_energy, *((measured.cpu_energy, measured.dram_energy) if self._host else ())]
        amounts = [joules for part in parts for joules in (part or {}).values()]
        if not amounts:
            return None
        self._total += sum(amounts)
        return self._total


class GpuClock:
    """GPU-seconds by the clock: a GPU that is held counts whether it is busy or not, as it is billed.

    Args:
        gpus: how many are held; 0.5 for half of a shared one. clock: seconds, by default a monotonic clock.
    """

    def __init__(self, *, gpus: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < gpus < math.inf:
            raise InvalidInput(f"gpus must be finite and greater than 0, got {gpus}")
        self._gpus, self._clock = gpus, clock

    def seconds(self) -> float:
        """GPU-seconds since some fixed moment."""
        return self._gpus * self._clock()


class WindowSplit:
    """Shares each window's joules or GPU-seconds among the requests that finished in it, in proportion to tokens.

        share_i = total * (prompt_weight * prompt_i + output_i) / sum_j (prompt_weight * prompt_j + output_j)

    This is a declared rule, not a measurement: a batched GPU has none of its own per request. The shares of a window
    sum to what was counted in it, idle time included. A request that runs across windows is charged in the one it
    finishes in, and what is counted in a window in which none finished passes to the next.

    Args:
        counter: what counts: a running total, for instance `NvmlMeter().joules` or `GpuClock(gpus=2).seconds`.
        prompt_weight: what a prompt token counts for, in output tokens. Prompts are read in parallel, so it is well
            below 1; measure it for your model and engine. Default 0.1, an assumption.
    """

    def __init__(self, counter: Callable[[], float | None], *, prompt_weight: float = 0.1) -> None:
        if not 0 <= prompt_weight < math.inf:
            raise InvalidInput(f"prompt_weight must be finite and at least 0, got {prompt_weight}")
        self._counter, self.prompt_weight = counter, prompt_weight
        self._tokens: dict[str, float] = {}
        self._start = counter()

    def finish(self, request: str, *, prompt_tokens: int, output_tokens: int) -> None:
        """Count a request that was served."""
        if prompt_tokens < 0 or output_tokens < 0:
            raise InvalidInput(f"tokens must be at least 0, got {prompt_tokens} and {output_tokens}")
        self._tokens[request] = self.prompt_weight * prompt_tokens + output_tokens

    def close(self) -> dict[str, float | None]:
        """End the window: the share of every request that finished in it, all None when there was no total.

        Requests without a token share evenly if no other had one.
        """
        if not self._tokens:
            return {}
        end, start, tokens = self._counter(), self._start, self._tokens
        self._start, self._tokens = end, {}
        if (
            end is None or start is None or end <= start
        ):  # a counter that was reset, or has not moved yet, has no difference
            return dict.fromkeys(tokens)
        total = sum(tokens.values())
        if total == 0:
            return dict.fromkeys(tokens, (end - start) / len(tokens))
        return {request: (end - start) * (share / total) for request, share in tokens.items()}
