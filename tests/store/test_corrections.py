"""Quarantine, release and unlearn: what is learned is, byte for byte, as if the log had been so from the beginning."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli import app
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.inspection import Inspection
from support.databases import Clock, tick

ARMS = [Arm(id="a"), Arm(id="b")]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/events.db"


def open_router(url, tmp_path):
    store = Store(url, spool=tmp_path / "q")
    return Router(arms=ARMS, context=2, policy="LinUCB", store=store, key=b"k", clock=Clock())


def serve(router, first, count, without=()):
    """Requests by number; every fourth is reported by a client that lies, the seventh has a bill in a wrong unit."""
    for i in range(first, first + count):
        rng, lies = np.random.default_rng(i), i % 4 == 0
        decision = router.decide([1.0, rng.normal()], event_id=f"e{i}", eligible=["ab"[i % 2]])
        cost = 1e4 if i == 17 else 0.1 + 0.1 * rng.random()
        if f"e{i}" not in without:
            outcome = Outcome(quality=0.0 if lies else rng.random(), cost_usd=cost)
            router.observe(decision.event_id, outcome, source="liar" if lies else "client")
    router.flush()


def learned(router):
    return {name: array.tobytes() for name, array in router.policy.state().items()}


def alone(tmp_path, name, without):
    """The state of a router that was never told the outcomes of these events."""
    with open_router(f"sqlite:///{tmp_path}/{name}.db", tmp_path / name) as router:
        serve(router, 0, 40, without)
        return learned(router)


LIES = [f"e{i}" for i in range(0, 40, 4)]


def test_a_source_is_unlearned_exactly_also_by_a_router_that_runs(url, tmp_path):
    with open_router(url, tmp_path) as router:
        serve(router, 0, 40)
        store = Inspection(url)
        done = store.unlearn(source="liar")
        assert (done.changed, done.position) == (10, 41)
        tick(router)
        assert learned(router) == alone(tmp_path, "alone", LIES)
        assert all(check.fault is None for check in store.verify())
        assert store.unlearn(source="liar").changed == 0
    with open_router(url, tmp_path) as router:
        assert learned(router) == alone(tmp_path, "again", LIES)
    store.close()


def test_what_was_unlearned_is_released_again_to_the_same_bytes(url, tmp_path):
    with open_router(url, tmp_path) as router:
        serve(router, 0, 40)
        before, store = learned(router), Inspection(url)
        store.unlearn(["e1", "e2"])
        store.unlearn(source="liar")
        tick(router)
        assert learned(router) == alone(tmp_path, "alone", [*LIES, "e1", "e2"])
        store.release([*LIES, "e1", "e2"])
        tick(router)
        assert learned(router) == before
        assert store.report().settled["lost"] == 2
        store.close()


def test_a_suspect_bill_is_in_quarantine_and_learned_when_released(url, tmp_path):
    with open_router(url, tmp_path) as router:
        serve(router, 0, 40)
        assert router.counters["refused_suspect"] == 1
        store = Inspection(url)
        (one,) = store.held()
        assert (one.event_id, one.reason, one.outcome.cost_usd, one.source) == ("e17", "suspect", 1e4, "client")
        steps = router.policy.steps
        assert store.release(["e17"]).changed == 1
        tick(router)
        assert router.policy.steps == steps + 1
        assert store.held() == []
        store.close()


def test_what_cannot_be_corrected_is_refused_before_anything_changes(url, tmp_path):
    with open_router(url, tmp_path) as router:
        serve(router, 0, 40)
        router.decide([1.0, 0.0], event_id="other")
        router.observe("other", Outcome(quality=0.5), served_arm="z")
        router.flush()
        store, before = Inspection(url), learned(router)
        with pytest.raises(InvalidInput, match="1 events are not in the log, for instance 'nobody'"):
            store.unlearn(["e1", "nobody"])
        with pytest.raises(InvalidInput, match="no reward of the source 'Liar'"):
            store.unlearn(source="Liar")
        with pytest.raises(InvalidInput, match="teaches nothing: its status is diverted"):
            store.release(["other"])
        tick(router)
        assert learned(router) == before
        assert store.report().position == 41
        store.close()


def test_the_command_line_shows_releases_and_unlearns(url, tmp_path):
    with open_router(url, tmp_path) as router:
        serve(router, 0, 40)
    run, file = CliRunner(), tmp_path / "events.txt"
    file.write_text("e1\ne2\n")

    def state(*given):
        result = run.invoke(app, ["state", *given])
        return result.exit_code, result.output

    code, shown = state("quarantine", url)
    assert code == 0
    assert shown.startswith("'e17': suspect from 'client': {'quality': ")
    assert shown.endswith("'cost_usd': 10000.0}\n")
    assert state("release", url, "e17") == (0, "changed 1 entries; learned anew at position 41\n")
    assert state("unlearn", url, "--source", "liar") == (0, "changed 10 entries; learned anew at position 42\n")
    assert state("unlearn", url, "--events", str(file)) == (0, "changed 2 entries; learned anew at position 43\n")
    assert state("unlearn", url)[0] == 2
    assert state("verify", url)[0] == 0
    assert state("quarantine", url, "--json") == (0, "[]\n")
