"""The canonical log in memory: one column per thing an estimator reads, one row per decision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Bool, Index
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import natural
from bandit_router.records.outcomes import CHANNELS, Utility

Text = NDArray[np.object_]
Scaling = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedEvents:
    """A log of n decisions over K arms; every importer makes one, every estimator takes one.

    Attributes:
        arms: ids, in the order that `arm` and the masks index.
        contexts: feature vectors, shape (n, d), finite. features: their names, length d.
        arm: index of the served arm, shape (n,).
        propensity: probability it was drawn with, in (0, 1]; NaN where the log does not say.
        outcomes: in the order of `CHANNELS`, shape (n, channels), in their units; NaN where not metered.
        reward: utility the decision settled at, shape (n,); NaN where none was joined.
        timestamp_s: seconds, NaN where unknown. event_id, policy, mode: text, shape (n,).
        state_version: outcomes the policy had learned, -1 where unknown.
        degraded: the fallback arm was served; such rows are never evaluated.
        tenant: whose request it was. unit: whom the holdout was drawn by. Text, shape (n,); None where unknown.
        failure: how the drawn arm failed, text, shape (n,); None where it did not.
        weight: how many decisions a row stands for, shape (n,); 1 unless the collector dropped some at random.
        eligible: mask of allowed arms, shape (n, K); None for all. resident: arms in fast memory; None if not logged.
        unhealthy: mask of the arms that their health kept out, shape (n, K); None for no one.
        probabilities: the whole logged distribution, shape (n, K); None if only the propensity was logged.

    Raises:
        InvalidInput: a column has another length, an index or a probability is out of range.
    """

    arms: tuple[str, ...]
    features: tuple[str, ...]
    event_id: Text
    timestamp_s: F64
    contexts: F64
    arm: Index
    propensity: F64
    outcomes: F64
    reward: F64
    policy: Text
    state_version: NDArray[np.int64]
    mode: Text
    degraded: Bool
    weight: F64
    tenant: Text
    unit: Text
    failure: Text
    eligible: Bool | None = None
    resident: Bool | None = None
    unhealthy: Bool | None = None
    probabilities: F64 | None = None

    def __post_init__(self) -> None:
        n, k = len(self.arm), len(self.arms)
        shapes = {"contexts": (n, len(self.features)), "outcomes": (n, len(CHANNELS))}
        shapes.update({name: (n, k) for name in _PER_ARM if getattr(self, name) is not None})
        for name in (*_PER_ROW, *shapes):
            got, expected = getattr(self, name).shape, shapes.get(name, (n,))
            if got != expected:
                raise InvalidInput(f"{name} must have shape {expected}, got {got}")
        if n and (self.arm.min() < 0 or self.arm.max() >= k):
            raise InvalidInput(f"arm must be in 0..{k - 1}, got {self.arm.min()}..{self.arm.max()}")
        if not np.isfinite(self.contexts).all():
            raise InvalidInput("contexts must be finite; drop or impute such rows first")
        if not ((np.isnan(self.propensity)) | ((self.propensity > 0) & (self.propensity <= 1))).all():
            raise InvalidInput("propensity must be in (0, 1], or NaN where the log has none")
        if self.eligible is not None and not self.eligible[np.arange(n), self.arm].all():
            raise InvalidInput("a served arm is not among its row's eligible arms")

    def __len__(self) -> int:
        return len(self.arm)

    def take(self, rows: slice | NDArray[Any]) -> LoggedEvents:
        """The log of some rows, by slice, mask or index; itself for a mask of all."""
        if isinstance(rows, np.ndarray) and rows.dtype == np.bool_ and rows.all():
            return self
        columns = (*_PER_ROW, *(name for name in _PER_ARM if getattr(self, name) is not None))
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def allowed(self) -> Bool:
        """The eligible mask with None spelled out, shape (n, K)."""
        return np.ones((len(self), len(self.arms)), dtype=np.bool_) if self.eligible is None else self.eligible

    def channel(self, name: str) -> F64:
        """One outcome channel or the logged "reward", shape (n,)."""
        if name == "reward":
            return self.reward
        if name not in CHANNELS:
            raise InvalidInput(f"unknown channel {name!r}; there are reward, {', '.join(CHANNELS)}")
        return self.outcomes[:, CHANNELS.index(name)]

    def metered(self) -> tuple[str, ...]:
        """Channels that some row has."""
        return tuple(name for name in CHANNELS if not np.isnan(self.channel(name)).all())

    def utility(self, utility: Utility) -> F64:
        """The outcomes at these prices, shape (n,); NaN where a channel that counts was not metered."""
        counts = [utility.priced(name) for name in CHANNELS]
        return np.asarray(self.outcomes[:, counts] @ utility.weights(CHANNELS)[counts])

    def index(self, arm: str) -> int:
        """Position of an arm id, or of the one arm whose features, as its id spells them, hold this short name."""
        if arm in self.arms:
            return self.arms.index(arm)
        found = [i for i, id in enumerate(self.arms) if arm in leaves(id)]
        if len(found) != 1:
            why = f"{len(found)} arms hold the short name" if found else "unknown arm"
            raise InvalidInput(f"{why} {arm!r}; the log has {', '.join(self.arms)}")
        return found[0]

    @classmethod
    def of(
        cls,
        *,
        arms: Sequence[str],
        arm: Any,
        propensity: Any,
        contexts: Any = None,
        outcomes: Any = None,
        quality: Any = None,
        reward: Any = None,
        eligible: Bool | None = None,
        **columns: Any,
    ) -> LoggedEvents:
        """Build a log from arrays; what is left out is unknown.

        Args:
            quality: short for `outcomes` with channel 0 alone. reward: default is the quality.
            contexts: default one constant feature.

        Example:
            >>> log = LoggedEvents.of(arms=("a", "b"), arm=[0, 1], propensity=[0.5, 0.5], quality=[1.0, 0.0])
            >>> len(log), log.channel("quality").tolist()
            (2, [1.0, 0.0])
        """
        index = np.asarray(arm, dtype=np.intp)
        n = len(index)
        table = np.full((n, len(CHANNELS)), np.nan) if outcomes is None else np.asarray(outcomes, dtype=np.float64)
        if quality is not None:
            table[:, 0] = quality
        x = np.ones((n, 1)) if contexts is None else np.asarray(contexts, dtype=np.float64)
        defaults: dict[str, Any] = {
            "event_id": np.array([str(i) for i in range(n)], dtype=object),
            "timestamp_s": np.full(n, np.nan),
            "policy": np.full(n, "", dtype=object),
            "state_version": np.full(n, -1, dtype=np.int64),
            "mode": np.full(n, "online", dtype=object),
            "degraded": np.zeros(n, dtype=np.bool_),
            "weight": np.ones(n),
            "tenant": np.full(n, None, dtype=object),
            "unit": np.full(n, None, dtype=object),
            "failure": np.full(n, None, dtype=object),
            "features": tuple(f"f{i}" for i in range(x.shape[1])),
        }
        return cls(
            arms=tuple(arms),
            arm=index,
            propensity=np.asarray(propensity, dtype=np.float64),
            contexts=x,
            outcomes=table,
            reward=table[:, 0].copy() if reward is None else np.asarray(reward, dtype=np.float64),
            eligible=eligible,
            **{**defaults, **columns},
        )


def leaves(arm: str) -> list[str]:
    """The values in an id that is an action's features as JSON; none in any other id."""
    if not arm.startswith("{"):
        return []
    try:
        held, values = [msgspec.json.decode(arm)], []
    except msgspec.DecodeError:
        return []
    while held:
        value = held.pop()
        if isinstance(value, (dict, list)):
            held += value.values() if isinstance(value, dict) else value
        else:
            values.append(str(value))
    return values


_PER_ARM = tuple(field.name for field in fields(LoggedEvents) if field.default is not MISSING)
_PER_ROW = tuple(f.name for f in fields(LoggedEvents) if f.name not in ("arms", "features", *_PER_ARM))


def concatenate(logs: Sequence[LoggedEvents]) -> LoggedEvents:
    """One log from several, over the union of their arms (in order of appearance).

    Raises:
        InvalidInput: no log, or their features differ and have no names.
    """
    if not logs:
        raise InvalidInput("expected at least one log")
    if len(logs) == 1:
        return logs[0]
    features, logs = logs[0].features, list(logs)
    if any(log.features != features for log in logs):
        if any(re.fullmatch(r"f\d+", name) for log in logs for name in log.features):
            raise InvalidInput("the logs have different features; replay them one at a time")
        features = tuple(sorted({name for log in logs for name in log.features}, key=natural))
        logs = [_over(log, features) for log in logs]
    arms = tuple(dict.fromkeys(arm for log in logs for arm in log.arms))
    columns: dict[str, Any] = {name: np.concatenate([getattr(log, name) for log in logs]) for name in _PER_ROW}
    columns["arm"] = np.concatenate([_positions(log, arms)[log.arm] for log in logs])
    for name in _PER_ARM:
        columns[name] = _widened(name, logs, arms)
    return LoggedEvents(arms=arms, features=features, **columns)


def _over(log: LoggedEvents, features: tuple[str, ...]) -> LoggedEvents:
    """The log over more named features; those it lacks are 0."""
    contexts = np.zeros((len(log), len(features)))
    contexts[:, [features.index(name) for name in log.features]] = log.contexts
    return replace(log, contexts=contexts, features=features)


def rescaled(log: LoggedEvents, scales: Mapping[str, Scaling]) -> LoggedEvents:
    """The log with some channels, or the reward, in another unit."""
    outcomes, reward = log.outcomes.copy(), log.reward
    for name, scale in scales.items():
        if name == "reward":
            reward = scale(reward)
        else:
            outcomes[:, CHANNELS.index(name)] = scale(log.channel(name))
    return replace(log, outcomes=outcomes, reward=reward) if scales else log


def _positions(log: LoggedEvents, arms: tuple[str, ...]) -> Index:
    return np.array([arms.index(arm) for arm in log.arms], dtype=np.intp)


def _widened(name: str, logs: Sequence[LoggedEvents], arms: tuple[str, ...]) -> NDArray[Any] | None:
    """A per-arm column over the union of arms; an arm that a log does not know is not eligible in it."""
    allowed = [log.allowed() for log in logs]
    values = allowed if name == "eligible" else [getattr(log, name) for log in logs]
    if name == "eligible" and all(log.eligible is None and log.arms == arms for log in logs):
        return None
    if name == "unhealthy" and any(value is not None for value in values):
        values = [np.zeros(v.shape, np.bool_) if u is None else u for u, v in zip(values, allowed, strict=True)]
    if any(value is None for value in values):
        return None
    wide = [np.zeros((len(log), len(arms)), dtype=value.dtype) for log, value in zip(logs, values, strict=True)]
    for target, log, value in zip(wide, logs, values, strict=True):
        target[:, _positions(log, arms)] = value
    return np.concatenate(wide)
