"""States that are whole, and that no policy can be in: refused, or arm by arm at the prior, without much memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit_router.cli.state import app
from bandit_router.policies import LinUCB
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.store import Store
from bandit_router.store.snapshot import encode, policy_key

POLICIES = ["EvidenceThompson", "LinUCB"]
Edit = tuple[str, Any]


def open_router(folder: Path, policy: str) -> Router:
    store = Store(f"sqlite:///{folder}/e.db", wait_s=10.0)
    return Router(arms=[Arm(id=name) for name in "abc"], context=2, policy=policy, key=b"k", store=store)


def edits() -> Iterator[Any]:
    for name, value in (
        ("steps", -5),
        ("steps", 2**62),
        ("steps", np.zeros(3, np.int64)),
        ("parameter.n_arms", 10**9),
        ("parameter.n_arms", 0),
        ("parameter.n_arms", -1),
        ("parameter.n_arms", 2),
        ("parameter.n_arms", np.array([3, 3])),
        ("parameter.dim", 10**6),
        ("parameter.dim", 3),
        ("router.metered", np.zeros(1, np.int64)),
        ("router.metered", np.full(7, -7)),
        ("router.metered", np.zeros(7)),
    ):
        yield pytest.param((name, np.asarray(value)), id=f"{name} {value}")
    for name in ("steps", "parameter.n_arms", "parameter.dim", "router.metered"):
        yield pytest.param((name, None), id=f"{name} is missing")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("edit", list(edits()))
def test_an_impossible_state_is_refused_with_a_sentence(edit: Edit, policy: str, tmp_path: Path) -> None:
    with open_router(tmp_path, policy) as router:
        router.decide([1.0, 0.5], event_id="e")
        router.observe("e", Outcome(quality=0.5))
        position, state = router.learner.capture()
        name = policy_key(router.policy, router.learner.channels)
    kept = {key: value for key, value in state.items() if key != edit[0]}
    (tmp_path / "file").write_bytes(
        encode(position, {**kept, **({} if edit[1] is None else dict([edit]))}, policy=name)
    )
    tracemalloc.start()
    result = CliRunner().invoke(app, ["import", f"sqlite:///{tmp_path}/e.db", f"{tmp_path}/file"])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.exit_code == 4, result.output
    assert most < 50e6
    with open_router(tmp_path, policy) as router:
        assert (router.policy.steps, router.learner.position) == (1, 1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("value", [1e308, -1.0, -7, 2**62])
def test_arrays_of_impossible_numbers_never_keep_a_router_from_deciding(
    value: float, policy: str, tmp_path: Path
) -> None:
    with open_router(tmp_path, policy) as router:
        for number in range(20):
            router.decide([1.0, number / 20], event_id=f"e{number}")
            router.observe(f"e{number}", Outcome(quality=0.5, cost_usd=0.1))
        position, state = router.learner.capture()
        name = policy_key(router.policy, router.learner.channels)
    kind = "f" if isinstance(value, float) else "i"
    fixed = ("steps", "router.metered")
    for key, array in state.items():
        if array.dtype.kind != kind or key.startswith("parameter.") or key in fixed:
            continue
        (tmp_path / "file").write_bytes(encode(position, {**state, key: np.full_like(array, value)}, policy=name))
        result = CliRunner().invoke(app, ["import", f"sqlite:///{tmp_path}/e.db", f"{tmp_path}/file"])
        assert result.exit_code in (0, 4), (key, result.output)
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
        with open_router(tmp_path, policy) as router:
            before = router.policy.steps
            decided = [router.decide([1.0, 0.1], event_id=f"{key}{n}") for n in range(5)]
            assert not any(decision.degraded for decision in decided), key
            assert router.observe(f"{key}0", Outcome(quality=0.5)).reward == 0.5
            assert router.policy.steps == before + 1, key


@pytest.mark.parametrize("policy", POLICIES)
def test_an_array_of_another_type_is_refused(policy: str, tmp_path: Path) -> None:
    with open_router(tmp_path, policy) as router:
        _, state = router.learner.capture()
        name = policy_key(router.policy, router.learner.channels)
    names = [key for key, array in state.items() if array.ndim and array.dtype.kind in "fi"]
    for key in names:
        (tmp_path / "file").write_bytes(encode(0, {**state, key: np.zeros(state[key].shape, np.uint8)}, policy=name))
        result = CliRunner().invoke(app, ["import", f"sqlite:///{tmp_path}/e.db", f"{tmp_path}/file"])
        assert result.exit_code == 4, (key, result.output)


def test_a_bad_arm_starts_at_its_prior_and_the_others_stay(tmp_path: Path) -> None:
    with open_router(tmp_path, "LinUCB") as router:
        for number in range(60):
            router.decide([1.0, number / 20], event_id=f"e{number}")
            router.observe(f"e{number}", Outcome(quality=0.5))
        position, state = router.learner.capture()
        name = policy_key(router.policy, router.learner.channels)
    state["theta"][1] = 1e308
    (tmp_path / "file").write_bytes(encode(position, state, policy=name, arms=("a", "b", "c")))
    result = CliRunner().invoke(app, ["import", f"sqlite:///{tmp_path}/e.db", f"{tmp_path}/file"])
    assert "arm b starts at its prior: theta is too large to square" in result.output
    with open_router(tmp_path, "LinUCB") as router:
        policy = router.policy
        assert isinstance(policy, LinUCB)
        found = policy.state()["theta"]
        assert np.array_equal(found[0], state["theta"][0])
        assert not found[1].any()
