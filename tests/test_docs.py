"""What the documents show works: their Python runs, their TOML loads, their links lead somewhere."""

import json
import re
from pathlib import Path

import msgspec
import pytest

import bandit_router
from bandit_router.routing.config import RouterConfig, schema
from bandit_router.simulators.scenario import Scenario

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    """Every fenced block of a language, named by file and number."""
    for document in DOCUMENTS:
        for i, code in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
        ):
            yield pytest.param(code, id=f"{document.name}-{i}")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<document>", "exec"), {})


@pytest.mark.parametrize("code", list(blocks("toml")))
def test_a_scenario_or_a_router_loads(code):
    msgspec.toml.decode(code, type=RouterConfig if "arms" in msgspec.toml.decode(code) else Scenario)


def test_every_key_of_a_router_is_on_its_page():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    named = set(re.findall(r"[\w]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    keys = {key for definition in schema()["$defs"].values() for key in definition.get("properties", ())}
    assert keys <= named, keys - named


@pytest.mark.parametrize("code", list(blocks("json")))
def test_json_is_json(code):
    json.loads(code)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_a_file_or_a_heading(document):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_embeds_in_twelve_lines():
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 12


def test_the_changelog_knows_this_version_or_what_comes_next():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{bandit_router.__version__}]" in text
