"""The section [gateway] and `bandit-router serve`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandit_router import InvalidInput, load_config
from bandit_router.cli import app
from bandit_router.service.config import load_served

GOOD = """context = [{kind = "bias"}]
arms = [{id = "a"}, {id = "b"}]
[gateway]
port = 8081
[gateway.upstreams.a]
base_url = "http://127.0.0.1:1/v1"
[gateway.upstreams.b]
base_url = "http://127.0.0.1:2/v1"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.toml"
    path.write_text(GOOD)
    return path


def test_one_file_is_for_the_gateway_and_for_everything_else(file: Path) -> None:
    assert load_served(file).gateway.port == 8081
    assert load_config(file).arguments()["arms"] == load_served(file).arms


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("port", "prot", "router.toml, line 4: unknown name 'prot'"),
        ("port = 8081", 'host = "0.0.0.0"', "host 0.0.0.0 can be reached from outside"),
        ("upstreams.b", "upstreams.c", "look at b, c"),
        ("http://127.0.0.1:2", "ftp://x", "base_url must begin with http"),
        ("port = 8081", 'route = "a"', "route 'a' is an arm's id"),
        ('[{kind = "bias"}]', "2", "context must be a list of encoders"),
        ("port = 8081", 'keys = [{name = "k", sha256 = "secret"}]', "sha256 must be 64"),
        ("port = 8081", "attempts = 0", "attempts must be finite and greater than 0"),
    ],
)
def test_a_mistake_is_said_before_anything_starts(file: Path, before: str, after: str, message: str) -> None:
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(InvalidInput, match=message.replace("[", r"\[")):
        load_served(file)
    for command in (["serve", str(file), "--check"], ["config", "check", str(file)]):
        assert CliRunner().invoke(app, command).exit_code == 4


def test_check_reads_the_secrets_and_stops(file: Path) -> None:
    checked = CliRunner().invoke(app, ["serve", str(file), "--check"])
    assert checked.exit_code == 0
    assert "2 upstreams, would listen on 127.0.0.1:8081" in checked.stdout
    file.write_text(GOOD + 'api_key = {env = "NO_SUCH_VARIABLE"}\n')
    missing = CliRunner().invoke(app, ["serve", str(file), "--check"])
    assert missing.exit_code == 4
    assert "no secret in environment variable NO_SUCH_VARIABLE" in missing.stderr


def test_a_file_without_the_section_and_no_file_at_all_are_refused(file: Path) -> None:
    file.write_text('context = 1\narms = [{id = "a"}]\n')
    assert "has no section [gateway]" in CliRunner().invoke(app, ["serve", str(file)]).stderr
    assert CliRunner().invoke(app, ["serve"]).exit_code == 2
