"""Paging profiles and the model that draws from them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bandit_router.errors import InvalidInput, InvalidProfile
from bandit_router.paging.model import MB, PagingModel, PagingProfile, PagingRow, load_profile, profile_names


def row(**changes: Any) -> PagingRow:
    return PagingRow(**{"tier": "disk", "size_mb": 100.0, "quantiles_ms": (10.0, 20.0, 60.0), **changes})


def profile(*rows: PagingRow, **changes: Any) -> PagingProfile:
    settings: dict[str, Any] = {
        "name": "hand-made",
        "summary": "two sizes",
        "source": "this test",
        "certainty": "inferred",
        "hardware": "none",
        "default_tier": "disk",
        "tiers": {"disk": "storage -> host"},
        "probabilities": (0.0, 0.5, 1.0),
        "rows": rows or (row(), row(size_mb=200.0, quantiles_ms=(20.0, 40.0, 100.0))),
    }
    return PagingProfile(**{**settings, **changes})


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads_and_names_its_source_and_certainty(name: str) -> None:
    shipped = load_profile(name)
    assert shipped.name == name
    assert len(shipped.source) > 20
    assert shipped.certainty in {"measured", "found", "found_second_hand", "computed", "inferred"}
    assert len(shipped.hardware) > 10
    assert all(len(description) > 10 for description in shipped.tiers.values())


@pytest.mark.parametrize("name", profile_names())
def test_every_tier_gives_ascending_quantiles_at_every_size(name: str) -> None:
    """Every tier of every shipped profile gives ascending quantiles at every size."""
    shipped = load_profile(name)
    for tier in shipped.tiers:
        model = PagingModel(profile=shipped, tier=tier)
        times = model.sample_ms(np.array([[1], [40.4 * MB], [300 * MB], [2000 * MB]]), np.linspace(0, 1, 51))
        assert (times > 0).all()
        assert (np.diff(times, axis=1) >= -1e-9 * times[:, 1:]).all()


def test_the_three_regimes_of_the_literature_ship() -> None:
    assert {"pinned-host", "peft-local", "cloud-storage"} <= set(profile_names())


def test_the_peft_line_is_211_ms_plus_1604_us_per_mb() -> None:
    # Slope by hand: (1263 - 291) / (656 - 50) = 1.6040; intercept: 291 - 50 * 1.6040 = 210.80.
    sizes_mb = np.array([10.0, 80.7, 323.0, 645.9])
    expected = PagingModel.load("peft-local").expected_ms(sizes_mb * MB)
    assert expected == pytest.approx(210.80 + 1.6040 * sizes_mb, abs=0.05)


def test_the_pinned_profile_copies_ten_gigabytes_a_second() -> None:
    """The pinned profile copies ten gigabytes a second after a fixed cost."""
    model = PagingModel.load("pinned-host")
    assert float(model.expected_ms(100 * MB)) == pytest.approx(1.5 + 10.0)
    assert float(model.sample_ms(100 * MB, 0.0)) == pytest.approx(1.0 + 10.0)


def test_the_cloud_profile_has_the_published_percentiles() -> None:
    """The cloud profile has the published percentiles and nearly the published mean."""
    model = PagingModel.load("cloud-storage")
    assert model.sample_ms(80 * MB, [0.05, 0.5, 0.95]).tolist() == [1274.5, 4399.0, 6771.5]
    assert float(model.expected_ms(80 * MB)) == pytest.approx(4442.977, rel=0.015)
    assert model.expected_ms(1) == model.expected_ms(10_000 * MB)  # the source gives no sizes


def test_quantiles_are_interpolated_in_size_and_probability() -> None:
    model = PagingModel(profile=profile())
    # At 150 MB the quantiles are (15, 30, 80); at u = 0.75 half way from 30 to 80.
    assert float(model.sample_ms(150 * MB, 0.75)) == pytest.approx(55.0)
    # The mean of a piecewise linear quantile function: 0.5 * (15 + 30) / 2 + 0.5 * (30 + 80) / 2.
    assert float(model.expected_ms(150 * MB)) == pytest.approx(38.75)


def test_sizes_outside_the_table_cost_the_least_or_in_proportion() -> None:
    """Outside the table small sizes cost the smallest row and large ones grow in proportion."""
    model = PagingModel(profile=profile())
    assert model.sample_ms([1 * MB, 600 * MB], 0.5).tolist() == pytest.approx([20.0, 3 * 40.0])


def test_an_arm_of_no_bytes_costs_nothing() -> None:
    model = PagingModel(profile=profile())
    assert model.expected_ms([0, 100 * MB]).tolist() == [0.0, 27.5]
    assert float(model.sample_ms(0, 0.9)) == 0.0


def test_beyond_the_given_probabilities_the_end_quantiles_hold() -> None:
    model = PagingModel(profile=profile(row(quantiles_ms=(10.0, 20.0, 60.0)), probabilities=(0.2, 0.5, 0.8)))
    assert model.sample_ms(100 * MB, [0.0, 0.1, 0.9, 1.0]).tolist() == [10.0, 10.0, 60.0, 60.0]


def test_samples_follow_the_quantiles_and_average_to_the_expectation() -> None:
    model = PagingModel(profile=profile())
    uniform = np.random.default_rng(5).random(200_000)
    times = model.sample_ms(100 * MB, uniform)
    assert np.quantile(times, [0.25, 0.5, 0.75]) == pytest.approx([15.0, 20.0, 40.0], rel=0.01)
    # Standard deviation of the mean: about 14.4 / sqrt(200000) = 0.03.
    assert times.mean() == pytest.approx(float(model.expected_ms(100 * MB)), abs=0.15)


def test_a_uniform_gives_the_same_time_in_any_batch() -> None:
    """The same uniform gives the same time whatever else is in the batch."""
    model = PagingModel.load("cloud-storage")
    uniform = np.random.default_rng(0).random(7)
    alone = [float(model.sample_ms(50 * MB, u)) for u in uniform]
    assert model.sample_ms(np.full(7, 50 * MB), uniform).tolist() == alone


def test_energy_is_interpolated_only_where_every_row_is_metered() -> None:
    """Energy is interpolated where every row is metered and missing otherwise."""
    metered = profile(row(energy_j=2.0), row(size_mb=200.0, energy_j=6.0))
    assert float(PagingModel(profile=metered).energy_j(150 * MB)) == pytest.approx(4.0)
    assert PagingModel(profile=metered).energy_j([0, 400 * MB]).tolist() == [0.0, 12.0]
    partly = profile(row(energy_j=2.0), row(size_mb=200.0))
    assert np.isnan(PagingModel(profile=partly).energy_j([100 * MB, 200 * MB])).all()


def test_a_profile_written_as_json_or_toml_is_read_back(tmp_path: Any) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(msgspec.json.encode(profile()))
    assert load_profile(path) == profile()
    assert PagingModel.load(f"{path}@disk").tier == "disk"


def test_a_tier_is_chosen_by_name() -> None:
    two = profile(row(), row(tier="ram", quantiles_ms=(1.0, 1.0, 1.0)), tiers={"disk": "a", "ram": "b"})
    assert float(PagingModel(profile=two, tier="ram").expected_ms(100 * MB)) == 1.0
    with pytest.raises(InvalidInput, match="no tier 'tape'; it has disk, ram"):
        PagingModel(profile=two, tier="tape")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantiles_ms": (10.0, 9.0, 60.0)}, "ascending"),
        ({"quantiles_ms": (0.0, 9.0, 60.0)}, "above 0"),
        ({"quantiles_ms": (1.0, 9.0, float("inf"))}, "ascending"),
        ({"size_mb": -1.0}, "at least 0"),
        ({"energy_j": 0.0}, "leave it out"),
    ],
)
def test_a_row_with_impossible_numbers_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProfile, match=message):
        row(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": " "}, "state its source"),
        ({"probabilities": (0.5, 0.5, 1.0)}, "ascend strictly"),
        ({"probabilities": (0.0, 0.5)}, "2 quantiles_ms, got 3"),
        ({"default_tier": "tape"}, "not among tiers disk"),
        ({"rows": (row(tier="tape"),)}, "a tier among disk"),
        ({"rows": (row(), row())}, "distinct sizes"),
        ({"rows": (row(), row(size_mb=None))}, "distinct sizes"),
        ({"rows": ()}, "needs rows"),
    ],
)
def test_an_inconsistent_profile_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProfile, match=message):
        profile(**changes)


def test_an_unknown_profile_names_the_shipped_ones() -> None:
    with pytest.raises(InvalidProfile, match=r"shipped are .*peft-local"):
        load_profile("nonesuch")


def test_a_file_with_an_unknown_field_or_certainty_is_refused_by_name(tmp_path: Any) -> None:
    document = msgspec.to_builtins(profile())
    for change in ({"colour": "red"}, {"certainty": "sure"}, {"rows": [{"tier": "disk", "quantiles_ms": [0]}]}):
        path = tmp_path / "bad.json"
        path.write_bytes(msgspec.json.encode({**document, **change}))
        with pytest.raises(InvalidProfile, match=r"bad\.json"):
            load_profile(path)


@pytest.mark.parametrize(("size", "uniform"), [(-1, 0.5), (float("nan"), 0.5), (1, 1.5), (1, float("nan"))])
def test_sizes_and_uniforms_out_of_range_are_refused(size: float, uniform: float) -> None:
    with pytest.raises(InvalidInput):
        PagingModel(profile=profile()).sample_ms(size, uniform)
