"""Joules per request: interpolation, importers, and the shipped figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bandit_router.energy.table import (
    EnergyRow,
    EnergyTable,
    greenserv_models,
    greenserv_table,
    read_energy_csv,
    read_mlenergy,
)
from bandit_router.errors import InvalidInput


def row(concurrency, **changes):
    fixed = {"model": "m", "gpu": "H100", "basis": "measured", "source": "s", "per_output_token_j": 1.0}
    return EnergyRow(concurrency=concurrency, **fixed | changes)


def joules(table, concurrency, prompt=0, output=1, **key):
    return table.request("m", gpu="H100", concurrency=concurrency, prompt_tokens=prompt, output_tokens=output, **key)


def test_a_request_costs_its_fixed_part_and_its_tokens():
    table = EnergyTable([row(1, fixed_j=5.0, per_prompt_token_j=0.1, per_output_token_j=2.0)])
    assert joules(table, 1, prompt=10, output=3).joules == pytest.approx(5.0 + 1.0 + 6.0)


def test_between_rows_joules_fall_as_a_power_of_the_concurrency():
    """From 8 J at 1 to 1 J at 64 is a power of -1/2."""
    table = EnergyTable([row(64, per_output_token_j=1.0), row(1, per_output_token_j=8.0)])
    for concurrency in (2.0, 4.0, 10.0, 33.0):
        assert joules(table, concurrency).joules == pytest.approx(8.0 * concurrency**-0.5)


def test_outside_the_rows_nothing_is_extrapolated():
    table = EnergyTable([row(2, per_output_token_j=8.0), row(8, per_output_token_j=2.0)])
    assert (joules(table, 1).joules, joules(table, 100).joules) == (pytest.approx(8.0), pytest.approx(2.0))


def test_only_a_measured_row_met_exactly_is_called_measured():
    table = EnergyTable([row(2, source="a"), row(8, source="b"), row(16, basis="modelled")])
    assert [joules(table, c).basis for c in (2, 4, 16, 32)] == ["measured", "modelled", "modelled", "modelled"]
    assert joules(table, 2).source == "a"


def test_a_coefficient_that_is_zero_in_one_row_is_joined_linearly():
    table = EnergyTable([row(1, fixed_j=0.0), row(4, fixed_j=10.0)])
    assert joules(table, 2, output=0).joules == pytest.approx(5.0)


def test_load_energy_is_null_where_no_row_knows_it():
    assert EnergyTable([row(1)]).load("m", gpu="H100") is None
    assert EnergyTable([row(1), row(2, load_j=900.0)]).load("m", gpu="H100") == 900.0


def test_an_unknown_gpu_is_refused_with_those_that_are_known():
    table = EnergyTable([row(1), row(1, gpu="B200", num_gpus=2)])
    with pytest.raises(InvalidInput, match="no energy row for 'm' on A100 x 1; it has B200 x 2, H100 x 1"):
        table.request("m", gpu="A100", concurrency=1, prompt_tokens=0, output_tokens=0)
    with pytest.raises(InvalidInput, match="models are m"):
        table.request("x", gpu="A100", concurrency=1, prompt_tokens=0, output_tokens=0)


@pytest.mark.parametrize(("concurrency", "output"), [(0, 1), (float("nan"), 1), (1, -1), (1, float("inf"))])
def test_numbers_that_are_no_request_are_refused(concurrency, output):
    with pytest.raises(InvalidInput, match="must be finite"):
        joules(EnergyTable([row(1)]), concurrency, output=output)


def test_two_rows_of_one_key_are_refused():
    with pytest.raises(InvalidInput, match="concurrency 1 twice"):
        EnergyTable([row(1), row(1)])
    with pytest.raises(InvalidInput, match="at least one row"):
        EnergyTable([])


def test_a_users_csv_is_read_with_defaults_for_empty_cells(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "# my own meter\n"
        "model,gpu,concurrency,fixed_j,per_output_token_j,load_j,basis,source\n"
        "m,H100,1,2.5,0.5,,measured,wattmeter\n"
    )
    table = read_energy_csv(path)
    assert joules(table, 1, output=10) == (7.5, None, "measured", "wattmeter")
    assert table.load("m", gpu="H100") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,gpu,concurrency,basis,source\nm,H100,0,measured,s\n", r"row 1: .*concurrency"),
        ("model,gpu,concurrency,basis,source,watts\nm,H100,1,measured,s,3\n", "row 1: .*watts"),
        ("model,gpu,concurrency,basis,source\nm,H100,1,guessed,s\n", "row 1: .*guessed"),
        ("model,gpu,concurrency,basis\nm,H100,1,measured\n", "row 1: .*source"),
        ("model,gpu\n", "at least one row"),
    ],
)
def test_a_csv_that_breaks_the_schema_is_refused_by_row(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_energy_csv(path)
    with pytest.raises(InvalidInput, match="no energy table"):
        read_energy_csv(tmp_path / "absent.csv")


def mlenergy(task, *configurations):
    fields = ("gpu_model", "num_gpus", "max_num_seqs", "avg_batch_size", "energy_per_token_joules")
    rows = [dict(zip(fields, values, strict=True)) | {"p99_itl_ms": 1.0} for values in configurations]
    return json.dumps({"model_id": "m", "task": task, "total_params_billions": 8, "configurations": rows})


def test_ml_energy_results_are_read_at_their_measured_batch_size(tmp_path):
    chat, other = tmp_path / "a.json", tmp_path / "b.json"
    chat.write_text(mlenergy("chat", ("H100", 1, 8, 7.5, 0.4), ("H100", 1, 512, None, 0.05), ("H100", 1, 8, 7.5, 9.0)))
    other.write_text(mlenergy("gpqa", ("H100", 1, 8, 8.0, 7.0)))
    table = read_mlenergy([chat, other], task="chat")
    assert joules(table, 7.5, prompt=999, output=100) == (pytest.approx(40.0), None, "measured", "ML.ENERGY chat")
    assert joules(table, 512, output=100).joules == pytest.approx(5.0)
    with pytest.raises(InvalidInput, match=r"no ML\.ENERGY result of task 'code'"):
        read_mlenergy([chat], task="code")


def test_gpu_seconds_are_read_from_throughput_and_interpolated_like_joules(tmp_path):
    """4 GPUs at 200 tokens a second hold 0.02 GPU-seconds a token, and at 3,200 tokens a second a 16th of it."""
    result = json.loads(mlenergy("chat", ("H100", 4, 8, 4.0, 0.4), ("H100", 4, 512, 64.0, 0.05)))
    for row, rate in zip(result["configurations"], (200.0, 3200.0), strict=True):
        row["output_throughput_tokens_per_sec"] = rate
    path = tmp_path / "a.json"
    path.write_text(json.dumps(result))
    table = read_mlenergy([path], task="chat")
    request = {"gpu": "H100", "num_gpus": 4, "prompt_tokens": 0, "output_tokens": 100}
    assert table.request("m", concurrency=4, **request).gpu_s == pytest.approx(2.0)
    assert table.request("m", concurrency=16, **request).gpu_s == pytest.approx(0.5), "a straight line in logs"


def test_gpu_seconds_are_null_where_a_row_does_not_know_them():
    """GPU seconds are null and not zero where a row that counts does not know them."""
    known, unknown = row(1, fixed_gpu_s=0.0, per_prompt_token_gpu_s=0.25), row(16, fixed_j=1.0)
    table = EnergyTable([known, unknown])
    assert joules(table, 1, prompt=8).gpu_s == 2.0
    assert joules(table, 16).gpu_s is None
    assert joules(table, 4).gpu_s is None


@pytest.mark.parametrize("text", ["{}", "[", '{"model_id": 1, "task": "t", "configurations": []}'])
def test_a_file_that_is_no_ml_energy_result_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"broken\.json is not an ML\.ENERGY result"):
        read_mlenergy([path], task="chat")


def test_the_greenserv_figures_agree_with_one_another():
    """Joules per query are Wh x 3600 / 2500; two pairs of published figures are known exactly."""
    models = {figures.model: figures for figures in greenserv_models()}
    assert len(models) == 16
    for figures in models.values():
        assert figures.mean_j == pytest.approx(figures.total_wh * 3600 / 2500, abs=0.06)
        assert figures.latency_median_ms < figures.latency_mean_ms < figures.latency_max_ms
    assert (models["gemma-3-27b"].accuracy, models["gemma-3-27b"].total_wh) == (0.685, 731.43)
    assert {name for name, figures in models.items() if figures.certainty == "exact"} == {
        "qwen2.5-0.5b",
        "yi-34b",
        "gemma-3-27b",
    }


def test_the_greenserv_figures_are_an_energy_table_too():
    found = greenserv_table().request("yi-34b", gpu="A100", concurrency=1, prompt_tokens=5, output_tokens=5)
    assert found.joules == 634.3
    assert found.gpu_s == {figures.model: figures for figures in greenserv_models()}["yi-34b"].latency_mean_ms / 1000
    assert found.basis == "measured"
    assert "2601.17551" in found.source


@pytest.mark.real_data
@pytest.mark.skipif("BANDIT_ROUTER_DATA" not in os.environ, reason="needs the development data")
def test_real_measurements_are_reproduced_and_interpolated(tmp_path):
    """Every curve of three points or more: leave an inner one out and predict it from its neighbours."""
    import polars as pl

    frame = pl.read_parquet(Path(os.environ["BANDIT_ROUTER_DATA"]) / "energy/mlenergy.parquet")
    frame = frame.filter(pl.col("task").cast(pl.String) == "lm-arena-chat").unique(
        ["model", "gpu", "num_gpus", "avg_batch_size"], keep="first", maintain_order=True
    )
    errors = []
    for (model, gpu, num_gpus), curve in frame.group_by("model", "gpu", "num_gpus"):
        rows = [
            EnergyRow(
                model=model,
                gpu=gpu,
                num_gpus=num_gpus,
                concurrency=batch,
                per_output_token_j=j,
                basis="measured",
                source="x",
            )
            for batch, j in curve.sort("avg_batch_size").select("avg_batch_size", "joules_per_token").iter_rows()
        ]
        for left_out in range(1, len(rows) - 1):
            truth = rows[left_out]
            table = EnergyTable(rows[:left_out] + rows[left_out + 1 :])
            key = {"gpu": gpu, "num_gpus": num_gpus, "concurrency": truth.concurrency}
            guess = table.request(model, **key, prompt_tokens=0, output_tokens=1).joules
            errors.append(abs(np.log(guess / truth.per_output_token_j)))
    assert len(errors) > 100
    assert np.median(errors) < 0.05
    assert np.quantile(errors, 0.95) < 0.25
