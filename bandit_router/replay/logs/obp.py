"""Open Bandit Pipeline: its feedback dictionary (both ways), and the Open Bandit Dataset's CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.errors import InvalidInput, InvalidLog
from bandit_router.replay.logs.arrays import read_arrays
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.logged import LoggedEvents


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
    context = np.asarray(feedback.get("context", np.ones((n, 1))), dtype=np.float64)
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
        propensity=pscore,
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
    """Read an obp dictionary saved with `numpy.savez` (no pickle)."""
    try:
        feedback = read_arrays(path, "an .npz of plain arrays")
    except InvalidInput as error:
        raise InvalidLog(str(error)) from None
    try:
        log = from_obp(feedback)
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidLog(f"{path}: no obp feedback: {error}") from None
    intake.lines += len(log)
    intake.taken += len(log)
    return log


def write_obp(log: LoggedEvents, path: Path) -> None:
    """Save the obp dictionary with `numpy.savez`; entries that are None are left out."""
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in to_obp(log).items() if value is not None})
