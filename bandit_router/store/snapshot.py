"""Captured states as bytes: a safetensors file that proves it is whole, and is checked in full before it is used.

Layout (safetensors): header length, JSON header, arrays. The last array is `digest`: the SHA-256 of every byte before
it, or their HMAC-SHA256 when a key is given, so that neither a flipped bit nor a missing tail nor another author goes
unnoticed. Nothing is parsed before the digest is right, and nothing in the format can hold code.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Policy
from bandit_router.policies.linear import unpack
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.policies.state import MOST, Form, check_sizes
from bandit_router.records.outcomes import MAX_SQUARED
from bandit_router.settling.learner import State

FORMAT, VERSION = "bandit-router-state", "1"
MAX_BYTES = 1 << 32
_DIGEST = "digest"
_DIGEST_BYTES = 32
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_ROUNDING = 1e-8
_UNSEEN = np.finfo(np.float64).max  # a range that has seen nothing yet has these ends
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A decoded snapshot: the log position it stands at, the policy it belongs to, and the arrays.

    `arms` are the ids of its arms, in order; empty in a store, which has the list of its own.
    """

    position: int
    policy: str
    state: State
    arms: tuple[str, ...] = ()


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def policy_key(policy: Policy, channels: Sequence[str], monitor: DriftMonitor | None = None) -> str:
    """What a state belongs to: a policy with its settings (but the number of arms, which grows), what watches it, and
    its channels.

    Example:
        >>> from bandit_router.policies import Fixed
        >>> policy_key(Fixed(n_arms=3, dim=2, channels=2), ["quality", "cost_usd"])
        'Fixed(dim=2, channels=2, arm=0) of quality+cost_usd'
    """
    settings = (f"{name}={value}" for name, value in policy.settings().items() if name != "n_arms")
    watched = "" if monitor is None else f" watched by {monitor.settings}"
    return f"{type(policy).__name__}({', '.join(settings)}){watched} of {'+'.join(channels)}"


def class_of(key: str) -> str:
    """Name of the policy in a `policy_key`."""
    return key.partition("(")[0]


def channels_of(key: str) -> tuple[str, ...]:
    """Channels in a `policy_key`."""
    return tuple(key.rpartition(" of ")[2].split("+"))


def encode(
    position: int,
    state: Mapping[str, NDArray[Any]],
    *,
    policy: str = "",
    arms: Sequence[str] = (),
    key: bytes | None = None,
) -> bytes:
    """A state as snapshot bytes; equal states give equal bytes.

    Raises:
        InvalidInput: an array is of a type that the format does not have.
    """
    about = {"format": FORMAT, "version": VERSION, "position": str(position), "policy": policy}
    if arms:
        about["arms"] = msgspec.json.encode(list(arms)).decode()
    header: dict[str, Any] = {"__metadata__": about}
    chunks, end = [], 0
    for name in sorted(state):
        array = np.asarray(state[name])
        dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
        if dtype not in _NAMES:
            raise InvalidInput(f"state['{name}'] has type {array.dtype}, expected one of {', '.join(_DTYPES.values())}")
        chunk = array.astype(dtype).tobytes()
        header[name] = _Array(_NAMES[dtype], list(array.shape), (end, end + len(chunk)))
        chunks.append(chunk)
        end += len(chunk)
    header[_DIGEST] = _Array("U8", [_DIGEST_BYTES], (end, end + _DIGEST_BYTES))
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    body = b"".join([len(text).to_bytes(8, "little"), text, *chunks])
    return body + _digest(body, key)


def decode(data: bytes, *, key: bytes | None = None) -> Snapshot:
    """The snapshot in `data`.

    Raises:
        InvalidInput: the bytes are not whole, not signed with this key, or not a snapshot.
    """
    if not 8 + _DIGEST_BYTES < len(data) <= MAX_BYTES:
        raise InvalidInput(f"a snapshot has 41 to {MAX_BYTES} bytes, got {len(data)}")
    body = data[:-_DIGEST_BYTES]
    if not hmac.compare_digest(_digest(body, key), data[-_DIGEST_BYTES:]):
        raise InvalidInput("the snapshot's digest is wrong: it is damaged, or was signed with another key")
    try:
        start = 8 + int.from_bytes(body[:8], "little")
        header = msgspec.json.decode(body[8:start], type=dict[str, dict[str, Any]])
        about = header.pop("__metadata__")
        if (about["format"], about["version"]) != (FORMAT, VERSION):
            raise InvalidInput(f"expected {FORMAT} version {VERSION}, got {about['format']} {about['version']}")
        del header[_DIGEST]
        state = {name: _array(body, start, msgspec.convert(spec, _Array)) for name, spec in header.items()}
        arms = msgspec.json.decode(about.get("arms", "[]"), type=tuple[str, ...])
        return Snapshot(position=int(about["position"]), policy=about["policy"], state=state, arms=arms)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"not a readable snapshot: {error}") from None


def _array(body: bytes, start: int, spec: _Array) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[spec.dtype])
    begin, end = spec.data_offsets
    count = math.prod(spec.shape)
    if min(spec.shape, default=0) < 0 or not 0 <= begin <= end <= len(body) - start:
        raise ValueError(f"an array lies outside of the data: {spec}")
    if end - begin != count * dtype.itemsize:
        raise ValueError(f"the array's size does not fit its shape: {spec}")
    return np.frombuffer(body, dtype, count, start + begin).reshape(spec.shape).copy()


def _digest(body: bytes, key: bytes | None) -> bytes:
    return hashlib.sha256(body).digest() if key is None else hmac.digest(key, body, "sha256")


def bad_arms(state: Mapping[str, NDArray[Any]], forms: Mapping[str, Form]) -> dict[int, str]:
    """Arms whose part of a state cannot be right, and why: numbers too large, or no matrix of the policy's `forms`.

    Raises:
        InvalidInput: the fault is not in one arm's part.
    """
    check_sizes(state)
    if "parameter.n_arms" not in state:
        raise InvalidInput("the state does not say of how many arms it is")
    n_arms = int(state["parameter.n_arms"])
    found: dict[int, str] = {}
    for name, array in state.items():
        if array.dtype.kind not in "fi":
            continue
        form = forms.get(name)
        per_arm = array.ndim > (2 if form == "symmetric" else 0) and len(array) == n_arms
        for row, part in enumerate(array if per_arm else [array]):
            problem = _problem(part, form)
            if problem is None and per_arm and _huge(part):
                problem = "is too large to square"
            if problem is not None and not per_arm:
                raise InvalidInput(f"state['{name}'] {problem}")
            if problem is not None:
                found.setdefault(row, f"{name} {problem}")
    return found


def _huge(part: NDArray[Any]) -> bool:
    size = np.abs(part)
    return bool(((size > MAX_SQUARED) & (size != _UNSEEN)).any())


def _problem(part: NDArray[Any], form: Form | None) -> str | None:
    if part.dtype.kind == "i":
        return "is no count" if part.size and (part.min() < -1 or part.max() > MOST) else None
    if not np.isfinite(part).all():
        return "is not finite"
    if form == "symmetric":
        return _problem_of_matrix(part)
    if form != "packed":
        return None
    dim = math.isqrt(2 * part.shape[-1])
    if part.ndim > 2 or part.shape[-1] * 2 != dim * (dim + 1):
        return f"has shape {part.shape}, expected the lower halves of matrices, by rows"
    try:
        np.linalg.cholesky(unpack(np.atleast_2d(part), dim).astype(np.float64))
    except np.linalg.LinAlgError:
        return "is not positive definite"
    return None


def _problem_of_matrix(matrix: NDArray[Any]) -> str | None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return f"has shape {matrix.shape}, expected a symmetric matrix"
    slack = _ROUNDING * float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > slack:
        return "is not symmetric"
    return "is not positive semi-definite" if np.linalg.eigvalsh(matrix)[0] < -slack else None


def sanitise(state: State, policy: Policy) -> tuple[State, dict[int, str]]:
    """A state with its bad arms put back to the prior of `policy`'s kind, and which they were."""
    found = bad_arms(state, policy.forms)
    if not found:
        return state, {}
    n_arms = int(state["parameter.n_arms"])
    prior = type(policy)(**{**policy.settings(), "n_arms": n_arms}).state()
    clean = {name: array.copy() for name, array in state.items()}
    for name, array in clean.items():
        if array.ndim and len(array) == n_arms and name in prior and prior[name].dtype.kind == array.dtype.kind:
            array[list(found)] = prior[name][list(found)]
    return clean, found


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one: temporary name, sync, rename, sync the folder."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
