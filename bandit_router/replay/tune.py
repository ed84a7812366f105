"""Hyperparameters chosen on a log: progressive validation on its head, the winner valued on its tail.

The best of many estimates is too good: it was chosen for its luck as well. So the choice is made on the first part of
the log, and the winner's value is estimated again on rows that took no part in the choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.policies import policy_class, read_settings
from bandit_router.records.outcomes import Utility
from bandit_router.replay.compare import make_policy, refusals
from bandit_router.replay.estimators.intervals import Interval
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.modes import counted
from bandit_router.replay.targets import follow


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its progressive doubly robust value on the head, and the standard error."""

    settings: dict[str, Any]
    value: float
    standard_error: float


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a search.

    Attributes:
        trials: best first. settings: those of the winner.
        head_value: what the winner was chosen for. value: its value on the tail, which took no part in the choice.
        optimism: head_value - value. anytime: interval of `value`, None without a range. difference: interval of the
            tail value minus the logging policy's on the tail.
        default_value: the policy's own default settings, on the same tail.
    """

    policy: str
    trials: list[Trial]
    settings: dict[str, Any]
    head_rows: int
    tail_rows: int
    head_value: float
    value: float
    standard_error: float
    optimism: float
    default_value: float
    logged: float
    anytime: Interval | None
    difference: Interval | None


def grid(options: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination.

    Example:
        >>> grid({"alpha": [0.1, 1.0], "ridge": [1.0]})
        [{'alpha': 0.1, 'ridge': 1.0}, {'alpha': 1.0, 'ridge': 1.0}]
    """
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def read_options(policy: str, options: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The values to try, texts read by their types; raises InvalidInput for none, and for what it does not take."""
    if not options:
        raise InvalidInput(
            f"nothing to tune; {policy} has {', '.join(policy_class(policy).choices()) or 'no settings'}"
        )
    return {name: [read_settings(policy, {name: value})[name] for value in values] for name, values in options.items()}


def tune(
    log: LoggedEvents,
    policy: str,
    options: Mapping[str, Sequence[Any]],
    *,
    utility: Utility | None = None,
    bounds: Mapping[str, Interval] | None = None,
    head: float = 0.7,
    alpha: float = 0.05,
    modes: Sequence[str] | None = None,
) -> Tuned:
    """Choose settings of a policy.

    Every setting learns along the log from each row ("every", see `follow`) and is valued, row by row, before it
    learns. The value on the tail is of the policy that goes on learning there.

    Args:
        policy: its name. options: values to try, by setting.
        head: share of the rows that count, see `counted`, that the choice is made on.
        others: see `evaluate`.

    Raises:
        InvalidInput: unknown setting, a value that the policy does not take, or a head outside (0, 1).
        Unanswerable: the log cannot value the policy.
    """
    options = read_options(policy, options)
    if not 0 < head < 1:
        raise InvalidInput(f"head must be in (0, 1), got {head}")
    rows = np.flatnonzero(counted(log, modes)[0])
    split = int(rows[int(len(rows) * head)]) if len(rows) else 0

    def table(settings: Mapping[str, Any], rows: LoggedEvents) -> Any:
        return follow(make_policy(policy, rows, settings), rows, utility=utility, learning="every")[0]

    first, shared = (
        log.take(slice(0, split)),
        {"utility": utility, "bounds": bounds, "estimators": ("dr",), "modes": modes},
    )
    trials = [_trial(first, table(settings, first), settings, shared) for settings in grid(options)]
    trials.sort(key=lambda trial: -trial.value)
    tail = log.take(slice(split, None))
    answer = _answered(tail, table(trials[0].settings, log)[split:], {**shared, "alpha": alpha})
    default = _answered(tail, table({}, log)[split:], shared)
    won = answer.estimates["dr"]
    return Tuned(
        policy=policy,
        trials=trials,
        settings=trials[0].settings,
        head_rows=split,
        tail_rows=len(tail),
        head_value=trials[0].value,
        value=won.value,
        standard_error=won.standard_error,
        optimism=trials[0].value - won.value,
        default_value=default.estimates["dr"].value,
        logged=answer.logged,
        anytime=next(iter(answer.anytime.values()), None),
        difference=answer.difference,
    )


def _trial(log: LoggedEvents, table: Any, settings: dict[str, Any], shared: Mapping[str, Any]) -> Trial:
    metric = _answered(log, table, shared)
    valued = metric.estimates["dr"]
    return Trial(settings=settings, value=valued.value, standard_error=valued.standard_error)


def _answered(log: LoggedEvents, table: Any, options: Mapping[str, Any]) -> Any:
    result = evaluate(log, np.asarray(table), **options)
    if not result.answered:
        raise Unanswerable("; ".join(refusals(log, result, options["utility"])))
    return result.metrics["utility"]
