"""`bandit-router state`: show, verify, rebuild, export, import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from bandit_router.cli.state import app
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.snapshot import decode, encode
from support.routers import make_router

ARMS = [Arm(id="small"), Arm(id="large")]


def open_router(url: str, **settings: Any) -> Router:
    settings = {"policy": "LinUCB", **settings}
    return make_router(arms=ARMS, context=2, key=b"k", store=Store(url, snapshot_every=4, wait_s=10.0), **settings)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/events.db"
    rng = np.random.default_rng(0)
    with open_router(url) as router:
        for number in range(10):
            router.decide(rng.normal(size=2), event_id=str(number))
            router.observe(str(number), Outcome(quality=rng.random()))
        router.observe("9", Outcome(quality=2.0))
    return url


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments and code in (0, 3) else result.output


def damage(url: str, position: int) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        query = text("SELECT body FROM snapshots WHERE position = :p")
        body = bytearray(connection.execute(query, {"p": position}).scalar_one())
        body[len(body) // 2] ^= 1
        change = text("UPDATE snapshots SET body = :b WHERE position = :p")
        connection.execute(change, {"b": bytes(body), "p": position})
    engine.dispose()


def test_show_lists_what_is_there(url: str) -> None:
    report = run("show", url, "--json")
    assert report["position"] == 10
    assert report["rows"]["decisions"] == 10
    assert report["quarantine"] == {"out_of_range": 1}
    assert sum(arm["learned"] for arm in report["arms"]) == 10
    assert report["snapshots"][0]["position"] == 0
    assert all(snapshot["fault"] is None for snapshot in report["snapshots"])
    assert "arm small: active" in run("show", url)


def test_verify_passes_on_an_honest_store_and_fails_on_a_damaged_one(url: str) -> None:
    checks = run("verify", url, "--json")
    assert len(checks) >= 2
    assert all(check["fault"] is None for check in checks)
    damage(url, 10)
    assert "digest is wrong" in run("verify", url, "--json", code=3)[-1]["fault"]


def test_verify_notices_a_sealed_snapshot_that_is_not_the_fold(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        body = connection.execute(text("SELECT body FROM snapshots WHERE position = 10")).scalar_one()
        found = decode(body)
        found.state["counts"][0] += 1
        forged = encode(found.position, found.state, policy=found.policy)
        connection.execute(text("UPDATE snapshots SET body = :b WHERE position = 10"), {"b": forged})
    engine.dispose()
    assert "differs from what the log gives" in run("verify", url, "--json", code=3)[-1]["fault"]


def test_rebuild_mends_a_damaged_store(url: str) -> None:
    damage(url, 10)
    run("rebuild", url)
    assert [check["fault"] for check in run("verify", url, "--json")] == [None, None]


def test_an_exported_state_can_be_imported_elsewhere(url: str, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    run("export", url, file)
    other = f"sqlite:///{tmp_path}/other.db"
    open_router(other).close()
    assert run("import", other, file, "--json") == {"position": 1, "quarantined": {}}
    with open_router(url) as source, open_router(other) as target:
        assert target.learner.position == 1
        one, two = source.policy.state(), target.policy.state()
        assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert all(check["fault"] is None for check in run("verify", other, "--json"))


def test_an_import_puts_a_bad_arm_at_its_prior(url: str, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    run("export", url, file)
    found = decode(file.read_bytes())
    found.state["theta"][1] = np.nan
    file.write_bytes(encode(found.position, found.state, policy=found.policy, arms=found.arms))
    assert run("import", url, file, "--json") == {"position": 11, "quarantined": {"large": "theta is not finite"}}
    with open_router(url) as router:
        assert router.policy.state()["counts"].tolist() == [found.state["counts"][0], 0]


def test_a_damaged_file_is_not_imported(url: str, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    run("export", url, file)
    file.write_bytes(file.read_bytes()[:-1])
    assert "digest is wrong" in run("import", url, file, code=4)
    assert run("show", url, "--json")["position"] == 10


def test_signed_snapshots_need_the_key(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path}/signed.db", tmp_path / "key"
    key.write_bytes(b"secret")
    Router(arms=ARMS, context=2, store=Store(url, snapshot_key=b"secret")).close()
    assert run("verify", url, "--key-file", key, "--json")[0]["fault"] is None
    run("verify", url, code=4)


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    assert "there is no store" in run("show", f"sqlite:///{tmp_path}/none.db", code=4)
    (tmp_path / "text.db").write_text("not a database, whatever its name says" * 100)
    run("show", f"sqlite:///{tmp_path}/text.db", code=5)
    run("show", "postgresql://nobody@127.0.0.1:1/nothing", code=5)
    assert "sqlite:/// and postgresql://" in run("show", "mysql://host/db", code=2)
    assert "sqlite:///events.db" in run("show", "events.db", code=2)


def test_a_file_that_cannot_be_used_is_not_blamed_on_the_store(url: str, tmp_path: Path) -> None:
    refused = run("export", url, tmp_path / "none" / "state", code=1)
    assert "cannot write" in refused
    assert "No such file or directory" in refused
    missing = run("import", url, tmp_path / "none", code=2)
    assert "does not exist" in " ".join(missing.replace("│", " ").split())


def test_a_password_is_not_repeated_when_a_url_is_wrong() -> None:
    output = run("show", "postgresql://me:secret@host:port/name", code=2)
    assert "host:port/name" in output
    assert "secret" not in output


def test_two_policies_in_one_store_have_to_be_named(url: str) -> None:
    open_router(url, policy="UCB1").close()
    assert "name one policy" in run("verify", url, code=4)
    name = next(s["policy"] for s in run("show", url, "--json")["snapshots"] if s["policy"].startswith("UCB1"))
    assert all(check["fault"] is None for check in run("verify", url, "--policy", name, "--json"))
