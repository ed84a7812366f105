"""What makes a row unusable is the same for a record of its own and in a column."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import FORMATS, Intake, LoggedEvents, read_logs, write_log
from bandit_router.replay.logs.logged import _PER_ARM, _PER_ROW
from bandit_router.replay.logs.parquet import ARMS_KEY
from bandit_router.replay.logs.row import COLUMNS, of_kind

ARMS = ["2", "10", "a"]
GOOD = {"event_id": "r", "arm": "2", "context": [1.0], "quality": 0.5, "weight": 1.0, "state_version": -1}
AMOUNT = st.sampled_from([None, 0.0, 0.5, -1.0])
SPREADS = ([1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.7, 0.7, 0.0], [-0.1, 1.1, 0.0])
ROW = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from(["", "r-1", "r-2", "r-3", "r-4"]),
        "arm": st.sampled_from(["", "2", "10", "a", "stranger"]),
        "context": st.sampled_from([[1.0], [0.5], [1.0, 2.0]]),
        "propensity": st.sampled_from([None, 0.5, 1.0, 0.0, 1.5, -0.5]),
        "eligible": st.sampled_from([None, ["2"], ["2", "10"], ["2", "stranger"]]),
        "resident": st.sampled_from([None, [], ["a"], ["stranger"]]),
        "probabilities": st.sampled_from([None, *SPREADS]),
        "weight": st.sampled_from([1.0, 2.0, 0.0, -1.0]),
        "state_version": st.sampled_from([-1, 3, -2]),
        "quality": AMOUNT,
        "cost_usd": AMOUNT,
        "tenant": st.sampled_from([None, "t"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_both_dialects_refuse_the_same_rows_for_the_same_reason(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    lines, columns = [], []
    for row in [{**GOOD, "probabilities": None}, *rows]:
        spread = row["probabilities"]
        named = None if spread is None else dict(zip(ARMS, spread, strict=True))
        lines.append(json.dumps({**row, "probabilities": named}))
        columns.append(row)
    (folder / "log.jsonl").write_text("\n".join(lines))
    frame = pl.DataFrame(columns, schema_overrides={"eligible": pl.List(pl.String), "resident": pl.List(pl.String)})
    frame.write_parquet(folder / "log.parquet", metadata={ARMS_KEY: json.dumps(ARMS)})
    found = {}
    for name in ("log.jsonl", "log.parquet"):
        intake = Intake()
        log = read_logs([folder / name], intake, arms=ARMS)
        found[name] = (log.event_id.tolist(), [(bad.line, bad.reason) for bad in intake.bad])
    assert found["log.jsonl"] == found["log.parquet"]


def test_every_column_is_a_field_of_the_log_in_memory():
    held = {"arm", "contexts", "outcomes", *of_kind("text", "number", "whole", "flag")}
    assert set(_PER_ROW) == held
    assert set(_PER_ARM) == {*of_kind("ids"), "probabilities"}
    assert {"arm", "context", "probabilities", *CHANNELS} < set(COLUMNS)


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "log.parquet"])
def test_ids_that_are_numbers_sort_as_numbers(name, tmp_path):
    rows = [{"event_id": str(i), "arm": arm, "propensity": 0.5} for i, arm in enumerate(["10", "2", "b", "2"])]
    if name == "log.jsonl":
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    elif name == "log.csv":
        pl.DataFrame(rows).write_csv(tmp_path / name)
    else:
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    log = read_logs([tmp_path / name], Intake())
    assert log.arms == ("2", "10", "b")
    assert log.arm.tolist() == [1, 0, 2, 0]


def test_a_null_within_a_context_is_refused_in_a_column(tmp_path):
    pl.DataFrame({"arm": ["a", "a"], "context": [[1.0], [None]]}).write_parquet(tmp_path / "log.parquet")
    intake = Intake()
    assert len(read_logs([tmp_path / "log.parquet"], intake)) == 1
    assert [bad.reason for bad in intake.bad] == ["context not finite"]


def test_whose_a_request_was_goes_through_the_formats(tmp_path):
    log = LoggedEvents.of(
        arms=("a", "b"),
        arm=[0, 1, 0],
        propensity=[0.5, 0.5, 1.0],
        quality=[0.1, 0.2, 0.3],
        tenant=np.array(["t", None, "v"], dtype=object),
        unit=np.array([None, "u", "w"], dtype=object),
        resident=np.array([[True, False], [False, False], [True, True]]),
    )
    for name, (_, write) in FORMATS.items():
        if write is not None and name != "obp":
            write_log(log, tmp_path / name, format=name)
            got = read_logs([tmp_path / name], Intake(), format=name)
            assert (got.tenant.tolist(), got.unit.tolist()) == (["t", None, "v"], [None, "u", "w"]), name
            assert got.resident.tolist() == log.resident.tolist(), name
