"""One format of what was learned: exported, valued, imported, and taken by a router; arms are matched by their ids."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bandit_router import Arm, Outcome, PolicySpec, Router
from bandit_router.errors import InvalidInput
from bandit_router.policies import BootstrapLinear, EvidenceThompson, LinUCB
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs import Intake, LoggedEvents, read_logs, write_log
from bandit_router.replay.targets import frozen
from bandit_router.store.saved import SavedState, load_state, save_state
from support.cli import run

TRUTH = {"z": 0.95, "b": 0.3, "10": 0.5, "2": 0.1}  # neither in the order of letters nor of numbers
ARMS = [Arm(id=arm) for arm in TRUTH]


def served(open_router, url, arms=ARMS, count=200):
    """A store whose policy has learned that z is best."""
    router = open_router(url, arms=arms, context=1, policy=PolicySpec(name="LinUCB", settings={"alpha": 0.1}))
    for number in range(count):
        decision = router.decide([1.0], event_id=f"r-{number}")
        router.observe(decision.event_id, Outcome(quality=TRUTH[decision.arm]))
    router.close()
    return router


def uniform_log(arms=tuple(TRUTH), count=2000):
    arm = np.random.default_rng(0).integers(0, len(arms), count)
    quality = np.array([TRUTH[arms[i]] for i in arm])
    return LoggedEvents.of(arms=arms, arm=arm, propensity=np.full(count, 1 / len(arms)), quality=quality)


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet", "log.csv"])
def test_an_exported_state_is_valued_by_the_ids_of_its_arms(open_router, tmp_path, name):
    """The log's readers sort arms, 2 before 10 before b before z; by position the state would play 2, which earns 0.1.

    LinUCB plays its best arm and, with its floor of 0.01, each of the four with 0.0025.
    """
    expected = 0.99 * 0.95 + 0.0025 * sum(TRUTH.values())
    url, state = f"sqlite:///{tmp_path}/events.db", tmp_path / "state.safetensors"
    served(open_router, url)
    assert run("state", "export", url, state).exit_code == 0
    write_log(uniform_log(), tmp_path / name)
    document = json.loads(run("replay", tmp_path / name, "--policy", state, "--json").stdout)
    assert document["learning"] == "frozen state"
    assert document["metrics"]["quality"]["estimates"]["snips"]["value"] == pytest.approx(expected, abs=2e-3)
    assert document["assumptions"] == []


def test_a_store_and_its_own_state_are_two_commands(open_router, tmp_path):
    url, state = f"sqlite:///{tmp_path}/events.db", tmp_path / "state.safetensors"
    router = open_router(url, arms=ARMS, context=1, policy="UniformRandom")
    for number in range(400):
        decision = router.decide([1.0], event_id=f"r-{number}")
        router.observe(decision.event_id, Outcome(quality=TRUTH[decision.arm]))
    router.close()
    assert run("state", "export", url, state).exit_code == 0
    document = json.loads(run("replay", url, "--policy", state, "--json").stdout)
    value = document["metrics"]["quality"]["estimates"]["dr"]["value"]
    assert value == pytest.approx(np.mean([*TRUTH.values()]), abs=0.02)


def test_an_arm_that_one_of_the_two_lacks_is_said(tmp_path):
    policy = LinUCB(n_arms=3, dim=1, channels=len(CHANNELS), alpha=0.0)
    for arm, quality in enumerate((0.9, 0.1, 0.5)):
        policy.learn([1.0], arm, [quality, *[np.nan] * (len(CHANNELS) - 1)])
    log = uniform_log(("2", "b", "10"), 30)
    table, notes = frozen(policy, ("gone", "b", "10"), CHANNELS, log)
    assert table == pytest.approx(np.tile([0.0, 0.005, 0.995], (30, 1)))  # of the two that both know, 10 looks better
    assert notes == [
        "the policy does not know 2 and never plays it",
        "the log does not know gone, which was never eligible",
    ]


def test_a_state_of_no_arm_of_the_log_is_refused():
    with pytest.raises(InvalidInput, match=r"in 5 rows no arm was eligible .* it knows x, the log has b, z"):
        frozen(LinUCB(n_arms=1, dim=1, channels=len(CHANNELS)), ("x",), CHANNELS, uniform_log(("b", "z"), 5))


def test_a_state_goes_into_a_store_of_the_same_arms(open_router, tmp_path):
    """In whatever order."""
    state = tmp_path / "state.safetensors"
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("from", "same", "more", "other")]
    served(open_router, urls[0])
    run("state", "export", urls[0], state)
    for url, arms in zip(urls[1:], (ARMS, [*ARMS, Arm(id="new")], ARMS[::-1]), strict=True):
        served(open_router, url, arms, count=0)
        result = run("state", "import", url, state)
        assert result.exit_code == 0, result.stderr
        again = open_router(url, arms=arms, context=1, policy=PolicySpec(name="LinUCB", settings={"alpha": 0.1}))
        assert again.decide([1.0], event_id="next").arm in ("z", "new")
        assert again.policy.steps == 200


def test_a_router_takes_a_saved_state_by_ids_and_names(tmp_path):
    path = tmp_path / "state.safetensors"
    router = Router(arms=ARMS, context=1, policy="LinUCB")
    for number in range(50):
        decision = router.decide([1.0], event_id=str(number))
        router.observe(decision.event_id, Outcome(quality=TRUTH[decision.arm]))
    save_state(router.learner, path, key=b"secret")
    saved = load_state(path, key=b"secret")
    assert (saved.arms, saved.channels, saved.position) == (tuple(TRUTH), CHANNELS, 50)
    ids = [*TRUTH, "new"]
    again = Router(arms=[Arm(id=arm) for arm in ids], context=1, policy=saved.policy_for(ids, CHANNELS))
    means = again.policy.estimate([1.0]).mean[:, 0]
    assert means[:4].tolist() == router.policy.estimate([1.0]).mean[:, 0].tolist()
    mixed = saved.policy_for(["new", *sorted(TRUTH)], CHANNELS).estimate([1.0]).mean[:, 0]
    assert mixed[1:].tolist() == [means[ids.index(arm)] for arm in sorted(TRUTH)]
    assert mixed[0] == 0.0
    with pytest.raises(InvalidInput, match="the state has the arms z, b, 10, 2, here they are b, z; keep 10, 2"):
        saved.policy_for(["b", "z"], CHANNELS)
    with pytest.raises(InvalidInput, match=r"the state has the channels quality, cost_usd.* here they are quality"):
        saved.policy_for(ids, ("quality",))
    with pytest.raises(InvalidInput, match="signed with another key"):
        load_state(path)


def test_a_policy_that_knows_arms_by_place_keeps_their_order():
    saved = SavedState(BootstrapLinear(n_arms=2, dim=1), ("a", "b"), ("quality",), 0)
    assert saved.policy_for(["a", "b", "c"], ("quality",)).n_arms == 3
    with pytest.raises(InvalidInput, match="here they are b, a, and BootstrapLinear cannot take them in another order"):
        saved.policy_for(["b", "a"], ("quality",))


def test_an_alarm_of_the_default_policy_follows_its_arm():
    policy, rng = EvidenceThompson(n_arms=3, dim=1), np.random.default_rng(0)
    for step in range(600):
        arm = step % 3
        policy.learn([1.0], arm, [0.8 - 0.6 * (arm == 1 and step > 300) + 0.1 * rng.normal()])
    assert policy.aside.latest == 1
    moved = policy.in_order([2, 1, 0])
    assert moved.aside.latest == 1
    moved = policy.in_order([1, 2, 0])
    assert moved.aside.latest == 0
    assert moved.aside.held == sorted([1, 2, 0].index(arm) for arm in policy.aside.held)
    assert moved.probabilities([1.0]) == pytest.approx(policy.probabilities([1.0])[[1, 2, 0]], abs=1e-9)


def test_a_signed_state_is_replayed_with_its_key(open_router, tmp_path):
    router = Router(arms=ARMS, context=1, policy="LinUCB")
    save_state(router.learner, tmp_path / "state.safetensors", key=b"secret")
    write_log(uniform_log(), tmp_path / "log.parquet")
    (tmp_path / "key").write_bytes(b"secret")
    command = ("replay", tmp_path / "log.parquet", "--policy", tmp_path / "state.safetensors")
    assert run(*command).exit_code == 2
    assert run(*command, "--key-file", tmp_path / "key").exit_code == 0


def test_a_state_without_the_ids_of_its_arms_is_refused(open_router, tmp_path):
    from bandit_router.store.snapshot import decode, encode

    path = tmp_path / "state.safetensors"
    save_state(Router(arms=ARMS, context=1, policy="LinUCB").learner, path)
    found = decode(path.read_bytes())
    path.write_bytes(encode(0, found.state, policy=found.policy))
    with pytest.raises(InvalidInput, match="the state is of 4 arms and names 0; export it again"):
        load_state(path)
    url = f"sqlite:///{tmp_path}/events.db"
    open_router(url, arms=ARMS, context=1, policy="LinUCB").close()
    assert "the state is of 4 arms and names 0" in run("state", "import", url, path).stderr


def test_arms_of_a_log_from_a_store_are_those_of_its_state(open_router, url, tmp_path):
    served(open_router, url)
    state = tmp_path / "state.safetensors"
    assert run("state", "export", url, state).exit_code == 0
    assert load_state(state).arms == read_logs([url], Intake()).arms == tuple(TRUTH)
