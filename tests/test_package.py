"""The public names, and every example in the docstrings."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bandit_router

MODULES = [
    "bandit_router",
    *(module.name for module in pkgutil.walk_packages(bandit_router.__path__, "bandit_router.")),
]


@pytest.mark.parametrize("name", bandit_router.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(bandit_router, name) is not None
    assert name in dir(bandit_router)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Roter'"):
        bandit_router.Roter  # noqa: B018


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_in_the_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_to_run():
    finder = doctest.DocTestFinder()
    policies = importlib.import_module("bandit_router.policies")
    for policy in policies.POLICIES.values():
        assert any(test.examples for test in finder.find(policy)), f"{policy.__name__} has no example"


def test_test_names_have_at_most_70_characters():
    texts = [file.read_text() for file in Path(__file__).parent.rglob("test_*.py")]
    names = [name for text in texts for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)]
    assert len(names) > 900
    assert [name for name in names if len(name) > 70] == []


@pytest.mark.parametrize("name", ["records.outcomes", "routing.router", "settling.memory", "store", "budgets.pacing"])
def test_a_serving_loop_imports_no_engine_before_a_policy_needs_it(name):
    """SciPy comes with the policies that use it, SQLAlchemy with a store that is attached."""
    code = f"import sys, bandit_router.{name}; print({{'scipy', 'sqlalchemy', 'polars'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
