"""Coverage-guided fuzzing of the importers; opt in: pip install atheris; python tests/fuzz_logs.py -max_total_time=600

The first byte picks the format, the rest is the file. Anything but InvalidLog is a crash.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bandit_router"]):
    from bandit_router.replay.logs import FORMATS
    from support.odd_logs import SEEDS, feed

NAMES = [name for name in FORMATS if name not in ("parquet", "obp", "store")]  # which Polars, NumPy and SQL read


def one(content: bytes) -> None:
    """Feed one input."""
    if content:
        feed(NAMES[content[0] % len(NAMES)], content[1:])


if __name__ == "__main__":
    corpus = Path(tempfile.mkdtemp())
    for name, seed in SEEDS.items():
        (corpus / name).write_bytes(bytes([NAMES.index(name)]) + json.dumps(seed).encode())
    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()
