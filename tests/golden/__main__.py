"""Write the pinned numbers anew and show what changed, for review."""

import difflib
import json
import sys

from . import PINNED, compute_all

before = PINNED.read_text() if PINNED.exists() else ""
policies = (f"  {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in compute_all().items())
after = "{\n" + ",\n".join(policies) + "\n}\n"
PINNED.write_text(after)
sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before", "after", n=0))
