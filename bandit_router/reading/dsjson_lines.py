"""What one line of Vowpal Wabbit's decision-service JSON (dsjson) says, for the log's reader and for VW's learner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from bandit_router.reading.cells import BadCell, number

HAIR = 1e-6


class Malformed(ValueError):
    """The line is JSON but not a decision."""


class Choice(NamedTuple):
    """One labelled decision.

    Attributes:
        actions: as written, in the order of their numbers. chosen: index of the one that was played.
        cost: `_label_cost`. probability: of the chosen action, None where the line does not say.
        pdf: probability of every action, those listed twice added up; None where the line has none.
    """

    actions: list[dict[str, Any]]
    chosen: int
    cost: float
    probability: float | None
    pdf: list[float] | None


def choice_of(record: Mapping[str, Any]) -> Choice:
    """The decision of a line. Raises Malformed.

    The chosen action is `_label_Action` (from 1), else `_labelIndex` (from 0), else the first of `a`; where several are
    there they agree. `p` goes with `a`. A probability that float32 left a hair over 1 is 1.
    """
    if "_outcomes" in record or "_label_ca" in record:
        raise Malformed("slates, slots and continuous actions are not supported")
    shared = record.get("c")
    actions = shared.get("_multi") if isinstance(shared, dict) else None
    if not isinstance(actions, list) or not actions:
        raise Malformed("expected the actions under c._multi")
    if not all(isinstance(action, dict) for action in actions):
        raise Malformed("expected an action to be an object")
    order = _order(record.get("a"), len(actions))
    chosen = _chosen(record, order, len(actions))
    pdf, cost = _pdf(record.get("p"), order, len(actions)), _finite(record, "_label_cost")
    if cost is None:
        raise Malformed("expected a finite _label_cost")
    probability = _finite(record, "_label_probability")
    if probability is None and pdf is not None:
        probability = pdf[chosen]
    if probability is not None and 1.0 < probability <= 1.0 + HAIR:
        probability = 1.0
    return Choice(actions, chosen, cost, probability, pdf)


def _order(order: object, n: int) -> list[int]:
    """Action numbers (from 1, the chosen first); empty where the line has none."""
    if order is None:
        return []
    if not isinstance(order, list) or not order or any(type(a) is not int or not 1 <= a <= n for a in order):
        raise Malformed(f"expected a to be numbers in 1..{n}")
    return order


def _chosen(record: Mapping[str, Any], order: list[int], n: int) -> int:
    action, index = record.get("_label_Action"), record.get("_labelIndex")
    said = [action] if action is not None else []
    said += [index + 1] if type(index) is int else []
    said += order[:1]
    if not said or any(type(a) is not int or a != said[0] or not 1 <= a <= n for a in said):
        raise Malformed(f"expected _label_Action, _labelIndex and the first of a to name one action in 1..{n}")
    return int(said[0]) - 1


def _pdf(pdf: object, order: list[int], n: int) -> list[float] | None:
    if pdf is None or not order:
        return None
    if not isinstance(pdf, list) or len(pdf) != len(order) or any(type(p) not in (int, float) for p in pdf):
        raise Malformed("expected p to be as long as a")
    total = [0.0] * n
    for action, p in zip(order, pdf, strict=True):
        if not math.isfinite(p):
            raise Malformed("expected finite numbers in p")
        total[action - 1] += p
    return total


def _finite(record: Mapping[str, Any], name: str) -> float | None:
    try:
        return number(record.get(name))
    except BadCell as error:
        raise Malformed(f"{name}: {error}") from None
