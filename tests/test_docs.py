"""What the documents show works: their Python runs, their TOML loads, their links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import bandit_router
from bandit_router.service.config import ServedConfig, schema
from bandit_router.simulators.scenario import Scenario

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
TASK = (
    "Add|Catch|Choose|Count|Describe|Encode|Keep|Let|Limit|Look|Measure|Operate|Read|Replay|Roll|Route|Serve|Simulate|"
    "Take|Try|Turn|Use|Value|Write"
)


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
    msgspec.toml.decode(code, type=ServedConfig if "arms" in msgspec.toml.decode(code) else Scenario)


def test_every_key_of_a_router_is_on_its_page():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    named = set(re.findall(r"[\w]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    keys = {key for definition in schema()["$defs"].values() for key in definition.get("properties", ())}
    assert keys <= named, keys - named


@pytest.mark.parametrize("code", list(blocks("json")))
def test_json_is_json(code):
    json.loads(code)


def headings(document):
    """The anchors of a page, as MkDocs and GitHub make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_or_a_heading(document):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            there = document.parent / target if target else document
            assert there.exists(), f"links to {target}"
            assert not anchor or anchor in headings(there), f"links to {target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_that_is_named_is_there(document):
    for path in re.findall(r"\b(?:tests|benchmarks|examples|bandit_router)/[a-z0-9_/]+\.[a-z]+", document.read_text()):
        assert (ROOT / path).exists(), path


def test_every_public_name_is_on_one_page_of_the_reference():
    pages = " ".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    assert sorted(re.findall(r"^::: bandit_router\.(\w+)$", pages, re.MULTILINE)) == sorted(bandit_router.__all__)


@pytest.mark.parametrize(
    "document", [p for p in DOCUMENTS if DOCS in p.parents], ids=lambda p: str(p.relative_to(DOCS))
)
def test_a_page_begins_with_a_task_or_a_question(document):
    title = document.read_text().partition("\n")[0]
    assert re.fullmatch(rf"# (.+\?|({TASK})\b.*)", title), title


READ = [page for kind in ("tutorial", "howto", "explanation") for page in sorted((DOCS / kind).rglob("*.md"))]


@pytest.mark.parametrize("document", READ, ids=lambda p: str(p.relative_to(DOCS)))
def test_a_sentence_has_at_most_forty_words(document):
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|^\s*(?:[-#|]|\d+\.) ?", text, flags=re.MULTILINE):
        for sentence in re.split(r"[.?!]\s", paragraph):
            assert len(sentence.split()) <= 40, sentence


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *sorted(ROOT.glob("examples/*.py"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_reader_imports_from_the_top_alone(document):
    assert not re.search(r"^(from|import) bandit_router\.", document.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_first_hour_works(tmp_path):
    """Its files are written, and its commands run, in their order."""
    page = (DOCS / "tutorial" / "first-hour.md").read_text()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["set -eu"]
    for kind, title, body in re.findall(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', page, re.DOTALL | re.MULTILINE):
        if title:
            (tmp_path / title).write_text(body)
        elif kind == "sh":
            script.append(body)
    command = ["bash", "-c", "\n".join(script)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "2000 requests were learned from" in ran.stdout


def test_the_readme_embeds_in_twelve_lines():
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 12


def test_the_changelog_knows_this_version_or_what_comes_next():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{bandit_router.__version__}]" in text
