"""Methods that run under their object's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _Locked(Protocol):
    lock: threading.RLock


def locked(method: _Method) -> _Method:
    """The method under its object's `lock`."""

    @wraps(method)
    def call(self: _Locked, *arguments: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *arguments, **named)

    return cast(_Method, call)
