"""Parts that declare their settings and are built by name: policies, cache controllers, encoders, estimators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from bandit_router.errors import InvalidInput

T = TypeVar("T")


def named(kind: str, name: str, registry: Mapping[str, T]) -> T:
    """The entry of that name; raises InvalidInput with the nearest name and all there are.

    Example:
        >>> named("number", "noe", {"one": 1, "two": 2})
        Traceback (most recent call last):
        bandit_router.errors.InvalidInput: unknown number 'noe', did you mean 'one'? there are one, two
    """
    if name in registry:
        return registry[name]
    raise InvalidInput(f"unknown {kind} {name!r}{_nearest(name, registry)} there are {', '.join(registry)}")


def check_names(owner: str, settings: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise InvalidInput for the first setting that `owner` does not have."""
    known = tuple(allowed)
    for name in settings:
        if name not in known:
            has = ", ".join(known) or "none"
            raise InvalidInput(f"{owner} has no setting {name!r}{_nearest(name, known)} it has {has}")


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]!r}?" if near else ";"
