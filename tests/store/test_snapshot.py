"""Snapshots: equal bytes for equal states, every damage detected, bad arms put back to the prior."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from bandit_router.errors import InvalidInput
from bandit_router.policies import POLICIES, DriftLinUCB, LinUCB
from bandit_router.policies.base import Policy
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.records.outcomes import Utility
from bandit_router.settling.learner import Learner
from bandit_router.store.snapshot import (
    MAX_BYTES,
    bad_arms,
    channels_of,
    class_of,
    decode,
    encode,
    policy_key,
    sanitise,
    write_file,
)


def trained(name: str = "LinUCB", arms: int = 3) -> Policy:
    rng = np.random.default_rng(0)
    policy = POLICIES[name](n_arms=arms, dim=2, channels=2)
    for _ in range(20):
        policy.learn(rng.normal(size=2), int(rng.integers(arms)), rng.random(2))
    return policy


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_state_comes_back_with_the_same_bytes(name: str) -> None:
    state = trained(name).state()
    found = decode(encode(17, state, policy="p"))
    assert (found.position, found.policy) == (17, "p")
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in found.state.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in state.items()
    }
    assert encode(17, found.state, policy="p") == encode(17, state, policy="p")
    assert bad_arms(found.state, POLICIES[name].forms) == {}


def test_safetensors_reads_the_file(tmp_path: Path) -> None:
    state = trained().state()
    write_file(tmp_path / "state", encode(1, state))
    arrays = safetensors.numpy.load_file(tmp_path / "state")
    assert arrays.keys() - {"digest"} == state.keys()
    np.testing.assert_array_equal(arrays["theta"], state["theta"])


@pytest.mark.parametrize("key", [None, b"secret"])
def test_every_flipped_bit_and_every_truncation_is_detected(key: bytes | None) -> None:
    data = encode(1, POLICIES["UCB1"](n_arms=2, dim=1).state(), key=key)
    assert decode(data, key=key).position == 1
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(InvalidInput):
                decode(bytes(damaged), key=key)
    for length in range(len(data)):
        with pytest.raises(InvalidInput):
            decode(data[:length], key=key)
    with pytest.raises(InvalidInput):
        decode(data + b"\0", key=key)


def test_a_snapshot_of_another_author_is_refused() -> None:
    data = encode(1, trained().state(), key=b"mine")
    for key in (None, b"theirs"):
        with pytest.raises(InvalidInput, match="another key"):
            decode(data, key=key)
    with pytest.raises(InvalidInput, match="another key"):
        decode(encode(1, trained().state()), key=b"mine")


def resealed(header: bytes, arrays: bytes = b"") -> bytes:
    """A file with a right digest around any content."""
    import hashlib

    body = len(header).to_bytes(8, "little") + header + arrays
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xff",
        b'{"__metadata__":{"format":"other","version":"1","position":"0","policy":""},"digest":{}}',
        b'{"__metadata__":{"format":"bandit-router-state","version":"9","position":"0","policy":""},"digest":{}}',
        b'{"__metadata__":{"format":"bandit-router-state","version":"1","position":"x","policy":""},"digest":{}}',
        *(
            b'{"__metadata__":{"format":"bandit-router-state","version":"1","position":"0","policy":""},"digest":{},"a":'
            + array
            + b"}"
            for array in (
                b'{"dtype":"F64","shape":[1],"data_offsets":[0,800]}',
                b'{"dtype":"F64","shape":[2],"data_offsets":[0,8]}',
                b'{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}',
                b'{"dtype":"F64","shape":[-1,-1],"data_offsets":[0,8]}',
                b'{"dtype":"F64","shape":[1],"data_offsets":[-8,0]}',
                b'{"dtype":"F64","shape":[9999999999999999999999],"data_offsets":[0,8]}',
                b'{"dtype":"O","shape":[1],"data_offsets":[0,8]}',
            )
        ),
    ],
)
def test_a_sealed_file_with_wrong_content_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(resealed(header, b"\0" * 8))


def test_nothing_that_is_no_snapshot_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"x" * 1000, pickle.dumps({"a": 1}) * 10):
        with pytest.raises(InvalidInput):
            decode(data)
    monkeypatch.setattr("bandit_router.store.snapshot.MAX_BYTES", 100)
    with pytest.raises(InvalidInput, match="41 to 100 bytes"):
        decode(encode(1, trained().state()))
    assert MAX_BYTES > 100


def test_objects_cannot_be_saved() -> None:
    with pytest.raises(InvalidInput, match="has type object"):
        encode(1, {"a": np.array([object()])})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda state: state["inverse"].__setitem__((1, 0), np.nan), "inverse is not finite"),
        (lambda state: state["theta"].__setitem__((1, 0, 0), np.inf), "theta is not finite"),
        (lambda state: state["inverse"].__setitem__((1, 0), -1.0), "inverse is not positive definite"),
        (lambda state: state["inverse"].__setitem__((1, 1), 1e6), "inverse is not positive definite"),
    ],
)
def test_one_bad_arm_is_put_back_to_its_prior_and_the_others_stay(damage: object, reason: str) -> None:
    policy = trained()
    state = policy.state()
    damage(state)
    assert bad_arms(state, LinUCB.forms) == {1: reason}
    clean, found = sanitise(state, policy)
    assert found == {1: reason}
    restored = LinUCB.from_state(clean).state()
    prior = LinUCB(n_arms=3, dim=2, channels=2).state()
    for name in ("inverse", "theta", "counts"):
        np.testing.assert_array_equal(restored[name][1], prior[name][1])
        np.testing.assert_array_equal(restored[name][[0, 2]], policy.state()[name][[0, 2]])


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        ([[1.0, 0.5], [0.4, 1.0]], "is not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "is not positive semi-definite"),
        ([[1.0, 1.0], [1.0, 1.0]], None),
    ],
)
def test_full_matrices_are_symmetric_and_positive_semi_definite(matrix: list[list[float]], problem: str | None) -> None:
    state = trained().state()
    state["gram"] = np.stack([np.eye(2), np.array(matrix), np.eye(2)])
    assert bad_arms(state, {"gram": "symmetric"}) == ({} if problem is None else {1: f"gram {problem}"})


def test_an_inverse_of_the_wrong_shape_is_refused() -> None:
    state = trained().state()
    state["inverse"] = np.ones((3, 4))
    assert set(bad_arms(state, LinUCB.forms)) == {0, 1, 2}
    state["shared.inverse"] = -np.ones((1, 3))
    with pytest.raises(InvalidInput, match=r"shared\.inverse"):
        bad_arms(state, {"shared.inverse": "packed"})


def test_damage_outside_of_the_arms_is_not_repaired() -> None:
    state = trained().state()
    state["parameter.alpha"] = np.asarray(np.nan)
    with pytest.raises(InvalidInput, match="alpha"):
        bad_arms(state, LinUCB.forms)


def test_the_key_of_a_policy_tells_its_settings_apart() -> None:
    """The key of a policy tells settings apart and not the number of arms."""
    key = policy_key(LinUCB(n_arms=2, dim=3), ["quality"])
    assert key == policy_key(LinUCB(n_arms=5, dim=3), ["quality"])
    assert key != policy_key(LinUCB(n_arms=2, dim=3, alpha=0.5), ["quality"])
    assert key != policy_key(LinUCB(n_arms=2, dim=3), ["quality", "cost_usd"])
    assert (class_of(key), channels_of(key)) == ("LinUCB", ("quality",))


def settings_of(cls: type[Policy]) -> Iterator[tuple[str, Any]]:
    """Every setting of a policy, and a value that is not its default."""
    for name, setting in cls.choices().items():
        if name == "precision":
            yield name, 32
        elif setting.kind is float:
            yield name, setting.default / 2 or 0.5
        else:
            yield name, setting.default + 1 if setting.default != 2 else 0


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_state_is_taken_by_policies_of_exactly_its_settings(name: str) -> None:
    def learner(**settings: Any) -> Learner:
        policy = POLICIES[name](n_arms=2, dim=2, channels=2, **settings)
        arms, channels = Catalogue([Arm(id="a"), Arm(id="b")]), ("quality", "cost_usd")
        return Learner(catalogue=arms, policy=policy, channels=channels, utility=Utility())

    mine = learner()
    mine.restore(0, learner().capture()[1])
    for setting, value in settings_of(POLICIES[name]):
        other = learner(**{setting: value})
        assert policy_key(mine.policy, mine.channels) != policy_key(other.policy, other.channels), setting
        with pytest.raises(InvalidInput, match=f"expected a state with {setting} = "):
            mine.restore(0, other.capture()[1])


def test_a_bad_arm_starts_at_the_prior_of_the_wrapped_policys_own_settings() -> None:
    policy = DriftLinUCB(n_arms=2, dim=1, ridge=5.0)
    state = policy.state()
    state["inner.inverse"][1] = np.nan
    assert sanitise(state, policy)[0]["inner.inverse"].tolist() == [[0.2], [0.2]]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_file(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
