"""Short kill campaigns; `python -m tests.support.kill_campaign` runs the long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.kill_campaign import campaign
from support.postgres import Postgres


@pytest.mark.slow
def test_twenty_kills_on_sqlite_violate_nothing(tmp_path: Path) -> None:
    report = campaign(f"sqlite:///{tmp_path}/events.db", tmp_path, kills=20)
    assert report["violations"] == []
    assert report["answers"]["decided"] > 100
    assert report["answers"]["settled"] > 20
    assert sum(kills for point, kills in report["by_point"].items() if point != "anywhere") >= 3


@pytest.mark.slow
def test_kills_on_postgresql_and_of_postgresql_violate_nothing(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.new_database()
    report = campaign(url, tmp_path, kills=4, seed=2, crash_server=postgres.bounce, crash_every=3)
    assert report["violations"] == []
    assert report["answers"]["settled"] > 5
