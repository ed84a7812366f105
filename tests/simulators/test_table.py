"""Outcome tables small enough to add up by hand, and every way to spoil one."""

import numpy as np
import polars as pl
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.simulators.table import TableEnvironment, describe_table, load_table, shipped_tables


def test_a_table_is_read_in_query_order_and_arm_order_of_first_appearance(write_table, cells):
    rows = [5, 0, 3, 4, 1, 2]  # the first row names the arm "large"
    shuffled = {name: [values[row] for row in rows] for name, values in cells.items()}
    table = load_table(write_table(queries={"query_id": [2, 0, 1], "task": ["z", "x", "y"]}, outcomes=shuffled))
    assert (table.name, table.arms, table.tasks) == ("tiny", ("large", "small"), ("x", "y", "z"))
    assert table.channels == ("quality", "cost_usd")
    np.testing.assert_array_equal(table.outcomes[:, :, 0], [[1.0, 0.25], [0.75, 0.5], [0.0, 0.5]])
    np.testing.assert_array_equal(table.outcomes[:, :, 1], [[4.0, 1.0]] * 3)


def test_the_check_figures_equal_the_hand_calculation(write_table):
    figures = describe_table(load_table(write_table()))
    assert {name: figures[name] for name in ("table", "queries", "arms", "holes", "tasks", "channels", "features")} == {
        "table": "tiny",
        "holes": 0,
        "queries": 3,
        "arms": 2,
        "tasks": 2,
        "channels": ["quality", "cost_usd"],
        "features": 0,
    }
    assert figures["best_single_arm"]["arm"] == "large"
    assert figures["best_single_arm"]["quality_mean"] == pytest.approx(1.75 / 3)
    assert figures["oracle_quality_mean"] == pytest.approx((1.0 + 0.75 + 0.5) / 3)
    assert figures["random_quality_mean"] == pytest.approx(3.0 / 6)
    assert figures["best_per_task_quality_mean"] == pytest.approx(
        2.25 / 3
    )  # each group, also that without a task, has one query
    assert figures["per_arm"] == [
        {"arm": "small", "quality_mean": pytest.approx(1.25 / 3), "cost_usd_mean": 1.0},
        {"arm": "large", "quality_mean": pytest.approx(1.75 / 3), "cost_usd_mean": 4.0},
    ]


def test_tokens_are_input_plus_output(write_table, cells):
    cells |= {"input_tokens": [1, 2, 3, 4, 5, 6], "output_tokens": [10, 20, 30, 40, 50, 60]}
    table = load_table(write_table(outcomes=cells))
    assert table.channels == ("quality", "cost_usd", "tokens")
    assert table.outcomes[1, :, 2].tolist() == [33.0, 44.0]


def test_a_channel_without_any_known_value_is_left_out(write_table, cells):
    cells |= {"latency_s": [None] * 6, "energy_j": [None, 2.0] * 3}
    table = load_table(write_table(outcomes=cells))
    assert table.channels == ("quality", "cost_usd", "energy_j")
    assert np.isnan(table.outcomes[:, 0, 2]).all()
    assert describe_table(table)["per_arm"][1]["energy_j_mean"] == 2.0


def test_gpu_seconds_are_a_channel_of_a_table_where_some_are_known(write_table, cells):
    table = load_table(write_table(outcomes=cells | {"gpu_s": [None, 2.0] * 3}))
    assert table.channels == ("quality", "cost_usd", "gpu_s")
    assert np.isnan(table.outcomes[:, 0, 2]).all()


def test_a_channel_known_for_one_arm_only_still_has_a_scale(write_table, cells):
    cells |= {"energy_j": [None, 2.0] * 3, "latency_s": [0.0] * 6}
    environment = TableEnvironment(load_table(write_table(outcomes=cells)))
    assert environment.scales == {"cost_usd": 4.0, "energy_j": 2.0, "latency_s": 1.0}


def spoil(**changes):
    return lambda cells: {"outcomes": {**cells, **changes}}


def rows(*chosen):
    return lambda cells: {"outcomes": {name: [values[row] for row in chosen] for name, values in cells.items()}}


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (rows(0, 1, 2, 3), "query 2 has no quality of any arm"),
        (rows(0, 2, 4, 5, 4), "query 2 with arm 'small' twice"),
        (rows(0, 1, 2, 3, 4, 5, 5), "query 2 with arm 'large' twice"),
        (spoil(query_id=[0, 0, 1, 1, 7, 7]), "query_id that queries.parquet lacks"),
        (spoil(query_id=[0, 0, 1, 1, None, None]), "query_id that queries.parquet lacks"),
        (spoil(arm=["a", None] * 3), "a row without an arm"),
        (spoil(quality=[0.1, None] * 3), "an arm without any quality"),
        (spoil(quality=[0.1, 1.5, 0.1, 0.1, 0.1, 0.1]), "quality must be null, or in"),
        (spoil(quality=["good"] * 6), "not an outcome table"),
        (spoil(cost_usd=[1.0, -1.0] * 3), r"cost_usd must be null, or in \[0, 1e\+12\]"),
        (spoil(cost_usd=[1.0, float("inf")] * 3), r"cost_usd must be null, or in \[0, 1e\+12\]"),
        (lambda cells: {"outcomes": {name: cells[name] for name in ("query_id", "arm")}}, "no quality of any arm"),
        (lambda cells: {"outcomes": {name: cells[name] for name in ("query_id", "quality")}}, "not an outcome table"),
        (lambda cells: {"outcomes": {name: [] for name in cells}}, "3 queries and 0 arms"),
        (lambda cells: {"queries": {"query_id": [], "task": []}}, "0 queries and 2 arms"),
        (lambda cells: {"queries": {"task": ["a", "b", "c"]}}, "not an outcome table"),
        (lambda cells: {"queries": {"query_id": [0, 0, 1]}, **rows(0, 1, 2, 3)(cells)}, "repeats a query_id"),
        (lambda cells: {"features": {"query_id": [0, 1], "f0": [1.0, 2.0]}}, "exactly the query_id"),
        (lambda cells: {"features": {"query_id": [0, 1, 3], "f0": [1.0, 2.0, 3.0]}}, "exactly the query_id"),
        (lambda cells: {"features": {"query_id": [0, 1, 2], "f0": [1.0, None, 3.0]}}, "features must be finite"),
        (lambda cells: {"features": {"query_id": [0, 1, 2], "f0": ["a", "b", "c"]}}, "not an outcome table"),
    ],
)
def test_a_spoiled_table_is_refused_with_the_reason(write_table, cells, spoiled, message):
    with pytest.raises(InvalidInput, match=message):
        load_table(write_table(**spoiled(cells)))


@pytest.mark.parametrize("content", [b"", b"query_id,arm\n0,small\n", b"PAR1" + bytes(8) + b"PAR1"])
@pytest.mark.parametrize("file", ["queries.parquet", "outcomes.parquet", "features.parquet"])
def test_a_file_that_is_empty_or_not_parquet_is_refused(write_table, file, content):
    folder = write_table()
    (folder / file).write_bytes(content)
    with pytest.raises(InvalidInput, match="not an outcome table"):
        load_table(folder)


@pytest.mark.parametrize("missing", ["queries.parquet", "outcomes.parquet"])
def test_a_missing_file_is_named(write_table, missing):
    folder = write_table()
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match=missing):
        load_table(folder)


def test_a_folder_that_is_none_is_refused_with_the_tables_there_are(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidInput, match=r"shipped.*models_llm"):
            load_table(path)


def test_a_query_without_a_task_has_a_bucket_of_its_own(write_table):
    environment = TableEnvironment(load_table(write_table()))
    assert environment.parts == ("task",)
    assert environment.contexts.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]]  # bias, chat, code, unknown


def test_a_table_without_tasks_or_with_an_all_null_task_is_one_bucket(write_table):
    for name, queries in (("none", {"query_id": [0, 1, 2]}), ("null", {"query_id": [0, 1, 2], "task": [None] * 3})):
        table = load_table(write_table(name, queries=queries))
        assert table.tasks == (None, None, None)
        assert TableEnvironment(table).contexts.tolist() == [[1, 1]] * 3
        assert describe_table(table)["tasks"] == 0


def test_features_join_by_query_id_and_contexts_choose_the_parts(write_table):
    table = load_table(write_table(features={"query_id": [2, 0, 1], "f0": [2.5, 0.5, 1.5], "f1": [-1, -2, -3]}))
    assert table.features.tolist() == [[0.5, -2.0], [1.5, -3.0], [2.5, -1.0]]
    assert TableEnvironment(table).dim == 1 + 3 + 2
    assert TableEnvironment(table, contexts=["features"]).contexts.tolist() == [
        [1, 0.5, -2],
        [1, 1.5, -3],
        [1, 2.5, -1],
    ]
    assert TableEnvironment(table, contexts=[]).contexts.tolist() == [[1.0]] * 3


@pytest.mark.parametrize(("parts", "message"), [(["colour"], "unknown context part"), (["features"], "no features")])
def test_a_context_part_that_is_not_there_is_refused(write_table, parts, message):
    with pytest.raises(InvalidInput, match=message):
        TableEnvironment(load_table(write_table()), contexts=parts)


def test_prompts_are_kept_where_the_table_has_them(write_table):
    table = load_table(write_table(queries={"query_id": [1, 0, 2], "prompt": ["b", "a", None]}))
    assert table.prompts == ("a", "b", None)


def test_the_layout_may_use_categoricals_and_narrow_types(write_table, cells):
    folder = write_table()
    narrow = pl.DataFrame(cells).with_columns(
        pl.col("query_id").cast(pl.Int32), pl.col("arm").cast(pl.Categorical), pl.col("quality").cast(pl.Float32)
    )
    narrow.write_parquet(folder / "outcomes.parquet")
    np.testing.assert_array_equal(load_table(folder).outcomes[:, :, 0], [[0.25, 1.0], [0.5, 0.75], [0.5, 0.0]])


def test_the_shipped_tables_load_by_name():
    assert list(shipped_tables()) == ["models_llm"]
    assert load_table("models_llm").outcomes.shape == (1785, 3, 2)
