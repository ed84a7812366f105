"""OpenTelemetry evaluation results as outcomes: which evaluator is which field, and what a label is worth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from bandit_router.errors import InvalidInput
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.logs.intake import Intake
from bandit_router.replay.logs.joined import Joiner
from bandit_router.replay.logs.spans import Event
from bandit_router.replay.logs.values import number

RESULT = "gen_ai.evaluation.result"
UNKNOWN = "evaluation of an unknown or repeated response id"
_WORTH = {"pass": 1.0, "passed": 1.0, "correct": 1.0, "fail": 0.0, "failed": 0.0, "incorrect": 0.0}
_FIELDS = (*CHANNELS, "reward")


class Evaluations:
    """Collects results and joins them, so that neither their order nor a second evaluator changes what is read.

    An evaluator that has a field's name, or is given for it, is that field. The quality is otherwise that of the one
    evaluator that is left; of several, their mean.

    Args:
        columns: field to evaluator name, and under "labels" what labels are worth: "good:1+poor:0".

    Raises:
        InvalidInput: a field that no evaluation can be, or a label without a number.
    """

    def __init__(self, columns: Mapping[str, str], intake: Intake) -> None:
        wrong = [name for name in columns if name not in (*_FIELDS, "labels")]
        if wrong:
            raise InvalidInput(f"an evaluator can be {', '.join(_FIELDS)}; or labels=good:1+poor:0; got {wrong[0]!r}")
        self.intake = intake
        self._field = {evaluator: name for name, evaluator in columns.items() if name != "labels"}
        self._worth = {**_WORTH, **_labels(columns.get("labels", ""))}
        self._chosen = set(columns)
        self._found: list[tuple[str, int, tuple[str, ...], str, float]] = []

    def take(self, event: Event, file: str, line: int) -> None:
        """Keep one result; one without a score is counted."""
        attributes = event.attributes
        name = str(attributes.get("gen_ai.evaluation.name") or "")
        value, label = (attributes.get(f"gen_ai.evaluation.score.{part}") for part in ("value", "label"))
        score = number(value)
        if score is None:
            score = self._worth.get(str(label).strip().lower())
        if score is None:
            self.intake.notes[f"evaluations without a score; say what label {str(label)[:40]!r} is worth"] += 1
            return
        ids = (attributes.get("bandit_router.event_id"), event.key, attributes.get("gen_ai.response.id"))
        self._found.append((file, line, tuple(id for id in ids if isinstance(id, str)), name, score))

    def join(self, joiner: Joiner) -> None:
        """Give every request its scores; a result of none that is known is reported."""
        use = self._uses({name for *_, name, _ in self._found})
        scores: dict[tuple[str, str], dict[str, set[float]]] = defaultdict(lambda: defaultdict(set))
        places: dict[tuple[str, str], tuple[str, int]] = {}
        for file, line, ids, name, score in self._found:
            event = joiner.event(ids)
            if event is None:
                self.intake.reject(file, line, UNKNOWN, ids[0] if ids else "")
            elif (field := use.get(name)) is None:
                self.intake.notes[f"evaluations by {name[:40]}, not used"] += 1
            else:
                scores[event, field][name].add(score)
                places.setdefault((event, field), (file, line))
        for (event, field), by in scores.items():
            value = _mean([_mean(found) for found in by.values()])
            joiner.add(*places[event, field], (event,), {field: value})

    def _uses(self, names: set[str]) -> dict[str, str]:
        """The field of every evaluator that is used."""
        use = {name: self._field.get(name, name) for name in names if name in self._field or name in _FIELDS}
        left = sorted(names - use.keys())
        if "quality" in self._chosen | set(use.values()):
            return use
        if len(left) > 1:
            shown = ", ".join(name or "one without a name" for name in left)[:80]
            self.intake.notes[f"evaluators whose mean is the quality, choose by quality=NAME: {shown}"] += len(left)
        return {**use, **dict.fromkeys(left, "quality")}


def _mean(values: set[float] | list[float]) -> float:
    return math.fsum(sorted(values)) / len(values)


def _labels(text: str) -> dict[str, float]:
    worth = {}
    for part in filter(None, text.split("+")):
        label, _, value = part.rpartition(":")
        score = number(value)
        if not label or score is None:
            raise InvalidInput(f"expected labels=good:1+poor:0, got {part!r}")
        worth[label.strip().lower()] = score
    return worth
