"""Moments merge to the whole, the streaming pass agrees with the log in memory, and another cache is priced in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bandit_router.errors import InvalidInput, InvalidLog, Unanswerable
from bandit_router.paging.residency import Residency
from bandit_router.policies.caching.base import Capacity
from bandit_router.policies.caching.eviction import LRU
from bandit_router.records.outcomes import CHANNELS, Utility
from bandit_router.replay import stream as streaming
from bandit_router.replay.estimators.moments import Moments, difference, merged, sequence
from bandit_router.replay.estimators.sequences import weighted_difference, weighted_interval
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import LoggedEvents, write_log
from bandit_router.replay.residency import reprice, resident_under
from bandit_router.replay.stream import stream
from bandit_router.replay.targets import one_arm, uniform
from support.logs import uniform_log


def rows(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.choice([0.0, 4.0], n, p=[0.75, 0.25]), rng.random(n)


def test_moments_of_parts_merge_to_those_of_the_whole() -> None:
    weight, reward = rows()
    parts = [Moments.of(weight[i : i + 700], reward[i : i + 700]) for i in range(0, 3000, 700)]
    together, whole = merged(parts), Moments.of(weight, reward)
    for name in Moments.__struct_fields__:
        assert getattr(together, name) == pytest.approx(getattr(whole, name), rel=1e-12)


def test_errors_from_moments_are_those_of_the_rows() -> None:
    weight, reward = rows()
    moments = Moments.of(weight, reward)
    errors = moments.errors()
    scores, n = weight * reward, len(weight)
    assert errors["ips"] == pytest.approx(scores.std(ddof=1) / np.sqrt(n))
    assert errors["logged"] == pytest.approx(reward.std(ddof=1) / np.sqrt(n))
    assert errors["difference"] == pytest.approx((scores - reward).std(ddof=1) / np.sqrt(n))
    value = scores.sum() / weight.sum()
    assert errors["snips"] == pytest.approx((weight * (reward - value)).std(ddof=1) / np.sqrt(n) / weight.mean())
    assert moments.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_single_row_blocks_give_the_sequence_of_the_rows() -> None:
    weight, reward = rows(400)
    blocks = [Moments.of([w], [r]) for w, r in zip(weight, reward, strict=True)]
    assert sequence(blocks, (0.0, 1.0)) == pytest.approx(weighted_interval(weight, reward), abs=1e-9)
    ends = sequence([Moments.of([w], [10 * r - 3]) for w, r in zip(weight, reward, strict=True)], (-3.0, 7.0))
    expected = weighted_interval(weight, reward)
    assert ends == pytest.approx((10 * expected[0] - 3, 10 * expected[1] - 3), abs=1e-7)


def test_larger_blocks_cost_little_width_and_keep_the_difference() -> None:
    weight, reward = rows(20_000)
    blocks = [Moments.of(weight[i : i + 500], reward[i : i + 500]) for i in range(0, 20_000, 500)]
    low, high = sequence(blocks, (0.0, 1.0))
    exact = weighted_interval(weight, reward)
    assert high - low == pytest.approx(exact[1] - exact[0], rel=0.02)
    assert difference(blocks, (0.0, 1.0)) == pytest.approx(weighted_difference(weight, reward), abs=0.003)


def test_no_overlap_has_no_self_normalised_value() -> None:
    with pytest.raises(Unanswerable, match="no overlap"):
        Moments.of([0.0, 0.0], [1.0, 1.0]).snips()


@pytest.mark.parametrize("slice_rows", [512, 1 << 20])
@pytest.mark.parametrize("target", ["d", None])
def test_the_pass_over_files_gives_the_values_of_the_log_in_memory(
    target: str | None, slice_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SLICE", slice_rows)
    rng = np.random.default_rng(3)
    log = uniform_log(n=3000)
    eligible = rng.random((3000, 4)) < 0.6
    eligible[np.arange(3000), log.arm] = True
    outcomes = log.outcomes.copy()
    outcomes[::7, 0] = np.nan
    degraded = np.arange(3000) % 50 == 0
    log = uniform_log(n=3000, eligible=eligible, outcomes=outcomes, degraded=degraded)
    for name, part in (("a", slice(0, 1000)), ("b", slice(1000, None))):
        write_log(log.take(part), tmp_path / f"{name}.parquet")
    utility = Utility(prices={"cost_usd": 3.0})
    found = stream([tmp_path / "a.parquet", tmp_path / "b.parquet"], target, utility=utility)
    moments = {name: merged(blocks) for name, blocks in found.blocks.items()}
    usable = ~degraded & ~np.isnan(outcomes[:, 0])
    table = uniform(log) if target is None else one_arm(log, target)
    weight = (table[np.arange(3000), log.arm] / log.propensity)[usable]
    assert moments["quality"].w == pytest.approx(weight.sum())
    assert moments["utility"].wr == pytest.approx((weight * log.utility(utility)[usable]).sum())
    assert found.left_out == degraded.sum()
    assert found.unjoined["quality"] == (~degraded & np.isnan(outcomes[:, 0])).sum()


def test_a_log_without_usable_rows_or_columns_is_refused(tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "x.parquet"
    pl.DataFrame({"arm": ["a"], "propensity": [2.0], "quality": [1.0]}).write_parquet(path)
    with pytest.raises(InvalidLog, match="none of the 1 rows"):
        stream([path], "a")
    pl.DataFrame({"model": ["a"]}).write_parquet(path)
    with pytest.raises(InvalidLog, match="expected columns"):
        stream([path], "a")
    with pytest.raises(InvalidLog, match="expected an event log"):
        stream([tmp_path / "none.parquet"], "a")


# -- another cache --------------------------------------------------------------------------------------------------

SIZES = np.array([0.0, 1e8, 1e8, 1e8])


def expected_ms(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(sizes) / 1e6


def paged_log(n: int = 2000) -> LoggedEvents:
    """Nothing but arm 0 resident; service takes 1 s, a page-in 0.1 s."""
    log = uniform_log(n=n)
    resident = np.zeros((n, 4), dtype=np.bool_)
    resident[:, 0] = True
    outcomes = log.outcomes.copy()
    outcomes[:, CHANNELS.index("latency_s")] = 1.0 + 0.1 * (log.arm != 0)
    return uniform_log(n=n, resident=resident, outcomes=outcomes)


def test_with_everything_resident_the_latency_is_the_service_alone() -> None:
    log = paged_log()
    everything = np.ones((2000, 4), dtype=np.bool_)
    new = reprice(log, uniform(log), everything, SIZES, expected_ms)
    assert np.allclose(new.log.channel("latency_s"), 1.0)
    assert (new.logged_ms, new.new_ms) == (pytest.approx(75.0), 0.0)


def test_the_same_residency_changes_nothing() -> None:
    log = paged_log()
    assert log.resident is not None
    new = reprice(log, uniform(log), log.resident, SIZES, expected_ms)
    assert np.allclose(new.log.channel("latency_s"), log.channel("latency_s"))


def test_an_lru_of_one_slot_under_one_arm_misses_once() -> None:
    log = paged_log()
    target, load_ms = one_arm(log, "c"), expected_ms(SIZES)
    capacity = Capacity(sizes=SIZES, slots=1)
    residency = Residency(capacity=capacity, costs=load_ms)
    masks = resident_under(log, target, residency, LRU(capacity=capacity, costs=load_ms), load_ms)
    assert masks[0].tolist() == [True, False, False, False]
    assert masks[1:].tolist() == [[True, False, True, False]] * 1999
    new = reprice(log, target, masks, SIZES, expected_ms)
    value = evaluate(new.log, target, estimators=("snips",)).metrics["latency_s"].estimates["snips"].value
    assert value == pytest.approx(1.0, abs=0.001)
    assert new.new_ms == pytest.approx(0.05)


def test_a_log_without_the_resident_set_cannot_be_repriced() -> None:
    log = uniform_log()
    with pytest.raises(Unanswerable, match="no resident set"):
        reprice(log, uniform(log), np.ones((4000, 4), dtype=np.bool_), SIZES, expected_ms)
    with pytest.raises(InvalidInput, match="sizes must have shape"):
        reprice(paged_log(), uniform(paged_log()), np.ones((2000, 4), dtype=np.bool_), SIZES[:2], expected_ms)
