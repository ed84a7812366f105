"""Every format keeps what it can carry, reports each bad line, and reads what its own tools write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import FORMATS, Intake, LoggedEvents, read_logs, write_log
from bandit_router.replay.logs.columns import parse_columns
from bandit_router.replay.logs.logged import concatenate
from bandit_router.replay.logs.obp import from_obp, to_obp
from bandit_router.replay.logs.record import rows_of
from bandit_router.replay.logs.row import COLUMNS
from support.logs import DSJSON, GOOD, otlp

EVERYTHING = tuple(vars(LoggedEvents.of(arms=("a",), arm=[0], propensity=[1.0])))
LOSES = {
    "parquet": set(),
    "jsonl": {"features"},
    "csv": {"features", "probabilities"},
    "otel": set(),
    "dsjson": {"features"},
    "obp": {
        "event_id",
        "timestamp_s",
        "outcomes",
        "policy",
        "state_version",
        "mode",
        "degraded",
        "weight",
        "eligible",
        "resident",
        "tenant",
        "unit",
        "unhealthy",
        "failure",
        "arms",
        "features",
    },
}


def full_log(n: int = 40, *, unknowns: bool = True) -> LoggedEvents:
    """Every column filled, with unknown values in those that may have them."""
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 3, n)
    eligible = rng.random((n, 3)) < 0.7
    eligible[np.arange(n), arm] = True
    p = rng.random((n, 3)) * eligible
    p /= p.sum(axis=1, keepdims=True)
    outcomes = rng.random((n, len(CHANNELS)))
    reward = rng.random(n)
    if unknowns:
        outcomes[::3, 2:] = np.nan
        outcomes[1::5, 0] = np.nan
    return LoggedEvents.of(
        arms=("large", "small", "tiny"),
        arm=arm,
        propensity=p[np.arange(n), arm],
        contexts=rng.normal(size=(n, 12)),
        outcomes=outcomes,
        reward=reward,
        eligible=eligible,
        probabilities=p,
        resident=rng.random((n, 3)) < 0.5,
        event_id=np.array([f"request-{i}" for i in range(n)], dtype=object),
        timestamp_s=1.7e9 + rng.random(n),
        policy=np.array(["LinUCB"] * n, dtype=object),
        state_version=np.arange(n),
        mode=np.array(["online", "holdout"] * (n // 2), dtype=object),
        degraded=np.arange(n) % 10 == 0,
        weight=np.where(np.arange(n) % 2 == 0, 1.0, 4.0),
        tenant=np.array(["t", None] * (n // 2), dtype=object),
        unit=np.array([None, "u"] * (n // 2), dtype=object),
        unhealthy=~eligible & (np.arange(n)[:, None] % 4 == 0),
        failure=np.array([None, "timeout"] * (n // 2), dtype=object),
    )


def read(path: Path, intake: Intake | None = None, **options: object) -> LoggedEvents:
    return read_logs([path], intake or Intake(), **options)


def assert_same(got: LoggedEvents, expected: LoggedEvents, names: set[str]) -> None:
    for name in names:
        a, b = getattr(got, name), getattr(expected, name)
        if isinstance(b, np.ndarray) and b.dtype.kind == "f":
            assert np.array_equal(a, b, equal_nan=True), name
        else:
            assert np.array_equal(a, b), name


@pytest.mark.parametrize("name", LOSES)
def test_a_log_written_and_read_is_the_same_in_all_that_the_format_carries(name: str, tmp_path: Path) -> None:
    log = full_log(unknowns=name != "obp")
    path = tmp_path / "log"
    write_log(log, path, format=name)
    intake = Intake(strict=True)
    got = read(path, intake, format=name)
    expected = log if name != "obp" else log.take(~log.degraded)
    assert_same(got, expected, set(EVERYTHING) - LOSES[name])
    assert intake.lines == intake.taken == len(expected)


def test_every_format_that_is_written_has_a_round_trip_here() -> None:
    assert {name for name, (_, write) in FORMATS.items() if write} == set(LOSES)


def test_the_log_of_the_round_trips_fills_every_column() -> None:
    rows = list(rows_of(full_log()))
    bare = next(rows_of(LoggedEvents.of(arms=("large",), arm=[0], propensity=[1.0])))
    assert [name for name in COLUMNS if all(getattr(row, name) == getattr(bare, name) for row in rows)] == []


@pytest.mark.parametrize("name", ["parquet", "jsonl", "csv", "otel"])
def test_what_was_not_logged_stays_unknown(name: str, tmp_path: Path) -> None:
    log = LoggedEvents.of(arms=("a", "b"), arm=[0, 1], propensity=[np.nan, 0.5])
    write_log(log, tmp_path / "log", format=name)
    got = read(tmp_path / "log", format=name)
    assert np.isnan(got.propensity).tolist() == [True, False]
    assert np.isnan(got.outcomes[:, :4]).sum() >= 6
    assert got.eligible is None
    assert got.resident is None


BAD_LINES = {
    "no event record": b'{"event_id": 3}\n',
    "no event record ": b"{not json\n",
    "propensity outside (0, 1]": json.dumps({**GOOD, "event_id": "x", "propensity": 0}).encode(),
    "served arm not among the eligible": json.dumps({**GOOD, "event_id": "x", "eligible": ["b"]}).encode(),
    "duplicate event id": json.dumps(GOOD).encode(),
    "context has another length than the first row's": json.dumps({**GOOD, "event_id": "x", "context": [1]}).encode(),
    "negative cost": json.dumps({**GOOD, "event_id": "x", "cost_usd": -1}).encode(),
    "empty event id or arm": json.dumps({**GOOD, "event_id": ""}).encode(),
    "probabilities are no distribution over the arms": json.dumps(
        {**GOOD, "event_id": "x", "probabilities": {"a": 0.2}}
    ).encode(),
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_reported_with_file_line_and_reason(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\n" + BAD_LINES[reason])
    intake = Intake()
    assert len(read(path, intake)) == 1
    assert (intake.lines, intake.taken, intake.refused) == (2, 1, 1)
    assert str(intake.bad[0]).startswith(f"{path}:3: {reason.strip()}")
    with pytest.raises(InvalidLog, match=":3: "):
        read(path, Intake(strict=True))


def test_parquet_rows_are_checked_like_json_lines(tmp_path: Path) -> None:
    import polars as pl

    rows = [
        GOOD,
        {**GOOD, "event_id": "e2", "propensity": 1.5},
        {**GOOD, "event_id": "e1"},
        {**GOOD, "event_id": "e4", "context": [1.0]},
        {**GOOD, "event_id": "e5", "cost_usd": -1.0},
        {**GOOD, "event_id": None},
        {**GOOD, "event_id": "e7", "quality": float("inf")},
        {**GOOD, "event_id": "e8", "eligible": ["b"]},
        {**GOOD, "event_id": "e9", "context": [float("nan"), 1.0]},
        {**GOOD, "event_id": "e10"},
    ]
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows, schema_overrides={"eligible": pl.List(pl.String), "cost_usd": pl.Float64}).write_parquet(path)
    intake = Intake()
    log = read(path, intake)
    assert log.event_id.tolist() == ["e1", "e10"]
    assert [bad.line for bad in intake.bad] == list(range(2, 10))
    assert [bad.reason for bad in intake.bad] == [
        "propensity outside (0, 1]",
        "duplicate event id",
        "context has another length than the first row's",
        "negative cost",
        "empty event id or arm",
        "outcome, reward or timestamp not finite",
        "served arm not among the eligible",
        "context not finite",
    ]


def test_a_given_catalogue_sets_the_order_and_refuses_strangers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [GOOD, {**GOOD, "event_id": "e2", "arm": "z"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    intake = Intake()
    log = read(path, intake, arms=["b", "a"])
    assert log.arms == ("b", "a")
    assert log.arm.tolist() == [1]
    assert dict(intake.reasons) == {"arm not in the given catalogue": 1}


# -- dsjson ---------------------------------------------------------------------------------------------------------


def test_a_dsjson_line_is_understood_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    path.write_text(DSJSON + "\n")
    log = read(path, Intake(strict=True))
    large = '{"Model":{"id":"large"}}'
    assert log.arms == ("small", large) or log.arms == (large, "small")
    assert log.arms[log.arm[0]] == large
    assert log.propensity[0] == 0.8
    assert log.reward[0] == log.outcomes[0, 0] == 0.5
    assert log.weight[0] == 2.0
    assert log.policy[0] == "model-1"
    assert log.timestamp_s[0] == pytest.approx(1617813625.123456, abs=1e-6)
    assert dict(zip(log.features, log.contexts[0], strict=True)) == {"User.age": 3.0, "User.plan=free": 1.0}
    assert log.probabilities is not None
    assert log.probabilities[0, log.arm[0]] == 0.8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a":[2,1]', '"a":[3,1]'),
        ('"_label_Action":2', '"_label_Action":1'),
        ('"p":[0.8,0.2]', '"p":[0.8]'),
        ('"pdrop":0.5', '"pdrop":1'),
        ('"_label_cost":-0.5', '"_label_cost":"x"'),
        ('"_multi"', '"_many"'),
    ],
)
def test_a_broken_dsjson_line_is_reported(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    path.write_text(DSJSON + "\n" + DSJSON.replace("e-1", "e-2").replace(old, new) + "\n")
    intake = Intake()
    assert len(read(path, intake)) == 1
    assert [bad.line for bad in intake.bad] == [2]


def test_dsjson_keys_are_written_in_the_order_of_vw(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    write_log(full_log(), path)
    line = path.read_text().splitlines()[0]
    keys = list(json.loads(line))
    assert keys == [
        "_label_cost",
        "_label_probability",
        "_label_Action",
        "_labelIndex",
        "_skipLearn",
        "Timestamp",
        "Version",
        "EventId",
        "a",
        "c",
        "p",
        "VWState",
    ]
    assert line.startswith('{"_label_cost":')


def test_vw_itself_reads_what_is_written(tmp_path: Path) -> None:
    import vowpal_wabbit_next as vw

    log = full_log(unknowns=False)
    path = tmp_path / "log.dsjson"
    write_log(log.take(~log.degraded), path)
    workspace = vw.Workspace(["--cb_explore_adf", "--dsjson"])
    with path.open() as file, vw.DSJsonFormatReader(workspace, file) as reader:
        examples = list(reader)
    assert len(examples) == (~log.degraded).sum()
    actions = [len(example) - 1 for example in examples]
    assert log.eligible is not None
    assert actions == log.eligible[~log.degraded].sum(axis=1).tolist()


# -- gateways and traces --------------------------------------------------------------------------------------------


def test_litellm_records_are_joined_on_the_call(tmp_path: Path) -> None:
    """LiteLLM records are joined on the call and not on the repeating response id."""
    own = {"bandit_router": {"propensity": 0.25, "context": [1.0, 0.5], "eligible": ["d-1", "d-2"]}}
    records = [
        {
            "id": "cmpl-1",
            "litellm_call_id": "call-1",
            "status": "success",
            "model": "gpt",
            "model_id": "d-1",
            "response_cost": 0.002,
            "total_tokens": 120,
            "startTime": 1000.0,
            "endTime": 1001.5,
            "metadata": {"requester_metadata": own},
        },
        {
            "request_id": "cmpl-1",
            "litellm_call_id": "call-2",
            "model_id": "d-2",
            "spend": 0.004,
            "total_tokens": 80,
            "startTime": "2025-01-01T00:00:00+00:00",
            "endTime": "2025-01-01T00:00:02+00:00",
            "metadata": json.dumps(own),
        },
        {"litellm_call_id": "call-1", "quality": 0.8},
        {"request_id": "cmpl-1", "spend": 1.0},
        {"litellm_call_id": "call-9", "quality": 0.1},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    intake = Intake()
    log = read(path, intake, format="litellm")
    assert log.event_id.tolist() == ["call-1", "call-2"]
    assert [log.arms[a] for a in log.arm] == ["d-1", "d-2"]
    assert log.propensity.tolist() == [0.25, 0.25]
    assert log.channel("quality")[0] == 0.8
    assert np.isnan(log.channel("quality")[1])
    assert log.channel("cost_usd").tolist() == [0.002, 0.004]
    assert log.channel("latency_s").tolist() == [1.5, 2.0]
    assert log.channel("tokens").tolist() == [120.0, 80.0]
    assert dict(intake.reasons) == {"an id of several calls": 1, "no decision for this reward or cost": 1}


def test_spans_with_old_and_new_names_make_one_log(tmp_path: Path) -> None:
    """Spans with old and new attribute names and evaluations make one log."""
    new = {
        "gen_ai.request.model": "large",
        "gen_ai.response.id": "r-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "bandit_router.propensity": 0.5,
        "bandit_router.cost_usd": 0.01,
    }
    old = {
        "gen_ai.request.model": "small",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.usage.completion_tokens": 3,
        "gen_ai.latency.e2e": 0.25,
    }
    score = [{"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 0.9}}]
    inside = [{"name": "gen_ai.evaluation.result", "attributes": score}]
    apart = [*score, {"key": "gen_ai.response.id", "value": {"stringValue": "r-1"}}]
    records = {"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"eventName": "gen_ai.evaluation.result", "attributes": apart},
        {"eventName": "gen_ai.evaluation.result", "attributes": score},
    ]}]}]}  # fmt: skip
    printed = {
        "name": "chat",
        "context": {"trace_id": "0x1", "span_id": "0x2"},
        "start_time": "2025-01-01T00:00:00Z",
        "end_time": "2025-01-01T00:00:01Z",
        "attributes": {"gen_ai.request.model": "small"},
        "events": [
            {"name": "feature_flag.evaluation", "attributes": {"feature_flag.result.variant": "large"}},
        ],
    }
    lines = [records, otlp(new), otlp(old, span="s2", events=inside), printed, otlp({"http.method": "GET"}, span="s3")]
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    intake = Intake()
    log = read(path, intake, format="otel")
    assert log.event_id.tolist() == ["t:s1", "t:s2", "0x1:0x2"]
    assert [log.arms[a] for a in log.arm] == ["large", "small", "large"]
    assert log.channel("tokens")[:2].tolist() == [15.0, 10.0]
    assert log.channel("latency_s").tolist() == [2.5, 0.25, 1.0]
    assert log.channel("quality")[:2].tolist() == [0.9, 0.9]
    assert log.propensity[0] == 0.5
    assert dict(intake.notes) == {"spans that are no request to a model": 1}
    assert dict(intake.reasons) == {"evaluation of an unknown or repeated response id": 1}


# -- tables ---------------------------------------------------------------------------------------------------------


def test_a_csv_is_read_through_a_column_map_and_bad_cells_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("model,p,score,x1,x2,task\nm1,0.5,1,0.1,0.2,qa\nm2,abc,0,1,2,qa\nm2,0.5,,3,4,code\nm2,0.5\n")
    intake = Intake()
    columns = parse_columns("arm=model,propensity=p,quality=score,context=x*,labels=task")
    log = read(path, intake, columns=columns)
    assert log.arms == ("m1", "m2")
    assert log.features == ("task=code", "task=qa", "x1", "x2")
    assert log.contexts[0].tolist() == [0.0, 1.0, 0.1, 0.2]
    assert np.isnan(log.channel("quality")[1])
    assert [(bad.line, bad.reason) for bad in intake.bad] == [
        (3, "a cell cannot be read"),
        (5, "another number of cells than the header"),
    ]


def test_a_column_map_to_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("model,p\nm,1\n")
    with pytest.raises(InvalidLog, match="no column 'score'"):
        read(path, columns={"arm": "model", "quality": "score"})
    with pytest.raises(InvalidInput, match="field=column"):
        parse_columns("colour=red")


def test_the_open_bandit_csv_has_items_as_arms_and_clicks_as_quality(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text(
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0\n"
        "0,2019-11-24 00:00:17.004101+00:00,79,2,0,0.0125,81ce,0.0\n"
        "1,2019-11-24 00:00:19.715857+00:00,14,1,1,0.0125,f7ab,0.0\n"
    )
    log = read(path, Intake(strict=True), format="open-bandit")
    assert log.arms == ("14", "79")
    assert log.channel("quality").tolist() == [0.0, 1.0]
    assert log.features == ("position=1", "position=2", "user_feature_0=81ce", "user_feature_0=f7ab")
    assert log.timestamp_s[0] == pytest.approx(1574553617.004101, abs=1e-5)


def test_an_obp_dictionary_survives_both_ways() -> None:
    feedback = to_obp(full_log(unknowns=False))
    again = to_obp(from_obp(feedback))
    for name in ("action", "reward", "pscore", "context", "pi_b"):
        assert np.array_equal(again[name], feedback[name]), name
    assert again["n_actions"] == 3


def test_logs_with_other_arms_are_joined_over_their_union() -> None:
    first = LoggedEvents.of(arms=("a", "b"), arm=[0, 1], propensity=[0.5, 0.5])
    second = LoggedEvents.of(arms=("c", "b"), arm=[0, 1], propensity=[0.5, 0.5])
    both = concatenate([first, second])
    assert both.arms == ("a", "b", "c")
    assert both.arm.tolist() == [0, 1, 2, 1]
    assert both.allowed().tolist() == [[True, True, False]] * 2 + [[False, True, True]] * 2


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="which format"):
        read(tmp_path / "log.txt")
    with pytest.raises(InvalidInput, match="only read"):
        write_log(full_log(), tmp_path / "x", format="litellm")
