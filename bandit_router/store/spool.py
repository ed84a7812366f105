"""The queue in front of the database: bounded, and at will a file that outlives the process.

Two memory maps take turns. Callers append frames to one while the writer commits the other. A frame copied into a map
of a file belongs to the kernel: it survives `kill -9` of the process at the price of a memory copy, without a system
call. It does not survive a power cut, because nothing is synced. The files are allocated in full when they are
created, so a disk that fills up later cannot take the queue away.

Layout of a map: an unsigned 64-bit count of used bytes, then frames of (length, CRC-32, payload). The count is written
after the frame, in one aligned store: what it covers is whole. A frame under the count with a wrong checksum means that
the file was damaged afterwards; `adopt` reports it.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import Decision
from bandit_router.settling.rules import Reward

_log = logging.getLogger(__name__)
_HEADER = 8
_AGAIN_S = 1.0
_FRAME = struct.Struct("=II")


class Item(NamedTuple):
    """One queued record, its bytes, and who waits for its commit."""

    record: Decision | Reward
    payload: bytes
    waiter: Future[Any] | None


class _Segment:
    """One memory map and the items in it."""

    def __init__(self, data: mmap.mmap, *, in_file: bool) -> None:
        self.data, self.in_file = data, in_file
        self.used = memoryview(data).cast("Q")  # a cast view stores the count in one instruction
        self.items: list[Item] = []
        self.clear()

    def clear(self) -> None:
        self.used[0] = 0
        self.end = _HEADER
        self.items = []

    def append(self, item: Item) -> bool:
        frame = _FRAME.pack(len(item.payload), zlib.crc32(item.payload)) + item.payload
        end = self.end + len(frame)
        if end > len(self.data):
            return False
        self.data[self.end : end] = frame
        self.used[0] = end - _HEADER
        self.end = end
        self.items.append(item)
        return True

    def release(self) -> None:
        self.used.release()
        self.data.close()


class Spool:
    """A bounded queue of records with one consumer.

    Args:
        folder: where the two files go; None keeps the queue in memory, for data that may die with the process.
        capacity_bytes: size of each of the two maps.
        owner: which database the records are for; files of another owner in the folder are left alone.

    On a disk that is full or cannot be written the queue begins in memory, and moves into files when they can be made.

    Attributes:
        in_memory: how many of the two maps are not in a file though they should be.
    """

    def __init__(self, *, folder: Path | None, capacity_bytes: int, owner: str = "") -> None:
        if capacity_bytes < 4096:
            raise InvalidInput(f"capacity_bytes must be at least 4096, got {capacity_bytes}")
        self._folder, self._size, self.owner = folder, capacity_bytes, owner
        self._files: list[tuple[Path, int]] = []
        self.in_memory = 0
        self._front, self._back = self._first(), self._first()
        self._again_s = time.monotonic() + _AGAIN_S
        self._closed = False
        self._lock = threading.Lock()
        self._ready = threading.Event()

    def _first(self) -> _Segment:
        if self._folder is None:
            return _Segment(mmap.mmap(-1, self._size), in_file=False)
        try:
            return _Segment(self._map(self._folder), in_file=True)
        except OSError as problem:
            if not self.in_memory:
                _log.error("the queue is in memory and dies with the process: %s: %s", self._folder, problem)
            self.in_memory += 1
            return _Segment(mmap.mmap(-1, self._size), in_file=False)

    def _map(self, folder: Path) -> mmap.mmap:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{_prefix(self.owner)}{uuid.uuid4().hex}.spool"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # held while this process lives; see `abandoned`
            data = mmap.mmap(descriptor, self._size)
            os.rename(hidden, path)
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        self._files.append((path, descriptor))
        return data

    def _leave_memory(self) -> None:
        """Put the empty back map into a file, if it is time to try again."""
        if self._folder is None or time.monotonic() < self._again_s:
            return
        self._again_s = time.monotonic() + _AGAIN_S
        with suppress(OSError):
            moved = _Segment(self._map(self._folder), in_file=True)
            self._back.release()
            self._back = moved
            self.in_memory -= 1

    def __len__(self) -> int:
        return len(self._front.items) + len(self._back.items)

    @property
    def crowded(self) -> bool:
        """Whether the map in front is nearly full."""
        return self._front.end > 0.9 * len(self._front.data)

    def offer(self, item: Item) -> bool:
        """Append a record; False when there is no room. Wakes the consumer if somebody waits for this record."""
        with self._lock:
            accepted = not self._closed and self._front.append(item)
        if not accepted or item.waiter is not None:
            self._ready.set()
        return accepted

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for somebody who waits; False at once while what was taken is not done."""
        if self._back.items:
            return False
        self._ready.wait(timeout_s)
        return True

    def take(self) -> list[Item]:
        """Everything queued; the same again until `done` was called."""
        if not self._back.items:
            with self._lock:
                self._ready.clear()
                self._front, self._back = self._back, self._front
        return self._back.items

    def done(self) -> None:
        """What `take` returned is in the database now."""
        self._back.clear()
        if self.in_memory and not self._back.in_file:
            self._leave_memory()

    def wake(self) -> None:
        """End the consumer's wait."""
        self._ready.set()

    def disown(self) -> None:
        """In a forked child: what is queued is the parent's, who writes it; nothing more is taken here."""
        self._lock, self._ready, self._closed = threading.Lock(), threading.Event(), True
        for _, descriptor in self._files:
            os.close(descriptor)
        self._files = []

    def close(self) -> None:
        """Release the maps; the files go too when nothing is left in them. Later offers are declined."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        empty = not len(self)
        self._front.release()
        self._back.release()
        for path, descriptor in self._files:
            if empty:
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _prefix(owner: str) -> str:
    return f"{owner}-" if owner else ""


def abandoned(folder: Path, owner: str = "") -> Iterator[tuple[Path, int]]:
    """Spool files of this owner whose process is gone, locked for the caller, who closes the descriptors."""
    for path in sorted(folder.glob("*.spool")):
        if path.name.rpartition("-")[0] == owner and (descriptor := _taken(path)) is not None:
            yield path, descriptor


def foreign(folder: Path, owner: str) -> list[Path]:
    """Spool files of other owners whose process is gone."""
    found = []
    for path in sorted(folder.glob("*.spool")):
        if path.name.rpartition("-")[0] != owner and (descriptor := _taken(path)) is not None:
            os.close(descriptor)
            found.append(path)
    return found


def _taken(path: Path) -> int | None:
    """The descriptor of a file that is locked for the caller now; None where its process lives, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # its process has ended, or another one has taken it, since the folder was read
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def frames(descriptor: int) -> tuple[list[bytes], bool]:
    """The payloads of a spool file in order, and whether all of it was whole."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    if len(data) < _HEADER:
        return [], not data
    used = int.from_bytes(data[:_HEADER], byteorder="little")
    payloads: list[bytes] = []
    at, end = _HEADER, _HEADER + used
    while at < end:
        start = at + _FRAME.size
        if start > len(data):
            return payloads, False
        length, checksum = _FRAME.unpack_from(data, at)
        payload = data[start : start + length]
        if len(payload) != length or zlib.crc32(payload) != checksum or start + length > end:
            return payloads, False
        payloads.append(payload)
        at = start + length
    return payloads, True
