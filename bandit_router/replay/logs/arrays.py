"""Plain arrays from an .npz archive, and what is wrong with a file that holds none."""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.errors import InvalidInput
from bandit_router.reading.files import read_bytes, refuse_bomb


def read_arrays(path: Path, expected: str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; no pickle is read. Raises InvalidInput that says what was expected and came."""

    def refused(found: str) -> InvalidInput:
        return InvalidInput(f"{path}: expected {expected}, got {found}")

    try:
        raw = read_bytes(path)
    except OSError as error:
        raise refused(error.strerror or str(error)) from None
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise refused("a file that is no .npz archive, or a part of one")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            refuse_bomb(path, len(raw), size)
            found = {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except InvalidInput:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        raise refused("a damaged archive, or arrays of Python objects") from None
    return {name: array for name, array in found.items() if array is not None}


def _array(content: bytes) -> NDArray[Any] | None:
    """One array, or None where `numpy.savez` was given None; nothing is unpickled. Raises ValueError."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        if shape == () and _holds_none(content[file.tell() :]):
            return None
        raise ValueError("Python objects")
    if math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError("more elements are declared than there are")
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _holds_none(pickled: bytes) -> bool:
    """Whether a pickled array without dimensions is None: its only element is the last that is appended to a list."""
    names = [code.name for code, _, _ in pickletools.genops(pickled)]
    appended = [i for i, name in enumerate(names) if name in ("APPEND", "APPENDS")]
    return len(appended) == 1 and names[appended[0] - 1] == "NONE"
