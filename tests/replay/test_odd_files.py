"""Files as they come: compressed, by standard input, in folders, hostile; and what `logs check` answers."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bandit_router.energy.table import read_mlenergy
from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.reading import cells, files
from bandit_router.reading.files import read_bytes
from bandit_router.replay.logs import Intake, LoggedEvents, read_logs, write_log
from bandit_router.simulators.trace import load_trace
from support.cli import run
from support.logs import DSJSON

TABLE = "arm,propensity,quality\na,0.5,1\nb,0.5,0\n"
ZSTD = base64.b64decode("KLUv/SAnOQEAYXJtLHByb3BlbnNpdHkscXVhbGl0eQphLDAuNSwxCmIsMC41LDAK")


def read(path: Path, **options: object) -> tuple[LoggedEvents, Intake]:
    intake = Intake()
    return read_logs([path], intake, **options), intake


@pytest.mark.parametrize(("suffix", "content"), [("csv.gz", gzip.compress(TABLE.encode())), ("csv.zst", ZSTD)])
def test_a_compressed_table_is_the_table(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(content)
    log, _ = read(path)
    assert [log.arms[i] for i in log.arm] == ["a", "b"]
    assert log.channel("quality").tolist() == [1.0, 0.0]


def test_a_gzip_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(os.urandom(1000))[:-20])
    with pytest.raises(InvalidLog, match="cut short"):
        read(path)


def test_an_archive_that_declares_gigabytes_is_refused_by_its_sizes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bandit_router.reading.files.LARGE", 1 << 20)
    path = tmp_path / "log.npz"
    np.savez_compressed(path, action=np.zeros(10**6, dtype=np.int64))
    with pytest.raises(InvalidLog, match="that expand to"):
        read(path)
    pl.select(arm=pl.repeat("a", 10**6), propensity=pl.repeat(0.5, 10**6)).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InvalidLog, match="that expand to"):
        read(tmp_path / "log.parquet")
    packed = tmp_path / "zeros.gz"
    packed.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(InvalidLog, match="that expand to"):
        read_bytes(packed)


def test_an_array_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "log.npz", "w") as archive:
        archive.writestr("action.npy", header.getvalue())
    with pytest.raises(InvalidLog, match=r"expected an \.npz"):
        read(tmp_path / "log.npz")


def test_an_obp_dictionary_is_read_as_savez_writes_it_and_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    pscore = np.array([1.0000001, 0.5], dtype=np.float32)
    feedback = {"n_rounds": 2, "n_actions": 2, "action": [0, 1], "reward": [1.0, 0.0], "pscore": pscore}
    np.savez(tmp_path / "log.npz", context=np.array([[1.0], [np.nan]]), position=None, pi_b=None, **feedback)
    log, intake = read(tmp_path / "log.npz")
    assert log.propensity.tolist() == [1.0]
    assert [(bad.line, bad.reason) for bad in intake.bad] == [(2, "context not finite")]
    np.savez(tmp_path / "log.npz", position=np.array(Hostile(), dtype=object), **feedback)
    with pytest.raises(InvalidLog, match="Python objects"):
        read(tmp_path / "log.npz")
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_its_files_and_the_odd_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_bytes(b"\x00\x01")
    (tmp_path / "README.md").write_text("about")
    log, intake = read(tmp_path)
    assert len(log) == 2
    assert [name for name in ("b.csv", "README.md") if name in "".join(intake.notes)] == ["b.csv", "README.md"]


def test_open_bandit_is_read_as_its_folder_is_published(tmp_path: Path) -> None:
    head = ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0\n"
    (tmp_path / "all.csv").write_text(head + "0,2019-11-24 00:00:17.004101+00:00,79,2,0,0.0125,81ce,0.0\n")
    (tmp_path / "item_context.csv").write_text(",item_id,item_feature_0\n0,79,0.1\n")
    log, intake = read(tmp_path, format="open-bandit")
    assert log.arms == ("79",)
    assert "affinity" not in "".join(intake.notes)


def test_mlenergy_is_read_as_its_folder_is_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = {"gpu_model": "H100", "num_gpus": 1, "max_num_seqs": 8, "energy_per_token_joules": 0.5}
    (tmp_path / "m.json").write_text(json.dumps({"model_id": "m", "task": "chat", "configurations": [found]}))
    (tmp_path / "index.json").write_text('{"models": []}')
    assert len(read_mlenergy(tmp_path, task="chat").rows) == 1
    assert "index.json" in caplog.text
    with pytest.raises(InvalidInput, match=r"index\.json is not"):
        read_mlenergy([tmp_path / "index.json"], task="chat")


def test_a_trace_with_other_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    pl.DataFrame({"adapter": ["a", "b", "a"], "when": [1, 2, 3]}).write_parquet(path)
    ids, requests = load_trace(path)
    assert ids == ("a", "b")
    assert requests.tolist() == [1, 2, 1]


def test_senseless_numbers_and_doubtful_dates_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = ["a,0.5,1,1e300,1", "b,0.5,1,1,03/04/2026", "c,0.5,1,1,3"]
    path.write_text("\n".join(["arm,propensity,quality,cost_usd,timestamp_s", *rows]))
    log, intake = read(path)
    assert log.arms == ("c",)
    assert [bad.line for bad in intake.bad] == [2, 3]
    assert "tells day from month" in intake.bad[1].detail


SERIAL = (
    "arm;propensity;quality;when\na;0,5;1;46023,5\nb;0,5;0;46024,25\n"  # the noon of 2026-01-01, 6 h of the next day
)


def test_a_spreadsheets_serial_dates_are_refused_with_the_way_to_read_them(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(SERIAL)
    with pytest.raises(InvalidLog, match=r"timestamp_s=\(when-25569\)\*86400 for days"):
        read(path, columns={"timestamp_s": "when"})
    days, _ = read(path, columns={"timestamp_s": "(when-25569)*86400"})
    assert days.timestamp_s.tolist() == [1767268800.0, 1767333600.0]
    seconds, _ = read(path, columns={"timestamp_s": "when*1"})
    assert seconds.timestamp_s.tolist() == [46023.5, 46024.25]


def test_a_clock_that_starts_at_0_is_no_serial_date(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("arm,propensity,timestamp_s\na,0.5,0\nb,0.5,40000\n")
    assert read(path)[0].timestamp_s.tolist() == [0.0, 40000.0]


def zoned(path: Path) -> Path:
    """A Parquet file with a column in a time zone that nobody knows."""
    times = pl.Series("timestamp_s", [0, 1], pl.Datetime("us", "Asia/Tokyo"))
    pl.DataFrame({"arm": ["a", "b"], "propensity": [0.5, 0.5], "quality": [1.0, 0.0]}).with_columns(
        times
    ).write_parquet(path)
    raw = path.read_bytes()
    (schema,) = re.findall(rb"[A-Za-z0-9+/=]{200,}", raw)  # Arrow's, in base64
    unknown = base64.b64decode(schema).replace(b"Asia/Tokyo", b"Mars/Tharsi"[:10])
    path.write_bytes(raw.replace(schema, base64.b64encode(unknown)))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("logs", "check"),
        ("replay", "--policy", "arm=a"),
        ("replay", "--policy", "arm=a", "--stream"),
        ("data", "import", "--out", "table", "--columns", "query=timestamp_s"),
    ],
)
def test_parquet_in_an_unknown_time_zone_is_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    result = run(*command, zoned(tmp_path / "log.parquet"))
    assert result.exit_code == 4
    assert "unable to parse time zone: 'Mars/Thars'" in result.stderr


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_standard_input_is_a_file(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    (tmp_path / "table.csv").write_text(TABLE)
    write_log(read(tmp_path / "table.csv")[0], path, format=format)
    files._standard_input.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    log, _ = read(Path("-"), format=format)
    assert [log.arms[i] for i in log.arm] == ["a", "b"]
    files._standard_input.cache_clear()


def test_standard_input_needs_its_format() -> None:
    result = run("logs", "check", "-")
    assert result.exit_code == 4
    assert "which format?" in result.stderr


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("1.234,5", ",", 1234.5),
        ("1,234.5", ".", 1234.5),
        ("1'234.5", ".", 1234.5),
        ("45 %", ".", 0.45),
        ("TRUE", ".", 1.0),
        ("−3", ".", -3.0),
        ("n/a", ".", None),
    ],
)
def test_a_number_is_read_in_any_spelling(text: str, decimal: str, expected: float | None) -> None:
    assert cells.number(text, decimal=decimal) == expected


# -- dsjson ---------------------------------------------------------------------------------------------------------


def test_an_action_that_is_there_twice_is_one_arm_with_the_sum(tmp_path: Path) -> None:
    record = json.loads(DSJSON)
    del record["EventId"]
    record |= {"a": [2, 1, 3], "p": [0.5, 0.2, 0.3], "_label_probability": 0.5}
    record["c"]["_multi"].append(record["c"]["_multi"][1])
    (tmp_path / "log.dsjson").write_text("\n" + json.dumps(record))
    log, _ = read(tmp_path / "log.dsjson")
    assert log.event_id.tolist() == ["2"]
    assert log.propensity.tolist() == [0.8]
    assert log.probabilities is not None
    assert log.probabilities[0, log.arm[0]] == 0.8
    assert log.index("large") == log.arm[0]  # its short name


def test_a_named_feature_or_the_catalogue_gives_actions_short_names(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson"
    path.write_text(DSJSON.replace('{"_tag":"small"}', '{"Model":{"id":"small"}}'))
    assert read(path, columns={"arm": "Model.id"})[0].arms == ("large", "small")
    assert read(path, arms=["small", "large"])[0].arms == ("small", "large")


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "code", "said"),
    [
        ("arm,propensity,quality\na,0.5,4\nb,0.5,1\n", 0, "--columns quality=quality/5"),
        ("arm,propensty,quality\na,0.5,1\nb,0.5,0\n", 3, "propensty (meant as propensity?)"),
        ("arm,propensity,quality\na,1,1\nb,1,0\n", 3, "every propensity is 1"),
        ("arm,propensity,quality\na,50,1\nb,50,0\n", 4, "propensity=COLUMN/100"),
        ("arm,propensity,quality,\x1b[31m\na,0.5,1,\nb,0.5,0,\n", 0, "\\x1b[31m"),
    ],
)
def test_logs_check_answers_with_its_exit_code_and_its_text(table: str, code: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(table)
    done = run("logs", "check", path)
    assert done.exit_code == code
    assert said in done.output
    assert "\x1b" not in done.output
