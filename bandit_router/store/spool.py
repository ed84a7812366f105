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
import mmap
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import Decision
from bandit_router.settling.rules import Reward

_HEADER = 8
_FRAME = struct.Struct("=II")


class Item(NamedTuple):
    """One queued record, its bytes, and who waits for its commit."""

    record: Decision | Reward
    payload: bytes
    waiter: Future[Any] | None


class _Segment:
    """One memory map and the items in it."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
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
    """

    def __init__(self, *, folder: Path | None, capacity_bytes: int) -> None:
        if capacity_bytes < 4096:
            raise InvalidInput(f"capacity_bytes must be at least 4096, got {capacity_bytes}")
        self._files: list[tuple[Path, int]] = []
        self._front = _Segment(self._map(folder, capacity_bytes))
        self._back = _Segment(self._map(folder, capacity_bytes))
        self._closed = False
        self._lock = threading.Lock()
        self._ready = threading.Event()

    def _map(self, folder: Path | None, size: int) -> mmap.mmap:
        if folder is None:
            return mmap.mmap(-1, size)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{uuid.uuid4().hex}.spool"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(descriptor, 0, size)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held while this process lives; see `abandoned`
        os.rename(hidden, path)
        self._files.append((path, descriptor))
        return mmap.mmap(descriptor, size)

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

    def wake(self) -> None:
        """End the consumer's wait."""
        self._ready.set()

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


def abandoned(folder: Path) -> Iterator[tuple[Path, int]]:
    """Spool files whose process is gone, locked for the caller, who closes the descriptors."""
    for path in sorted(folder.glob("*.spool")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:  # its process has ended, or another one has taken it, since the folder was read
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        yield path, descriptor


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
