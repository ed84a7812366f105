"""How many adapter slots pay off: one policy and controller over growing capacity, on the same streams."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from bandit_router.errors import InvalidInput
from bandit_router.simulators.experiment import Progress, run_scenario
from bandit_router.simulators.results import interval
from bandit_router.simulators.scenario import Scenario

MOST_SIZES = 1000  # each is a run of its own


def parse_slots(text: str) -> tuple[int, ...]:
    """Slots to try, ascending: "1,2,4" or a closed range "1:8".

    Raises:
        InvalidInput: they are no numbers, or more than `MOST_SIZES`.

    Example:
        >>> parse_slots("1:4"), parse_slots("2,8,4")
        ((1, 2, 3, 4), (2, 4, 8))
    """
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            slots: Sequence[int] = range(first, last + 1)[: MOST_SIZES + 1]
        else:
            slots = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InvalidInput(f"slots must be like 1,2,4 or 1:8, got {text!r}") from None
    if len(slots) > MOST_SIZES:
        raise InvalidInput(f"slots must be at most {MOST_SIZES} numbers, got {text!r}; try a few such as 1,2,4,8,16")
    if not slots or slots[0] < 0:
        raise InvalidInput(f"slots must be one or more numbers of at least 0, got {text!r}")
    return tuple(slots)


def capacity_curve(
    scenario: Scenario, folder: Path | None, slots: tuple[int, ...], *, jobs: int, progress: Progress
) -> dict[str, Any]:
    """The document of `bandit-router capacity --json`; the scenario has paging and one policy.

    The marginal value of a slot is the gain in utility per request from one size to the next, divided by the slots
    between them, with a 95 % interval over seeds: streams are the same at every size, so the differences are paired.
    """
    if scenario.paging is None:
        raise InvalidInput(f"scenario {scenario.name} has no paging")
    rows, utilities = [], []
    for count in slots:
        paging = replace(scenario.paging, capacity_slots=count)
        experiment = run_scenario(replace(scenario, paging=paging), folder, jobs=jobs, progress=progress)
        result = experiment.document["policies"][0]
        utilities.append(experiment.utilities[result["policy"]])
        rows.append(
            {
                "slots": count,
                "utility_mean": result["utility_mean"],
                "marginal_utility": None,
                **{name: result["paging"][name] for name in ("miss_rate", "page_ms_per_request", "loads")},
            }
        )
    for i, (smaller, larger) in enumerate(pairwise(range(len(slots)))):
        gain = (np.asarray(utilities[larger]) - np.asarray(utilities[smaller])) / (slots[larger] - slots[smaller])
        rows[i]["marginal_utility"] = interval(gain)
    return {
        "scenario": scenario.name,
        "policy": scenario.policies[0].title,
        "seeds": scenario.seeds,
        "capacity": rows,
    }
