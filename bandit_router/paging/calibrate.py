"""Measure page-ins on this machine and write them as a paging profile."""

from __future__ import annotations

import gc
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_files import AdapterFile
from bandit_router.paging.model import PagingProfile, PagingRow
from bandit_router.paging.page_in import NotEvicted, Tier, energy_meter

PROBABILITIES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
# What a router pays for a miss: the most complete path that was measured, cold before warm.
DEFAULT_TIERS = ("cold-peft-gpu", "warm-peft-gpu", "cold-peft", "warm-peft", "cold-host", "warm-host")


def measure(
    adapters: Sequence[AdapterFile],
    tiers: Sequence[Tier],
    *,
    loads: int = 20,
    clock: Callable[[], float] = time.perf_counter,
    skipped: Callable[[str], None] = lambda _: None,
) -> Iterator[PagingRow]:
    """Time every adapter on every tier, yielding each row when it is complete.

    Args:
        adapters: files to load. tiers: page-ins to time; those through PEFT take adapters with a configuration only.
        loads: timed loads of each row, at least 1, after one that is not counted (imports, allocators).
        clock: seconds.
        skipped: told of a row that cannot be measured, and why.
    """
    if loads < 1:
        raise InvalidInput(f"loads must be at least 1, got {loads}")
    joules = energy_meter()
    for adapter in adapters:
        for tier in tiers:
            if "peft" in tier.name and not adapter.peft:
                skipped(f"{tier.name}, {adapter.size_mb:.1f} MB: no adapter_config.json beside the weights")
                continue
            try:
                yield _row(adapter, tier, loads, clock, joules)
            except NotEvicted as reason:
                skipped(f"{tier.name}, {adapter.size_mb:.1f} MB: {reason}")


def _row(
    adapter: AdapterFile, tier: Tier, loads: int, clock: Callable[[], float], joules: Callable[[], float]
) -> PagingRow:
    seconds, energy_j = np.zeros(loads + 1), np.zeros(loads + 1)
    for i in range(loads + 1):
        start = tier.prepare(adapter)
        gc.disable()  # no collection falls into the timed part
        try:
            before, began = joules(), clock()
            loaded = tier.load(adapter, start)
            seconds[i], energy_j[i] = clock() - began, joules() - before
        finally:
            gc.enable()
        del loaded, start
    gc.collect()
    mean_j = float(energy_j[1:].mean()) if tier.gpu else math.nan
    return PagingRow(
        tier=tier.name,
        size_mb=adapter.size_mb,
        quantiles_ms=tuple(round(1000 * q, 3) for q in np.quantile(seconds[1:], PROBABILITIES).tolist()),
        loads=loads,
        energy_j=mean_j if mean_j > 0 else None,
    )


def profile_of(
    rows: Sequence[PagingRow], tiers: Sequence[Tier], *, name: str, command: str, hardware: str, notes: str = ""
) -> PagingProfile:
    """The profile of what was measured; tiers without rows are left out.

    Raises:
        InvalidProfile: there is no row.
    """
    measured = {tier.name: tier.description for tier in tiers if any(row.tier == tier.name for row in rows)}
    return PagingProfile(
        name=name,
        summary="Adapters of safetensors files loaded on one machine",
        source=command,
        certainty="measured",
        hardware=hardware,
        default_tier=next((tier for tier in DEFAULT_TIERS if tier in measured), next(iter(measured), "")),
        tiers=measured,
        probabilities=PROBABILITIES,
        rows=tuple(rows),
        notes=notes,
    )


def write_profile(profile: PagingProfile, path: Path) -> None:
    """Write a profile as JSON: whole, or not at all."""
    text = msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n"
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        file.write(text)
        os.fsync(file.fileno())
    temporary.replace(path)


def describe_hardware(storage: Path) -> str:
    """Processor, memory, storage kind, system and library versions, without names of hosts or folders."""
    parts = [_processor(), _memory(), _storage(storage), f"{platform.system()} {_major_minor(platform.release())}"]
    return "; ".join(part for part in [*parts, _gpu(), _libraries()] if part)


def load_average() -> float:
    """Processes that ran or waited in the last minute; NaN where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def describe_conditions(load_at_start: float) -> str:
    """How busy the machine was, and what cold and PEFT mean here."""
    return (
        f"Load average {load_at_start:.1f} at the start, {load_average():.1f} at the end. Cold: evicted from this "
        "system's page cache, verified for every load; a hypervisor's or a device's own cache was not dropped. PEFT "
        "loads into a skeleton with the layer shapes of the adapter."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):
        return ""


def _storage(folder: Path) -> str:
    """File system of the mount that holds `folder`, and what its block device says of itself."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        here = folder.resolve()
        holding = [mount for mount in mounts if here.is_relative_to(mount[1])]
        device, _, kind = max(holding, key=lambda mount: len(mount[1]))[:3]
        disk = Path("/sys/class/block", Path(device).name).resolve()
        queue = disk / "queue" if (disk / "queue").is_dir() else disk.parent / "queue"
        spinning = (queue / "rotational").read_text(encoding="utf-8").strip() == "1"
    except (OSError, ValueError):
        return f"{kind} storage" if "kind" in locals() else ""
    virtual = "virtual " if Path(device).name.startswith(("vd", "xvd")) else ""
    return f"{virtual}{'rotating' if spinning and not virtual else 'block'} device with {kind}"


def _major_minor(release: str) -> str:
    return ".".join(release.split(".")[:2])


def _gpu() -> str:
    try:
        import torch

        gpu = str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "no GPU"
        return f"{gpu}; {torch.get_num_threads()} torch threads"
    except ImportError:
        return "no GPU seen (torch is not installed)"


def _libraries() -> str:
    found = []
    for package in ("safetensors", "torch", "peft"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
