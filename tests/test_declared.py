"""Declared settings: types, texts and checks, and one sentence for one mistake at every door."""

import json
from enum import IntEnum

import numpy as np
import pytest

from bandit_router import Arm, InvalidInput, LinUCB, PolicySpec, Router
from bandit_router.declared import COUNT, POSITIVE, Declared, build, one_of, setting
from bandit_router.policies import POLICIES
from bandit_router.policies import build as build_policy
from bandit_router.routing.config import load_config
from bandit_router.simulators.scenario import load_scenario
from support.cli import run


class Shape(IntEnum):
    ROUND = 0
    SQUARE = 1


class Part(Declared):
    size: int = setting(kind=int, check=COUNT, given=True)
    count: int = setting(default=3, check=COUNT, unit="pieces")
    rate: float = setting(default=0.5, check=POSITIVE)
    bits: int = setting(default=64, check=one_of(64, 32))
    warm: bool = setting(default=True)
    word: str = setting(default="plain")
    shape: Shape = setting(default=Shape.ROUND)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("rate", "2e-3", 0.002),
        ("rate", "1", 1.0),
        ("warm", "False", False),
        ("word", "7", "7"),
        ("shape", "square", Shape.SQUARE),
        ("rate", np.float32(0.25), 0.25),
        ("count", np.int64(4), 4),
        ("shape", 1, Shape.SQUARE),
    ],
)
def test_a_value_arrives_in_the_declared_type(name, text, value):
    got = getattr(build("part", "Part", {name: text}, {"Part": Part}, size=1), name)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("count", "2.5", "Part: count must be a whole number, got '2.5'"),
        ("count", 2.5, "Part: count must be a whole number, got 2.5"),
        ("count", True, "Part: count must be a whole number, got True"),
        ("count", 0, "Part: count must be at least 1, got 0"),
        ("rate", "fast", "Part: rate must be a number, got 'fast'"),
        ("rate", None, "Part: rate must be a number, got None"),
        ("rate", "nan", "Part: rate must be finite and greater than 0, got nan"),
        ("rate", "inf", "Part: rate must be finite and greater than 0, got inf"),
        ("bits", 16, "Part: bits must be 64 or 32, got 16"),
        ("warm", "yes", "Part: warm must be true or false, got 'yes'"),
        ("warm", 1, "Part: warm must be true or false, got 1"),
        ("word", 1, "Part: word must be a word, got 1"),
        ("shape", "oval", "Part: shape must be one of ROUND, SQUARE, got 'oval'"),
        ("shape", 2, "Part: shape must be one of ROUND, SQUARE, got 2"),
        ("cuont", 1, "Part has no setting 'cuont', did you mean 'count'? it has count, rate, bits, warm, word, shape"),
        ("size", 1, "Part has no setting 'size'; it has count, rate, bits, warm, word, shape"),
    ],
)
def test_a_wrong_setting_has_a_sentence_of_its_own(name, value, sentence):
    with pytest.raises(InvalidInput) as error:
        build("part", "Part", {name: value}, {"Part": Part}, size=1)
    assert str(error.value) == sentence


def test_a_constructor_takes_no_texts_and_needs_what_has_no_default():
    with pytest.raises(InvalidInput, match=r"rate must be a number, got '0\.5'"):
        Part(size=1, rate="0.5")
    with pytest.raises(InvalidInput, match="Part needs size"):
        build("part", "Part", {}, {"Part": Part})


TYPO = "LinUCB has no setting 'alhpa', did you mean 'alpha'? it has ridge, forgetting, precision, alpha, floor"
RANGE = "LinUCB: alpha must be finite and at least 0, got -1.0"
KIND = "LinUCB: alpha must be a number, got 'wide'"
SCENARIO = """
name = "typo"
horizon_requests = 10
seeds = 1
environment = {{ kind = "table", table = "models/llm" }}
policies = [{{ name = "LinUCB", settings = {{ {key} = {value} }} }}]
"""
ROUTER = """
context = 1
arms = [{{ id = "a" }}, {{ id = "b" }}]
policy = {{ name = "LinUCB", settings = {{ {key} = {value} }} }}
"""


def constructed(name, value):
    LinUCB(n_arms=2, dim=1, **{name: value})


def named(name, value):
    build_policy("LinUCB", {name: value}, n_arms=2, dim=1)


def routed(name, value):
    arms = [Arm(id="a"), Arm(id="b")]
    Router(arms=arms, context=1, policy=PolicySpec(name="LinUCB", settings={name: value}))


@pytest.mark.parametrize("door", [constructed, named, routed])
@pytest.mark.parametrize(
    ("name", "value", "sentence"), [("alhpa", 0.1, TYPO), ("alpha", -1, RANGE), ("alpha", "wide", KIND)]
)
def test_python_says_the_same_at_every_door(door, name, value, sentence):
    with pytest.raises(InvalidInput) as error:
        door(name, value)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("name", "value", "sentence"), [("alhpa", "0.1", TYPO), ("alpha", "-1", RANGE), ("alpha", '"wide"', KIND)]
)
@pytest.mark.parametrize(("text", "load"), [(SCENARIO, load_scenario), (ROUTER, load_config)])
def test_files_say_it_too_when_they_are_read(tmp_path, text, load, name, value, sentence):
    path = tmp_path / "typo.toml"
    path.write_text(text.format(key=name, value=value))
    with pytest.raises(InvalidInput) as error:
        load(str(path))
    assert sentence in str(error.value)


@pytest.mark.parametrize("command", [("simulate",), ("replay", "absent.jsonl"), ("tune", "absent.jsonl")])
@pytest.mark.parametrize(("option", "sentence"), [("alhpa=0.1", TYPO), ("alpha=-1", RANGE), ("alpha=wide", KIND)])
def test_the_command_line_says_it_too_before_it_starts(command, option, sentence):
    result = run(*command, "--policy", "LinUCB", "--set", option)
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    "command", [("simulate",), ("replay", "absent.jsonl"), ("tune", "absent.jsonl", "--set", "a=1")]
)
def test_an_unknown_policy_is_answered_with_the_nearest(command):
    result = run(*command, "--policy", "LinUBC")
    assert result.exit_code == 2
    assert f"unknown policy 'LinUBC', did you mean 'LinUCB'? there are {', '.join(POLICIES)}" in result.stderr


SHORT = ("--seeds", 1, "--horizon", 30, "--json")


def rows(*arguments):
    result = run("simulate", *arguments, *SHORT)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["policies"]


def test_simulate_takes_words_integers_and_numbers():
    (plain,) = rows("--policy", "LinUCB")
    (greedy,) = rows("--policy", "LinUCB", "--set", "alpha=0", "--set", "precision=32", "--set", "floor=0.0")
    assert plain["utility_mean"] != greedy["utility_mean"]
    (by_word,) = rows("--policy", "VWEpsilonGreedy", "--set", "estimator=dr", "--set", "bits=10")
    (by_default,) = rows("--policy", "VWEpsilonGreedy")
    assert by_word["utility_mean"] != by_default["utility_mean"]


def test_simulate_sets_a_controller():
    chosen = ("adapters/zipf", "--policy", "LinUCB", "--controller", "FTPL")
    (plain,), (eager,) = rows(*chosen), rows(*chosen, "--set-controller", "every=1")
    assert plain["paging"] != eager["paging"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--set", "alpha=1"), "--set goes with --policy NAME"),
        (("--policy", "LinUCB", "--set", "alpha"), "--set must be NAME=VALUE, got 'alpha'"),
        (("--policy", "LinUCB", "--set", "alpha=1", "--set", "alpha=2"), "--set gives alpha twice"),
        (("adapters/zipf", "--set-controller", "every=1"), "--set-controller goes with --controller NAME"),
        (
            ("adapters/zipf", "--controller", "FTPL", "--set-controller", "evry=1"),
            "FTPL has no setting 'evry', did you mean 'every'? it has scale, every, seed",
        ),
        (("adapters/zipf", "--controller", "FTLP"), "unknown controller 'FTLP', did you mean 'FTPL'?"),
    ],
)
def test_simulate_says_what_a_setting_lacks(arguments, sentence):
    result = run("simulate", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
