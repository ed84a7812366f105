"""Logs with exact propensities whose answers are known from elsewhere; opt in with BANDIT_ROUTER_DATA=folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = os.environ.get("BANDIT_ROUTER_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA, reason="set BANDIT_ROUTER_DATA to the folder of the development data"),
]


def test_fixed_models_are_valued_at_their_known_means_from_the_uniform_log() -> None:
    from benchmarks import ope

    rows = ope.greenserv(Path(DATA or ""))
    assert len(rows) == 3
    for row in rows:
        assert abs(row["dr"] - row["known_mean"]) < 2.6 * row["dr_standard_error"]
        assert row["anytime"][0] < row["known_mean"] < row["anytime"][1]


def test_the_open_bandit_logs_value_each_other_within_their_intervals() -> None:
    from benchmarks import ope

    answers = ope.open_bandit(Path(DATA or ""))
    for answer in answers.values():
        assert answer["ips_normal"][0] < answer["on_policy"] < answer["ips_normal"][1]
    assert answers["uniform_from_bts"]["ips"] == pytest.approx(0.00235964, abs=1e-6)
    assert answers["uniform_from_bts"]["snips"] == pytest.approx(0.00233371, abs=1e-6)
