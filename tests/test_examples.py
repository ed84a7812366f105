"""Every example prints what stands beside it; CONTRIBUTING.md says how to write the outputs anew."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_prints_what_it_promises(program, tmp_path):
    done = subprocess.run([sys.executable, "-P", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == program.with_suffix(".out").read_text()


def test_every_output_belongs_to_an_example():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {path.stem for path in EXAMPLES.glob("*.out")} >= {"embed", "own_policy", "compare"}
