"""Eviction from the page cache, checked against the kernel's own account."""

from __future__ import annotations

import math
import os
from pathlib import Path

from bandit_router.paging.page_cache import cached_share, evict


def test_a_written_file_is_cached_and_an_evicted_one_is_not(tmp_path: Path) -> None:
    """A file that was just written is cached and an evicted one is not claimed to be."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    share = cached_share(path)
    assert math.isnan(share) or share == 1.0
    gone = evict(path)
    # A memory file system keeps its pages; then evict must say so.
    assert gone == (cached_share(path) < 0.01)


def test_reading_brings_an_evicted_file_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    evict(path)
    path.read_bytes()
    share = cached_share(path)
    assert math.isnan(share) or share == 1.0


def test_an_empty_file_has_no_share(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert math.isnan(cached_share(path))
