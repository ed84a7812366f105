"""Forks: a child finds every learner whole and its lock free, and what belongs to the parent can be told apart.

Before a fork the forking thread takes the lock of every learner, so no other thread is in the middle of a change; both
processes give it back.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Locked(Protocol):
    """What has to stand still during a fork."""

    lock: threading.RLock
    changing: threading.RLock


class Parted(Protocol):
    """What holds files, threads or connections that a child must not share."""

    def forked(self) -> None:
        """In a child: leave to the parent what is the parent's."""


_members: weakref.WeakSet[Locked] = weakref.WeakSet()
_parted: weakref.WeakSet[Parted] = weakref.WeakSet()
_guard = threading.RLock()
_held: list[Locked] = []


def stand_still(member: Locked) -> None:
    """From now on a fork waits for this one's locks."""
    with _guard:
        _members.add(member)


def tell_child(member: Parted) -> None:
    """Call `member.forked` in every child that is forked while it lives."""
    with _guard:
        _parted.add(member)


def _before() -> None:
    _guard.acquire()
    _held.extend(_members)
    for member in _held:
        member.lock.acquire()
        member.changing.acquire()


def _after() -> None:
    for member in reversed(_held):
        member.changing.release()
        member.lock.release()
    _held.clear()
    _guard.release()


def _after_in_child() -> None:
    parted = list(_parted)
    _after()
    for member in parted:
        member.forked()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
