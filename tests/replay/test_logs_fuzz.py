"""Odd input: no importer crashes, and no line disappears without being counted."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.replay.logs import FORMATS
from support.odd_logs import SEEDS, feed

odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([-1, 0, 1e308, 10**400, "NaN", "2021-13-45", "é\u0000", [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(document: Any, here: tuple = ()) -> list[tuple]:
    """Every place in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [here, *(path for key, value in items for path in paths(value, (*here, key)))]


@st.composite
def mutated(draw: st.DrawFn, seed: Any) -> bytes:
    """A valid record with a few places replaced or removed, sometimes cut short or garbled."""
    document = copy.deepcopy(seed)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(paths(document)))
        if not path:
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[path[-1]] = draw(odd)
        else:
            del parent[path[-1]]
    line = json.dumps(document).encode()
    if draw(st.integers(0, 9)) == 0:
        line = line[: draw(st.integers(0, len(line)))] + draw(st.binary(max_size=6)).replace(b"\n", b"")
    return line


@pytest.mark.parametrize("name", ["jsonl", "dsjson"])
def test_each_odd_line_is_taken_or_reported(name: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(mutated(SEEDS[name]), min_size=1, max_size=5))
    def check(lines: list[bytes]) -> None:
        intake = feed(name, b"\n".join(lines))
        assert intake.lines == sum(bool(line.strip()) for line in lines)
        assert intake.lines == intake.taken + intake.refused

    check()


@pytest.mark.parametrize("name", ["litellm", "otel"])
def test_odd_joined_records_do_not_crash_and_are_counted(name: str) -> None:
    """Odd records that are joined do not crash and whole lines are counted."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(mutated(SEEDS[name]), min_size=1, max_size=5))
    def check(lines: list[bytes]) -> None:
        intake = feed(name, b"\n".join(lines))
        assert intake.lines == sum(bool(line.strip()) for line in lines)
        assert intake.taken + intake.refused + intake.notes.total() > 0 or intake.lines == 0

    check()


cell = st.text(max_size=4) | st.sampled_from(["0.5", "1", "", "nan", "-1", '"', "a|b", "1e999"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cell, min_size=1, max_size=5), max_size=5), st.binary(max_size=10))
def test_an_odd_csv_is_taken_or_reported_line_by_line(rows: list[list[str]], tail: bytes) -> None:
    body = "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
    intake = feed("csv", b"arm,propensity,quality,f0\na,0.5,1,0\n" + body + b"\n" + tail)
    assert intake.taken >= 1
    assert intake.lines == intake.taken + intake.refused


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_log_at_all_are_refused_and_do_not_crash(name: str, content: bytes) -> None:
    intake = feed(name, content)
    assert intake.taken == 0 or name in ("csv", "open-bandit")
