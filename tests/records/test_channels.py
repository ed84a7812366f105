"""A channel is declared by one line: everything that has channels then has it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import bandit_router
from bandit_router import CHANNELS, Outcome
from bandit_router.records.outcomes import COSTS, DECLARED, Amounts

LINE = '    co2_g: Annotated[Amount, Channel("greenhouse gas", "grams of CO2", high=500.0)] = None\n'
EVERYWHERE = Path(__file__).with_name("every_channel.py")


def test_the_lines_are_the_channels():
    assert (*DECLARED,) == CHANNELS == Amounts.__struct_fields__ == Outcome.__struct_fields__
    assert ("quality", *COSTS) == CHANNELS
    assert all(channel.meaning for channel in DECLARED.values())
    assert all(DECLARED[name].unit for name in COSTS)


@pytest.mark.parametrize("name", CHANNELS)
def test_an_amount_outside_of_its_range_is_refused(name):
    low, high = DECLARED[name].range
    assert Outcome(**{name: low}).problem() is None
    assert Outcome(**{name: low - 0.1}).problem() == "out_of_range"
    assert Outcome(**{name: high + 0.1}).problem() in ("out_of_range", "invalid")  # infinite is no number
    assert Outcome(**{name: float("nan")}).problem() == "invalid"


def test_records_of_before_a_channel_can_be_read():
    old = msgspec.msgpack.encode({"quality": 0.5})
    assert msgspec.msgpack.decode(old, type=Outcome) == Outcome(quality=0.5)


def test_no_other_line_names_the_cost_channels():
    """Lists written by hand leave a new channel out without a word: two or more in a row are one."""
    listed = re.compile(r"""(["'](""" + "|".join(COSTS) + r""")["']\s*,\s*){2}""")
    package = Path(bandit_router.__file__).parent
    assert [str(path) for path in package.rglob("*.py") if listed.search(path.read_text())] == []


def test_one_line_adds_a_channel_everywhere(tmp_path):
    """A copy of the package with one line more, driven through every room in a process of its own."""
    source = Path(bandit_router.__file__).parent
    shutil.copytree(source, tmp_path / "bandit_router", ignore=shutil.ignore_patterns("__pycache__"))
    outcomes = tmp_path / "bandit_router" / "records" / "outcomes.py"
    before, last, after = outcomes.read_text().partition("    gpu_s: Annotated")
    line, _, rest = after.partition("\n")
    outcomes.write_text(f"{before}{last}{line}\n{LINE}{rest}")
    program = [sys.executable, str(EVERYWHERE), "co2_g"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["co2_g", str(len(CHANNELS) + 1)]
