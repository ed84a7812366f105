"""Calibration on tiny adapters: real files, real loads, and a clock with known times."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from bandit_router.cli.calibrate import app
from bandit_router.errors import InvalidInput, InvalidProfile
from bandit_router.paging import calibrate, page_in
from bandit_router.paging.adapter_files import AdapterFile, make_adapters
from bandit_router.paging.adapter_library import TINY
from bandit_router.paging.model import PagingModel, PagingProfile, PagingRow, load_profile
from bandit_router.paging.page_in import NotEvicted, Tier, host_tiers, read_host


@pytest.fixture
def adapters(tmp_path: Path) -> list[AdapterFile]:
    folder = tmp_path / "adapters"
    folder.mkdir()
    return make_adapters(folder, shape=TINY, ranks=[4, 8])


@pytest.fixture
def only_host_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_in, "available_tiers", lambda: (host_tiers(), ["no GPU in this test"]))


def nothing(adapter: AdapterFile, state: Any = None) -> None:
    return None


def measure(adapters: list[AdapterFile], tiers: list[Tier], **settings: Any) -> list[PagingRow]:
    """Rows under a clock that advances one second at each reading."""
    return list(calibrate.measure(adapters, tiers, clock=itertools.count().__next__, **settings))


def profile_from(rows: list[Any], tiers: list[Tier]) -> PagingProfile:
    return calibrate.profile_of(rows, tiers, name="mine", command="this test", hardware="this machine")


def test_a_profile_measured_here_can_be_loaded_back_and_sampled(adapters: list[AdapterFile], tmp_path: Path) -> None:
    tiers = host_tiers()[1:]
    rows = list(calibrate.measure(adapters, tiers, loads=3))
    calibrate.write_profile(profile_from(rows, tiers), tmp_path / "mine.json")
    profile = load_profile(tmp_path / "mine.json")
    assert profile.certainty == "measured"
    assert [(row.tier, row.loads, row.energy_j) for row in profile.rows] == [("warm-host", 3, None)] * 2
    assert [row.size_mb for row in profile.rows] == [adapter.size_mb for adapter in adapters]
    times = PagingModel(profile=profile).sample_ms(adapters[0].path.stat().st_size, np.linspace(0, 1, 9))
    assert times[[0, -1]].tolist() == [profile.rows[0].quantiles_ms[0], profile.rows[0].quantiles_ms[-1]]


def test_quantiles_are_those_of_the_clock_without_the_first_load(adapters: list[AdapterFile]) -> None:
    # The clock is read twice a load; the loads take 100, 1, 2, 3 seconds, of which the first is not counted.
    readings = itertools.accumulate([0, 100, 5, 1, 5, 2, 5, 3])
    (row,) = calibrate.measure(
        adapters[:1], [Tier("fake", "nowhere", nothing, nothing)], loads=3, clock=lambda: next(readings)
    )
    assert row.quantiles_ms[0] == 1000.0
    assert row.quantiles_ms[calibrate.PROBABILITIES.index(0.25)] == 1500.0
    assert row.quantiles_ms[calibrate.PROBABILITIES.index(0.5)] == 2000.0
    assert row.quantiles_ms[-1] == 3000.0


def test_joules_are_averaged_on_gpu_tiers_only(adapters: list[AdapterFile], monkeypatch: pytest.MonkeyPatch) -> None:
    counter = itertools.count(step=4)  # 4 J between two readings
    monkeypatch.setattr(calibrate, "energy_meter", lambda: lambda: float(next(counter)))
    tiers = [Tier("host", "to host", nothing, nothing), Tier("gpu", "to GPU", nothing, nothing, gpu=True)]
    assert [row.energy_j for row in measure(adapters[:1], tiers, loads=3)] == [None, 4.0]


def test_a_counter_that_did_not_move_is_not_zero_joules(
    adapters: list[AdapterFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "energy_meter", lambda: lambda: 7.0)
    (row,) = measure(adapters[:1], [Tier("gpu", "to GPU", nothing, nothing, gpu=True)], loads=2)
    assert row.energy_j is None


def test_the_collector_is_off_while_the_clock_runs_and_on_afterwards(adapters: list[AdapterFile]) -> None:
    seen = []
    tier = Tier("fake", "nowhere", nothing, lambda adapter, state: seen.append(gc.isenabled()))
    measure(adapters[:1], [tier], loads=2)
    assert seen == [False] * 3
    assert gc.isenabled()


def test_a_file_the_cache_keeps_is_never_called_cold(
    adapters: list[AdapterFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_in, "evict", lambda path: False)
    with pytest.raises(NotEvicted):
        page_in.make_cold(adapters[0])
    reasons: list[str] = []
    rows = list(calibrate.measure(adapters, host_tiers(), loads=1, skipped=reasons.append))
    assert {row.tier for row in rows} == {"warm-host"}
    assert len(reasons) == 2
    assert "page cache keeps the file" in reasons[0]


def test_tiers_through_peft_take_only_adapters_with_a_configuration(adapters: list[AdapterFile]) -> None:
    bare = AdapterFile(adapters[0].path, adapters[0].size_mb, peft=False)
    reasons: list[str] = []
    tier = Tier("warm-peft", "to PEFT", nothing, nothing)
    rows = measure([bare, adapters[1]], [tier], loads=1, skipped=reasons.append)
    assert [row.size_mb for row in rows] == [adapters[1].size_mb]
    assert "no adapter_config.json" in reasons[0]


def test_reading_to_host_copies_every_tensor_out_of_the_file(adapters: list[AdapterFile]) -> None:
    tensors = read_host(adapters[0])
    expected = load_file(adapters[0].path)
    assert tensors.keys() == expected.keys()
    adapters[0].path.write_bytes(b"")  # a lazily mapped tensor could not be read any more
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)


def test_no_row_makes_no_profile_and_no_loads_make_no_row(adapters: list[AdapterFile]) -> None:
    with pytest.raises(InvalidProfile):
        profile_from([], host_tiers())
    with pytest.raises(InvalidInput, match="at least 1"):
        list(calibrate.measure(adapters, host_tiers(), loads=0))


def test_a_failed_write_leaves_the_old_profile(
    adapters: list[AdapterFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = [Tier("fake", "nowhere", nothing, nothing)]
    profile = profile_from(measure(adapters, tiers, loads=1), tiers)
    path = tmp_path / "mine.json"
    path.write_text("old")
    monkeypatch.setattr(calibrate.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(OSError, match="no space left"):
        calibrate.write_profile(profile, path)
    assert path.read_text() == "old"


def test_the_hardware_is_described_without_folders_or_host_names(tmp_path: Path) -> None:
    import platform

    described = calibrate.describe_hardware(tmp_path)
    assert "cores" in described
    assert "/" not in described.replace("GNU/Linux", "")
    assert f" {platform.node()} " not in f" {described} "


@pytest.mark.usefixtures("only_host_tiers")
def test_the_command_measures_writes_the_profile_and_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    arguments = ["paging", "--base", "8,16,1,4", "--ranks", "2", "--storage", str(tmp_path), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout, type=PagingProfile) == load_profile(out)
    assert "warm-host" in load_profile(out).tiers
    assert "no GPU in this test" in load_profile(out).notes
    assert str(tmp_path) not in out.read_text()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("only_host_tiers")
def test_an_interrupt_writes_the_rows_that_are_complete(
    adapters: list[AdapterFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(calibrate.measure(adapters, host_tiers()[1:], loads=1))

    def interrupted(*arguments: Any, **settings: Any) -> Iterator[Any]:
        yield rows[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "measure", interrupted)
    out = tmp_path / "mine.json"
    arguments = ["paging", "--adapters", str(tmp_path / "adapters"), "--out", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 130
    assert load_profile(out).rows == (rows[0],)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--base", "nonesuch"], 2),
        (["--base", "8,16"], 2),
        (["--base", "8,16,0,4"], 2),
        (["--ranks", "2,x"], 2),
        (["--ranks", "0"], 2),
        (["--dtype", "int3"], 2),
        (["--loads", "19"], 2),
        (["--out", "mine.toml"], 2),
        (["--storage", "nonesuch"], 2),
        (["--storage", "/proc"], 1),
        (["--adapters", "nonesuch"], 4),
    ],
)
def test_the_command_refuses_what_it_cannot_do_and_writes_nothing(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["paging", "--base", "tiny", *arguments]).exit_code == code
    assert not list(tmp_path.iterdir())
