"""A log in any spelling of people's tools is the log in plain spelling: encodings, separators, locales, nesting."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.replay.logs import Intake, LoggedEvents, read_logs
from bandit_router.replay.logs.columns import parse_columns

ARMS = ("small", "größer", "a|b;c", 'the "best"', "zwei\nZeilen", "comma, in it")
COMPARED = ("event_id", "arm", "propensity", "outcomes", "reward", "timestamp_s", "contexts", "degraded")


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few rows with what a table can hold."""
    numbers = st.floats(0.001, 9999.0).map(lambda value: round(value, 4))
    unknown = st.none() | numbers
    return [
        {
            "event_id": f"r-{i}",
            "arm": draw(st.sampled_from(ARMS)),
            "propensity": draw(st.sampled_from([0.5, 0.25, 0.0625])),
            "quality": draw(st.none() | st.sampled_from([0.0, 0.25, 1.0])),
            "cost_usd": draw(unknown),
            "tokens": draw(st.none() | st.integers(0, 10**7).map(float)),
            "reward": draw(unknown),
            "timestamp_s": draw(st.integers(10**9, 2 * 10**9).map(float)),
            "degraded": draw(st.booleans()),
            "f0": draw(numbers),
        }
        for i in range(draw(st.integers(1, 5)))
    ]


def plainly(rows: list[dict[str, Any]], folder: Path) -> LoggedEvents:
    """The rows as JSON Lines of the event log."""
    path = folder / "plain.jsonl"
    records = [{**{k: v for k, v in row.items() if k != "f0"}, "context": [row["f0"]]} for row in rows]
    path.write_text("\n".join(map(json.dumps, records)))
    return read_logs([path], Intake(strict=True))


def assert_same(got: LoggedEvents, plain: LoggedEvents) -> None:
    assert got.arms == plain.arms
    for name in COMPARED:
        a, b = getattr(got, name), getattr(plain, name)
        assert np.array_equal(a, b) if a.dtype == object else np.allclose(a, b, rtol=1e-12, equal_nan=True), name


def spelled(value: Any, draw: Any, *, decimal: str, thousands: str) -> str:
    if value is None:
        return draw(st.sampled_from(["", "NA", "N/A", "NULL", "nan", "None", "#N/A", "-"]))
    if isinstance(value, bool):
        words = [("True", "False"), ("TRUE", "FALSE"), ("1", "0"), ("WAHR", "FALSCH"), ("yes", "no")]
        return draw(st.sampled_from(words))[0 if value else 1]
    if isinstance(value, float):
        text = f"{value:,.4f}" if thousands else f"{value:.4f}"
        return text.replace(",", "_").replace(".", decimal).replace("_", thousands)
    return str(value)


def dated(seconds: float, draw: Any) -> str:
    from datetime import UTC, datetime, timedelta, timezone

    moment = datetime.fromtimestamp(seconds, tz=UTC)
    east = moment.astimezone(timezone(timedelta(hours=2)))
    return draw(
        st.sampled_from(
            [
                moment.isoformat(),
                moment.strftime("%Y-%m-%d %H:%M:%S"),
                moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                east.isoformat(),
                east.strftime("%Y-%m-%d %H:%M:%S %z"),
                moment.strftime("%d.%m.%Y %H:%M:%S"),
                str(int(seconds)),
                str(int(seconds * 1000)),
                str(int(seconds) * 10**6),
                str(int(seconds) * 10**9),
            ]
        )
    )


@settings(max_examples=60, deadline=None)
@given(rows=logs(), data=st.data())
def test_a_delimited_file_in_any_spelling_is_the_plain_log(
    rows: list[dict[str, Any]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, draw = tmp_path_factory.mktemp("odd"), data.draw
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal, thousands = draw(st.sampled_from([(".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", "'")]))
    names = list(rows[0])
    if draw(st.booleans()):
        names = draw(st.permutations(names))
    out = io.StringIO()
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    minimal = ends != "\r" and draw(st.booleans())  # Python's writer leaves a line feed bare where lines end in CR
    quoting = csv.QUOTE_MINIMAL if minimal else csv.QUOTE_ALL
    writer = csv.writer(out, delimiter=separator, lineterminator=ends, quoting=quoting)
    extra = draw(st.booleans())
    heads = [draw(st.sampled_from([name, f" {name} ", name.upper()])) for name in names]
    writer.writerow([*heads, "remark"] if extra else heads)
    for row in rows:
        cells = [
            dated(row[name], draw)
            if name == "timestamp_s"
            else spelled(row[name], draw, decimal=decimal, thousands=thousands)
            for name in names
        ]
        writer.writerow([*cells, "x" * 200_000] if extra else cells)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]))
    raw = out.getvalue().encode(encoding)
    path = folder / "log.csv"
    path.write_bytes(gzip.compress(raw) if draw(st.booleans()) else raw)
    intake = Intake(strict=True)
    assert_same(read_logs([path], intake), plainly(rows, folder))
    assert any("remark" in note for note in intake.notes) == extra


@settings(max_examples=40, deadline=None)
@given(rows=logs(), data=st.data())
def test_json_in_any_spelling_is_the_plain_log(
    rows: list[dict[str, Any]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, draw = tmp_path_factory.mktemp("odd"), data.draw
    nested, as_text = draw(st.booleans()), draw(st.booleans())
    records = []
    for row in rows:
        flat = {name: str(v) if as_text and isinstance(v, float) else v for name, v in row.items() if name != "f0"}
        flat["context"] = draw(st.sampled_from([[row["f0"]], json.dumps([row["f0"]])]))
        for name in ("cost_usd", "reward"):
            if flat[name] is None:
                flat[name] = draw(st.sampled_from([None, float("nan"), "NaN", "", "null"]))
        parts = ("event_id", "arm", "propensity", "context")
        halves = {part: flat[part] for part in parts}, {name: v for name, v in flat.items() if name not in parts}
        records.append({"decision": halves[0], "outcome": halves[1]} if nested else flat)
    form = draw(st.sampled_from(["lines", "indented", "array", "indented array"]))
    if "array" in form:
        text = json.dumps(records, indent=2 if "indented" in form else None)
    else:
        text = "\n".join(json.dumps(record, indent=2 if form == "indented" else None) for record in records)
    text = draw(st.sampled_from([text, text.replace("\n", "\r\n"), text.replace("NaN", "nan")]))
    path = folder / "log.json"
    path.write_bytes(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    assert_same(read_logs([path], Intake(strict=True)), plainly(rows, folder))


TYPES = {
    "arm": [pl.String, pl.Categorical],
    "propensity": [pl.Float64, pl.Float32, pl.Decimal(20, 6), pl.String],
    "quality": [pl.Float64, pl.Float32, pl.Decimal(20, 6), pl.String],
    "tokens": [pl.Float64, pl.Int32, pl.Int64, pl.UInt64, pl.Decimal(20, 2), pl.String],
    "degraded": [pl.Boolean, pl.Int8, pl.String],
    "timestamp_s": [pl.Float64, pl.Int64, pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("ms", "UTC"), pl.String],
}


@settings(max_examples=40, deadline=None)
@given(rows=logs(), data=st.data())
def test_parquet_of_any_types_is_the_plain_log(
    rows: list[dict[str, Any]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, draw = tmp_path_factory.mktemp("odd"), data.draw
    frame = pl.DataFrame(
        rows, schema_overrides={name: pl.Float64 for name in ("quality", "cost_usd", "tokens", "reward")}
    )
    for name, types in TYPES.items():
        kind = draw(st.sampled_from(types))
        if isinstance(kind, pl.Datetime):
            unit = {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.time_unit]
            frame = frame.with_columns((pl.col(name).cast(pl.Int64) * unit).cast(kind))
        else:
            frame = frame.with_columns(pl.col(name).cast(kind))
    if draw(st.booleans()):
        frame = frame.select(pl.exclude("f0"), pl.concat_list("f0").alias("context"))
    elif draw(st.booleans()):
        frame = frame.select(pl.exclude("f0"), pl.struct("f0").alias("context"))
    frame = frame.with_columns(when=pl.lit(1).cast(pl.Duration), inner=pl.struct(a=pl.lit(1)), raw=pl.lit(b"\xff"))
    path = folder / "log.parquet"
    frame.write_parquet(path, compression=draw(st.sampled_from(["zstd", "snappy", "gzip", "uncompressed"])))
    intake = Intake(strict=True)
    assert_same(read_logs([path], intake), plainly(rows, folder))
    assert [note for note in intake.notes if "when, inner, raw" in note]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("stars/5", 0.8),
        ("(stars-1)/4", 0.75),
        ("1-quality/5", 0.4),
        ("stars%", 0.04),
        ("stars*0.25", 1.0),
        ("stars:percent", 0.04),
        ("stars:ms", 0.004),
        ("other-1", 0.5),
        ("quality/5", 0.6),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_is_rescaled_by_its_expression(text: str, got: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.{suffix}"
    row = {"arm": "a", "propensity": 0.5, "stars": 4, "quality": 3, "other-1": 0.5}
    frame = pl.DataFrame([row])
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](path)
    log = read_logs([path], Intake(strict=True), columns=parse_columns(f"quality={text}"))
    assert log.channel("quality")[0] == pytest.approx(got)
