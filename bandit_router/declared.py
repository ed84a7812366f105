"""Parts that declare their settings: one constructor for all of them, and one door that builds one by its name.

A policy, a cache controller or an encoder says once what can be set, with default, check and unit:

    >>> class Coin(Declared):
    ...     share: float = setting(default=0.5, check=SHARE, unit="of the tosses")
    >>> Coin(share=0.2).share, build("coin", "Coin", {"share": "0.3"}, {"Coin": Coin}).share
    (0.2, 0.3)
    >>> Coin(shar=1.0)
    Traceback (most recent call last):
    bandit_router.errors.InvalidInput: Coin has no setting 'shar', did you mean 'share'? it has share
    >>> Coin(share=2.0)
    Traceback (most recent call last):
    bandit_router.errors.InvalidInput: Coin: share must be in [0, 1], got 2.0

The sentence is the same from Python, a TOML file and the command line, because all of them end here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from inspect import Parameter, Signature
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

from bandit_router.errors import InvalidInput

T = TypeVar("T")
D = TypeVar("D", bound="Declared")
_REQUIRED: Any = object()
_TYPES: dict[type, tuple[type, str]] = {
    float: (Real, "a number"),
    int: (Integral, "a whole number"),
    bool: (bool, "true or false"),
    str: (str, "a word"),
    tuple: (Sequence, "a list of words"),
}
_SCHEMA_TYPES = {float: "number", int: "integer", bool: "boolean", tuple: "array"}


@dataclass(frozen=True)
class Check:
    """What a value has to be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]

    def require(self, name: str, value: Any) -> None:
        """Raise InvalidInput unless `value` passes."""
        if not self.holds(value):
            raise InvalidInput(f"{name} must be {self.words}, got {value}")


SHARE = Check("in [0, 1]", lambda value: 0 <= value <= 1)
PART = Check("in [0, 1)", lambda value: 0 <= value < 1)
POSITIVE_SHARE = Check("in (0, 1]", lambda value: 0 < value <= 1)
NOT_NEGATIVE = Check("finite and at least 0", lambda value: 0 <= value < float("inf"))
POSITIVE = Check("finite and greater than 0", lambda value: 0 < value < float("inf"))
DISTINCT = Check("distinct", lambda value: len(set(value)) == len(value))
COUNT = Check("at least 1", lambda value: value >= 1)
SEED = Check("at least 0", lambda value: value >= 0)


@dataclass(frozen=True)
class Setting:
    """One setting of a part.

    Attributes:
        kind: its type. default: absent where it has to be given. check: what the type alone does not say.
        unit: what its number counts or is measured in. given: it follows from what the part is for, such as the number
            of arms, and is no matter of choice.
    """

    kind: type[Any]
    default: Any = _REQUIRED
    check: Check | None = None
    unit: str = ""
    given: bool = False

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is _REQUIRED

    @property
    def words(self) -> str:
        """What a value of its type is."""
        if issubclass(self.kind, Enum):
            return f"one of {', '.join(self.kind.__members__)}"
        return _TYPES.get(self.kind, (self.kind, f"a {self.kind.__name__}"))[1]

    def described(self, name: str) -> dict[str, Any]:
        """Name, type, default, unit and check in words, for lists."""
        default = self.default.name if isinstance(self.default, Enum) else self.default
        check = "" if self.check is None else self.check.words
        return {"name": name, "type": self.words, "default": default, "unit": self.unit, "check": check}

    def schema(self) -> dict[str, Any]:
        """As JSON Schema; what only the check knows is said in the description.

        Example:
            >>> Setting(float, 0.5, SHARE, "of the tosses").schema()
            {'type': 'number', 'description': 'in [0, 1]; of the tosses', 'default': 0.5}
        """
        shown = self.described("")
        words = "; ".join(filter(None, (shown["check"], shown["unit"])))
        found: dict[str, Any] = {"type": _SCHEMA_TYPES.get(self.kind, "string"), "description": words}
        if self.kind is tuple:
            found["items"] = {"type": "string"}
        if issubclass(self.kind, Enum):
            found["enum"] = list(self.kind.__members__)
        return found if self.required else {**found, "default": shown["default"]}

    def take(self, name: str, value: Any) -> Any:
        """`value` in the declared type. Raises InvalidInput when it is of another type or fails the check."""
        try:
            typed = self._typed(value)
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(f"{name} must be {self.words}, got {value!r}") from None
        if self.check is not None:
            self.check.require(name, typed)
        return typed

    def _typed(self, value: Any) -> Any:
        if issubclass(self.kind, Enum):
            return self.kind[value.upper()] if isinstance(value, str) else self.kind(value)
        wanted = _TYPES.get(self.kind, (self.kind, ""))[0]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.kind is not bool):
            raise TypeError
        if isinstance(value, Sequence) and self.kind is tuple and (isinstance(value, str) or not _words(value)):
            raise TypeError
        return self.kind(value) if self.kind in _TYPES else value

    def read(self, text: str) -> Any:
        """What `text` from a command line stands for; the text itself where it is no such value, for `take` to name."""
        if self.kind is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        if self.kind not in (int, float):
            return text
        try:
            return self.kind(text)
        except ValueError:
            return text


@overload
def setting(*, default: T, check: Check | None = ..., unit: str = ..., given: bool = ...) -> T: ...
@overload
def setting(*, kind: type[T], check: Check | None = ..., unit: str = ..., given: bool = ...) -> T: ...
def setting(
    *, default: Any = _REQUIRED, kind: Any = None, check: Check | None = None, unit: str = "", given: bool = False
) -> Any:
    """Declare a setting in the body of a `Declared` class: with a default, whose type it has, or required by `kind`."""
    return Setting(type(default) if kind is None else kind, default, check, unit, given)


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
class Declared:
    """Base of the parts that declare their settings; the constructor takes them by keyword and keeps each as attribute.

    A subclass names its settings in its body, after those of its bases, and prepares itself in `_start`.
    """

    declared: ClassVar[Mapping[str, Setting]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}
        for name in own:
            delattr(cls, name)
        cls._declare({**cls.declared, **own})

    @classmethod
    def _declare(cls, settings: Mapping[str, Setting]) -> None:
        cls.declared = settings
        keywords = [
            Parameter(
                name, Parameter.KEYWORD_ONLY, default=Parameter.empty if s.required else s.default, annotation=s.kind
            )
            for name, s in settings.items()
        ]
        cls.__signature__ = Signature(keywords)  # type: ignore[attr-defined]  # what help() shows

    def __init__(self, **settings: Any) -> None:
        owner = type(self).__name__
        check_names(owner, [name for name in settings if name not in self.declared], self.choices())
        check_required(type(self), settings)
        for name, s in self.declared.items():
            setattr(self, name, s.take(f"{owner}: {name}", settings[name]) if name in settings else s.default)
        self._start()

    def _start(self) -> None:
        """Prepare what the settings describe; they are attributes by now."""

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """The settings that are a matter of choice, by name."""
        return {name: s for name, s in cls.declared.items() if not s.given}


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


def build(kind: str, name: str, settings: Mapping[str, Any], registry: Mapping[str, type[D]], **given: Any) -> D:
    """The registered part of that name with these settings, texts read by their declared types.

    Args:
        kind: what it is called in an error, for instance "policy". given: what is no matter of choice.

    Raises:
        InvalidInput: an unknown name or setting, a value of another type or out of range.
    """
    part = named(kind, name, registry)
    return part(**given, **read(name, part, settings))


def read(owner: str, part: type[Declared], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, texts read by their declared types. Raises InvalidInput for a name or value that does not fit."""
    choices = part.choices()
    check_names(owner, settings, choices)
    values = {name: choices[name].read(value) if isinstance(value, str) else value for name, value in settings.items()}
    return {name: choices[name].take(f"{owner}: {name}", value) for name, value in values.items()}


def check_names(owner: str, settings: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise InvalidInput for the first setting that `owner` does not have."""
    known = tuple(allowed)
    for name in settings:
        if name not in known:
            has = ", ".join(known) or "none"
            raise InvalidInput(f"{owner} has no setting {name!r}{_nearest(name, known)} it has {has}")


def check_required(part: type[Declared], settings: Iterable[str]) -> None:
    """Raise InvalidInput where a setting without default is not given."""
    given = set(settings)
    if missing := [name for name, s in part.declared.items() if s.required and name not in given]:
        raise InvalidInput(f"{part.__name__} needs {', '.join(missing)}")


def one_of(*values: Any) -> Check:
    """The check that a value is one of these."""
    return Check(" or ".join(map(str, values)), lambda value: value in values)


def within(low: float, high: float) -> Check:
    """The check that a value lies between two, both allowed."""
    return Check(f"in [{low}, {high}]", lambda value: low <= value <= high)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]!r}?" if near else ";"


def _words(values: Sequence[Any]) -> bool:
    """Whether each value is a string."""
    return all(isinstance(value, str) for value in values)
