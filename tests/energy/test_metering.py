"""Meters: null is never zero, and a window's joules are split without remainder."""

from __future__ import annotations

import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit_router.energy.meters import GpuClock, NoMeter, NvmlMeter, RecordedMeter, WindowSplit, ZeusMeter
from bandit_router.errors import InvalidInput

TOKENS = st.tuples(st.integers(0, 5000), st.integers(0, 5000))


@given(st.lists(TOKENS, min_size=1, max_size=20), st.floats(1e-6, 1e6), st.floats(0.0, 1.0))
def test_the_shares_of_a_window_sum_to_what_the_meter_counted(tokens, joules, prompt_weight):
    window = WindowSplit(RecordedMeter([5.0, 5.0 + joules]).joules, prompt_weight=prompt_weight)
    for n, (prompt, output) in enumerate(tokens):
        window.finish(str(n), prompt_tokens=prompt, output_tokens=output)
    shares = window.close()
    assert len(shares) == len(tokens)
    assert sum(shares.values()) == pytest.approx(joules, rel=1e-9, abs=1e-6)


def test_a_share_is_in_proportion_to_weighted_tokens():
    """A share is in proportion to output tokens and weighted prompt tokens."""
    window = WindowSplit(RecordedMeter([0.0, 90.0]).joules, prompt_weight=0.1)
    window.finish("long prompt", prompt_tokens=100, output_tokens=10)
    window.finish("short", prompt_tokens=0, output_tokens=10)
    assert window.close() == {"long prompt": 60.0, "short": 30.0}


def test_a_counter_that_has_not_moved_yet_is_unknown_and_not_zero():
    window = WindowSplit(RecordedMeter([100.0, 100.0, 180.0]).joules)
    window.finish("early", prompt_tokens=10, output_tokens=20)
    assert window.close() == {"early": None}
    window.finish("late", prompt_tokens=10, output_tokens=20)
    assert window.close() == {"late": 80.0}


def test_joules_of_a_window_in_which_nothing_finished_pass_to_the_next():
    window = WindowSplit(RecordedMeter([0.0, 30.0]).joules)
    assert window.close() == {}
    window.finish("late", prompt_tokens=1, output_tokens=1)
    assert window.close() == {"late": 30.0}


@pytest.mark.parametrize(
    "meter", [NoMeter(), RecordedMeter([None]), RecordedMeter([3.0, None]), RecordedMeter([9.0, 1.0])]
)
def test_without_a_difference_every_share_is_null(meter):
    """Without a difference of two totals every share is null and not zero."""
    window = WindowSplit(meter.joules)
    window.finish("r", prompt_tokens=1, output_tokens=1)
    assert window.close() == {"r": None}


def test_gpu_seconds_are_the_clock_times_the_gpus_held_split_like_joules():
    times = iter([100.0, 103.0])
    window = WindowSplit(GpuClock(gpus=2, clock=lambda: next(times)).seconds)
    window.finish("a", prompt_tokens=0, output_tokens=10)
    window.finish("b", prompt_tokens=0, output_tokens=20)
    assert window.close() == {"a": 2.0, "b": 4.0}
    for gpus in (0.0, -1.0, float("inf")):
        with pytest.raises(InvalidInput, match="gpus must be finite"):
            GpuClock(gpus=gpus)


def test_requests_without_tokens_share_evenly():
    window = WindowSplit(RecordedMeter([0.0, 8.0]).joules)
    for name in "ab":
        window.finish(name, prompt_tokens=0, output_tokens=0)
    assert window.close() == {"a": 4.0, "b": 4.0}


def test_negative_tokens_and_weights_are_refused():
    with pytest.raises(InvalidInput, match="at least 0, got -1 and 0"):
        WindowSplit(NoMeter().joules).finish("r", prompt_tokens=-1, output_tokens=0)
    with pytest.raises(InvalidInput, match="prompt_weight"):
        WindowSplit(NoMeter().joules, prompt_weight=-0.1)
    with pytest.raises(InvalidInput, match="at least one total"):
        RecordedMeter([])


def fake_nvml(counters):
    """NVML of GPUs with these counters in millijoules; None stands for a GPU that has none."""
    module = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def read(handle):
        if counters[handle] is None:
            raise NVMLError("not supported")
        return counters[handle]

    def start():
        if counters is None:
            raise NVMLError("driver not loaded")

    module.NVMLError = NVMLError
    module.nvmlInit = start
    module.nvmlDeviceGetCount = lambda: len(counters)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetTotalEnergyConsumption = read
    return module


def test_nvml_counters_are_millijoules_and_are_summed_over_the_gpus_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([1500, 2500, 4000]))
    assert NvmlMeter().joules() == 8.0
    assert NvmlMeter(gpus=[0, 2]).joules() == 5.5


@pytest.mark.parametrize("counters", [None, [], [1000, None]])
def test_nvml_without_driver_without_gpu_or_without_counter_is_null(monkeypatch, counters):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(counters))
    assert NvmlMeter().joules() is None


class FakeZeus:
    """A monitor whose windows measured these energies in turn."""

    def __init__(self, *windows):
        self._windows, self.open = list(windows), False

    def begin_window(self, name):
        assert not self.open
        self.open = True

    def end_window(self, name):
        assert self.open
        self.open = False
        gpu, cpu, dram = self._windows.pop(0)
        return types.SimpleNamespace(gpu_energy=gpu, cpu_energy=cpu, dram_energy=dram)


def test_zeus_windows_add_up_to_a_running_total_of_the_gpus():
    meter = ZeusMeter(monitor=FakeZeus(({0: 5.0, 1: 2.0}, {0: 50.0}, None), ({0: 1.0, 1: 1.0}, None, None)))
    assert [meter.joules(), meter.joules()] == [7.0, 9.0]


def test_zeus_counts_the_host_only_when_asked():
    meter = ZeusMeter(monitor=FakeZeus(({0: 5.0}, {0: 50.0}, {0: 3.0})), host=True)
    assert meter.joules() == 58.0


def test_zeus_that_measured_nothing_is_null():
    assert ZeusMeter(monitor=FakeZeus(({}, None, None))).joules() is None


@pytest.mark.parametrize(("meter", "module"), [(NvmlMeter, "pynvml"), (ZeusMeter, "zeus.monitor")])
def test_an_adapter_whose_package_is_missing_names_the_extra(monkeypatch, meter, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"bandit-router\[energy\]"):
        meter()
