"""The shipped table has the figures computed, in plain Python, from the source file it was derived from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bandit_router

FOLDER = Path(bandit_router.__file__).parent / "simulators/tables/models_llm"
LLAMA, MISTRAL, GEMINI = ARMS = (
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-large-2512",
    "google/gemini-2.5-pro",
)
MEAN_QUALITY = {LLAMA: 0.7887815126050419, MISTRAL: 0.924758543417367, GEMINI: 0.9349232492997198}
MEAN_COST_USD = {LLAMA: 2.929142857142857e-05, MISTRAL: 0.0005028649859943978, GEMINI: 0.015036632352941176}
ORACLE_QUALITY, ORACLE_COST_USD = 0.9641697478991597, 0.005127612605042017
RANDOM_QUALITY, RANDOM_COST_USD = 0.8828211017740428, 0.005189596255835667
BEST_PER_TASK_QUALITY = 0.9397775910364146
LARGEST_TASKS = {"mmlu": 397, "gsm8k": 360, "openbookqa": 172, "hellaswag": 170, "arc_challenge": 159}
VALUES_SHA256 = "fcf782103d7ab6516edb6e35dfc273810492b69e77eb32de18a02b6bf854b640"

SINGLE = 1e-8
"""Quality is stored in single precision, which moves a mean by less than this."""


@pytest.fixture(scope="module")
def queries() -> pl.DataFrame:
    return pl.read_parquet(FOLDER / "queries.parquet")


@pytest.fixture(scope="module")
def outcomes() -> pl.DataFrame:
    return pl.read_parquet(FOLDER / "outcomes.parquet").with_columns(pl.col("quality").cast(pl.Float64))


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return pl.read_parquet(FOLDER / "features.parquet").drop("query_id").to_numpy().astype(np.float64)


def test_columns_and_types_are_those_of_an_outcome_table_without_prompts():
    assert dict(pl.read_parquet_schema(FOLDER / "queries.parquet")) == {
        "query_id": pl.Int32,
        "task": pl.String,
    }
    assert dict(pl.read_parquet_schema(FOLDER / "outcomes.parquet")) == {
        "query_id": pl.Int32,
        "arm": pl.String,
        "quality": pl.Float32,
        "cost_usd": pl.Float64,
        "latency_s": pl.Float32,
        "input_tokens": pl.Int32,
        "output_tokens": pl.Int32,
        "energy_j": pl.Float32,
    }
    columns = {f"f{column}": pl.Float32 for column in range(24)}
    assert dict(pl.read_parquet_schema(FOLDER / "features.parquet")) == {"query_id": pl.Int32, **columns}


def test_every_prompt_has_one_row_per_arm_in_source_order(queries, outcomes):
    assert queries["query_id"].to_list() == list(range(1785))
    assert outcomes["query_id"].to_list() == [query for query in range(1785) for _ in ARMS]
    assert outcomes["arm"].to_list() == list(ARMS) * 1785
    assert pl.read_parquet(FOLDER / "features.parquet")["query_id"].to_list() == list(range(1785))


def test_first_and_last_prompt_have_the_outcomes_of_the_source(queries, outcomes):
    assert (queries["task"][0], queries["task"][-1]) == ("mbpp", "mmlu")
    assert outcomes["quality"][:3].to_list() == pytest.approx([0.4, 1.0, 0.96])
    assert outcomes["cost_usd"][:3].to_list() == [3.73e-05, 0.0006155, 0.03494625]
    assert outcomes["cost_usd"][-3:].to_list() == [2.43e-05, 0.000294, 0.0164125]


def test_mean_quality_and_cost_per_arm_are_those_of_the_source(outcomes):
    mean = outcomes.group_by("arm").mean()
    assert dict(zip(mean["arm"], mean["quality"], strict=True)) == pytest.approx(MEAN_QUALITY, abs=SINGLE)
    assert dict(zip(mean["arm"], mean["cost_usd"], strict=True)) == pytest.approx(MEAN_COST_USD, rel=1e-12)


def test_uniform_random_and_the_per_query_oracle_are_those_of_the_source(outcomes):
    assert outcomes["quality"].mean() == pytest.approx(RANDOM_QUALITY, abs=SINGLE)
    assert outcomes["cost_usd"].mean() == pytest.approx(RANDOM_COST_USD, rel=1e-12)
    best = outcomes.sort("quality", "cost_usd", descending=[True, False]).group_by("query_id").first()
    assert best["quality"].mean() == pytest.approx(ORACLE_QUALITY, abs=SINGLE)
    assert best["cost_usd"].mean() == pytest.approx(ORACLE_COST_USD, rel=1e-12)


def test_tasks_and_the_best_arm_of_each_are_those_of_the_source(queries, outcomes):
    sizes = dict(queries["task"].value_counts().iter_rows())
    assert len(sizes) == 30
    assert {task: sizes[task] for task in LARGEST_TASKS} == LARGEST_TASKS
    total = outcomes.join(queries, on="query_id").group_by("task", "arm").agg(pl.col("quality").sum())
    best = total.group_by("task").agg(pl.col("quality").max())["quality"].sum() / len(queries)
    assert best == pytest.approx(BEST_PER_TASK_QUALITY, abs=SINGLE)


def test_what_was_not_metered_is_null_and_the_rest_is_finite_and_in_range(outcomes):
    for column in ("latency_s", "input_tokens", "output_tokens", "energy_j"):
        assert outcomes[column].null_count() == len(outcomes), column
    assert outcomes["quality"].is_between(0, 1).all()
    assert outcomes["cost_usd"].is_between(0, 1, closed="right").all()


def test_features_are_white_on_the_prompts_they_were_fitted_on(features):
    fitted = features[:512]
    assert np.abs(fitted.mean(axis=0)).max() < 1e-4
    assert np.abs(np.cov(fitted, rowvar=False) - np.eye(24)).max() < 1e-3
    assert np.isfinite(features).all()
    assert np.unique(features, axis=0).shape == (1785, 24)


def test_values_have_the_stated_checksum(queries, outcomes, features):
    labels = "".join(f"{label}\n" for label in queries["task"].to_list() + outcomes["arm"].to_list())
    numbers = (
        outcomes["quality"].cast(pl.Float32).to_numpy(),
        outcomes["cost_usd"].to_numpy(),
        np.ascontiguousarray(features, dtype=np.float32),
    )
    content = labels.encode() + b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in numbers)
    assert hashlib.sha256(content).hexdigest() == VALUES_SHA256


def test_the_description_beside_the_table_states_the_same_figures():
    about = json.loads((FOLDER / "about.json").read_text(encoding="utf-8"))
    figures = about["check_figures"]
    assert (figures["queries"], figures["rows"], figures["tasks"]) == (1785, 5355, 30)
    assert figures["arms"] == list(ARMS)
    assert figures["mean_quality"] == pytest.approx(MEAN_QUALITY, abs=SINGLE)
    assert figures["mean_cost_usd"] == pytest.approx(MEAN_COST_USD, abs=1e-12)
    assert figures["best_fixed"]["arm"] == GEMINI
    assert figures["best_fixed"]["quality"] == pytest.approx(MEAN_QUALITY[GEMINI], abs=SINGLE)
    assert figures["best_per_task"]["quality"] == pytest.approx(BEST_PER_TASK_QUALITY, abs=SINGLE)
    assert figures["oracle"]["quality"] == pytest.approx(ORACLE_QUALITY, abs=SINGLE)
    assert figures["oracle"]["cost_usd"] == pytest.approx(ORACLE_COST_USD, abs=1e-12)
    assert figures["uniform_random"]["quality"] == pytest.approx(RANDOM_QUALITY, abs=SINGLE)
    assert figures["sha256_of_values"] == VALUES_SHA256
    assert about["licence"].startswith("Apache-2.0")


def test_no_text_but_short_labels_is_shipped(queries, outcomes):
    labels = set(queries["task"]) | set(outcomes["arm"])
    assert len(labels) == 33
    assert all(len(label) < 50 and " " not in label for label in labels)
    assert sorted(file.name for file in FOLDER.iterdir()) == [
        "about.json",
        "features.parquet",
        "outcomes.parquet",
        "queries.parquet",
    ]


def test_the_table_stays_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 400_000
