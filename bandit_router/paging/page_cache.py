"""Evict one file from the operating system's page cache, and check that it went; owning the file is right enough."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path


def cached_share(path: Path) -> float:
    """Share of a file's pages that the page cache holds, by mincore(2); NaN where the system cannot say.

    Linux answers only to the file's owner, somebody who may write it, or root; to others every page looks cached.
    """
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
            pages = (ctypes.c_ubyte * -(-len(view) // mmap.PAGESIZE))()
            start = ctypes.c_char.from_buffer(view)
            failed = mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(view)), pages)
            del start  # releases the view, which could not be closed otherwise
    except (AttributeError, TypeError, ValueError, OSError):  # no mincore (Windows), an empty file
        return float("nan")
    return float("nan") if failed else sum(page & 1 for page in pages) / len(pages)


def evict(path: Path) -> bool:
    """Write a file out and advise the kernel to forget it (posix_fadvise DONTNEED); True if it is verified gone.

    Only this system's page cache is emptied. A hypervisor's or a storage device's own cache stays as it is.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())  # dirty pages would stay
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return cached_share(path) < 0.01
