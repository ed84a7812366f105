"""`bandit-router plan explore`: what a share costs beside what its log can tell."""

from __future__ import annotations

import json

import pytest

from support.cli import run


def test_more_exploration_costs_utility_and_gives_more_effective_rows() -> None:
    result = run("plan", "explore", "--share", "0.3", "--seeds", "2", "--horizon", "600", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    none, much = document["shares"]
    assert (none["share"], much["share"]) == (0, 0.3)
    assert none["cost"]["mean"] == 0
    assert much["cost"]["mean"] == pytest.approx(none["utility_mean"]["mean"] - much["utility_mean"]["mean"])
    assert much["cost"]["mean"] > 0
    for said in much["arms"].values():
        assert said["answered"] == 1
        assert said["ess"] > 5
        assert said["fixed_width"] > 0
    seldom = min(much["arms"], key=lambda arm: much["arms"][arm]["ess"])
    assert much["arms"][seldom]["ess"] > none["arms"][seldom].get("ess", 0)


def test_the_table_names_every_arm_at_every_share() -> None:
    result = run("plan", "explore", "--share", "0.1", "--seeds", "1", "--horizon", "300")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("gemini-2.5-pro") == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--share", "x"), 2), (("--share", "1.5"), 2), (("nowhere",), 2), (("adapters/trace",), 4)],
)
def test_what_cannot_be_planned_is_refused(arguments: tuple[str, ...], code: int) -> None:
    assert run("plan", "explore", *arguments).exit_code == code
