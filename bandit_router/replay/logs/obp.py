"""Open Bandit Pipeline: its feedback dictionary (both ways), and the Open Bandit Dataset's CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.replay.logs.arrays import read_arrays
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.logs.rules import CONTEXT, HAIR, LARGEST, NUMBERS, PROPENSITY, SENSE


def from_obp(feedback: Mapping[str, Any]) -> LoggedEvents:
    """The log of an obp `BanditFeedback`; its reward becomes reward and quality, its position one-hot features.

    Raises:
        InvalidInput: a key is missing, or a length differs.

    Example:
        >>> import numpy as np
        >>> feedback = {
        ...     "n_rounds": 2,
        ...     "n_actions": 2,
        ...     "context": np.ones((2, 1)),
        ...     "action": np.array([0, 1]),
        ...     "reward": np.array([1.0, 0.0]),
        ...     "pscore": np.array([0.5, 0.5]),
        ... }
        >>> from_obp(feedback).arms
        ('0', '1')
    """
    try:
        n, k = int(feedback["n_rounds"]), int(feedback["n_actions"])
        action, reward, pscore = (np.asarray(feedback[name]) for name in ("action", "reward", "pscore"))
    except KeyError as missing:
        raise InvalidInput(f"expected an obp feedback dictionary, it lacks {missing}") from None
    if not (len(action) == len(reward) == len(pscore) == n):
        raise InvalidInput(
            f"expected {n} actions, rewards and pscores, got {len(action)}, {len(reward)}, {len(pscore)}"
        )
    given = feedback.get("context")
    context = np.ones((n, 1)) if given is None else np.asarray(given, dtype=np.float64)
    position, pi_b = feedback.get("position"), feedback.get("pi_b")
    features = [f"f{j}" for j in range(context.shape[1])]
    if position is not None:
        slots = np.arange(int(np.max(position)) + 1)
        context = np.column_stack([context, np.asarray(position)[:, None] == slots])
        features += [f"position={slot}" for slot in slots]
    probabilities = None
    if pi_b is not None:
        table = np.asarray(pi_b, dtype=np.float64)
        slot = np.zeros(n, dtype=np.intp) if position is None else np.asarray(position, dtype=np.intp)
        probabilities = table if table.ndim == 2 else table[np.arange(n), :, slot]
    return LoggedEvents.of(
        arms=[str(a) for a in range(k)],
        arm=action,
        propensity=_certain(pscore),
        contexts=context,
        quality=reward,
        probabilities=probabilities,
        features=tuple(features),
    )


def to_obp(log: LoggedEvents) -> dict[str, Any]:
    """An obp `BanditFeedback`: rows without reward are left out, `pi_b` is there if the log holds the distribution.

    obp has no eligible set, no channels and no ids; those are lost, and `degraded` rows are left out.
    """
    reward = np.where(np.isnan(log.reward), log.outcomes[:, 0], log.reward)
    part, y = log.take(~np.isnan(reward) & ~log.degraded), reward[~np.isnan(reward) & ~log.degraded]
    return {
        "n_rounds": len(part),
        "n_actions": len(part.arms),
        "context": part.contexts,
        "action_context": np.eye(len(part.arms)),
        "action": part.arm.astype(np.int64),
        "position": None,
        "reward": y,
        "expected_reward": None,
        "pi_b": None if part.probabilities is None else part.probabilities[:, :, None],
        "pscore": part.propensity,
    }


def read_obp(path: Path, intake: Intake, *, arms: Sequence[str] | None = None) -> LoggedEvents:
    """Read an obp dictionary saved with `numpy.savez(path, **feedback)`, entries that are None included; no pickle."""
    try:
        feedback = read_arrays(path, "an .npz of plain arrays, as by numpy.savez(path, **feedback)")
    except InvalidInput as error:
        raise InvalidLog(str(error)) from None
    try:
        n = int(feedback.get("n_rounds", 0))
        reasons = _reasons(feedback, n)
        good = np.array([reason is None for reason in reasons], dtype=np.bool_)
        log = from_obp({**_taken(feedback, good), "n_rounds": int(good.sum())})
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise InvalidLog(f"{path}: no obp feedback: {error}") from None
    intake.lines += n
    intake.taken += len(log)
    for row, reason in enumerate(reasons, start=1):
        if reason is not None:
            intake.reject(str(path), row, reason)
    if not len(log):
        raise intake.unusable(str(path))
    return log


def _reasons(feedback: Mapping[str, Any], n: int) -> list[str | None]:
    """Why a row cannot be used, by the rules of every log; its number is its line."""
    reasons: list[str | None] = [None] * n
    for name, reason, fits in (
        ("pscore", PROPENSITY, lambda p: np.isnan(p) | ((_certain(p) > 0) & (_certain(p) <= 1))),
        ("reward", NUMBERS, np.isfinite),
        ("reward", SENSE, lambda y: ~(np.abs(y) > LARGEST)),
        ("context", CONTEXT, np.isfinite),
        ("context", SENSE, lambda x: ~(np.abs(x) > LARGEST)),
    ):
        values = feedback.get(name)
        if values is None or np.shape(values)[:1] != (n,):
            continue  # `from_obp` says what is wrong with the shape
        fit = fits(np.asarray(values, dtype=np.float64)).reshape(n, -1).all(axis=1)
        for row in np.flatnonzero(~fit):
            reasons[row] = reasons[row] or reason
    return reasons


def _taken(feedback: Mapping[str, Any], good: Bool) -> dict[str, Any]:
    """The arrays of one row a decision, without the bad ones."""
    per_row = ("action", "reward", "pscore", "context", "position", "pi_b")
    return {
        name: value[good] if name in per_row and np.shape(value)[:1] == good.shape else value
        for name, value in feedback.items()
    }


def _certain(propensity: Any) -> F64:
    """Probabilities that float32 left a hair over 1 are 1."""
    p = np.asarray(propensity, dtype=np.float64)
    return np.where((p > 1) & (p <= 1 + HAIR), 1.0, p)


def write_obp(log: LoggedEvents, path: Path) -> None:
    """Save the obp dictionary with `numpy.savez`; entries that are None are left out."""
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in to_obp(log).items() if value is not None})
