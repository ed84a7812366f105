"""Plain arrays from an .npz archive, and what is wrong with a file that holds none."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.errors import InvalidInput


def read_arrays(path: Path, expected: str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; no pickle is read. Raises InvalidInput that says what was expected and came."""

    def refused(found: str) -> InvalidInput:
        return InvalidInput(f"{path}: expected {expected}, got {found}")

    try:
        with path.open("rb") as file:
            archive = zipfile.is_zipfile(file)
    except OSError as error:
        raise refused(error.strerror or str(error)) from None
    if not archive:
        raise refused("a file that is no .npz archive, or a part of one")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise refused("a damaged archive, or arrays of Python objects") from None
