"""Context encoders: plain callables from one request to a vector of fixed length, composed by `Concat`.

An encoder has `dim` and maps a `Request` to a finite float64 vector of that length; any callable with those
two is one. A task nobody named and a text that is not there get columns of their own, so that they neither
fail nor look like something else. Encoding changes nothing: equal requests give equal vectors until somebody
calls `Standardise.update`. The encoders that read the text are in `encoding.text`.

Example:
    >>> encode = Concat(Bias(), OneHotTask(tasks=["code", "chat"]), Precomputed(dim=2))
    >>> encode.dim
    6
    >>> encode(Request(task="chat", features=[0.5, -0.5])).tolist()
    [1.0, 0.0, 1.0, 0.0, 0.5, -0.5]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit_router.arrays import F64
from bandit_router.declared import COUNT, DISTINCT, Declared, setting
from bandit_router.errors import InvalidInput


class Request(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of a request before it is served.

    Attributes:
        task: label of its kind. text: the prompt. features: precomputed numbers. None where unknown.
        tags: free labels. session: id of the conversation it is part of. tenant: whose it is, for budgets.
        modalities: what it holds beside text, for instance "image". tools: number of tools it offers to the model.
        tokens: its length in tokens.

    Raises:
        InvalidInput: a label or an id is not a string, or a number is negative.
    """

    task: str | None = None
    text: str | None = None
    features: Sequence[float] | F64 | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    tenant: str | None = None
    modalities: tuple[str, ...] = ()
    tools: int = 0
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("task", "text", "session", "tenant"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise InvalidInput(f"{name} must be a string or None, got {type(value).__name__}; convert it first")
        for name in ("tags", "modalities"):
            labels = getattr(self, name)
            if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
                raise InvalidInput(f"{name} must be a sequence of strings, got {labels!r}")
        for name in ("tools", "tokens"):
            count = getattr(self, name)
            if count is not None and not (isinstance(count, int) and count >= 0):
                raise InvalidInput(f"{name} must be a whole number of at least 0, got {count!r}")


class Encoder(Protocol):
    """A callable from a request to a vector of `dim` finite numbers."""

    @property
    def dim(self) -> int:
        """Length of every vector it returns."""

    def __call__(self, request: Request, /) -> F64:
        """Encode one request; changes nothing."""


class Bias(Declared):
    """The constant 1: an intercept for linear policies. `dim` is 1."""

    dim = 1

    def __call__(self, request: Request) -> F64:
        """Shape (1,)."""
        return np.ones(1)


class OneHotTask(Declared):
    """One column per known task, and a last one for every request whose task is unknown or missing.

    Args:
        tasks: the known labels, distinct, in column order. `dim` is len(tasks) + 1.

    Raises:
        InvalidInput: a label is not a string or stands twice.

    Example:
        >>> encode = OneHotTask(tasks=["code", "chat"])
        >>> encode(Request(task="code")).tolist(), encode(Request(task="law")).tolist()
        ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    """

    tasks: Sequence[str] = setting(kind=tuple, check=DISTINCT, unit="labels")

    def _start(self) -> None:
        self._column = {task: column for column, task in enumerate(self.tasks)}
        self.dim = len(self.tasks) + 1

    def __call__(self, request: Request) -> F64:
        """Shape (dim,): a single 1, the rest 0."""
        x = np.zeros(self.dim)
        x[-1 if request.task is None else self._column.get(request.task, -1)] = 1.0
        return x


class Precomputed(Declared):
    """The request's own `features`, checked.

    Args:
        dim: how many numbers every request brings, at least 1.
    """

    dim: int = setting(kind=int, check=COUNT, unit="numbers")

    def __call__(self, request: Request) -> F64:
        """Shape (dim,). Raises InvalidInput when features are missing, not finite or not `dim` many."""
        if request.features is None:
            raise InvalidInput(f"the request has no features; pass {self.dim} numbers or leave Precomputed out")
        return finite("features", request.features, (self.dim,)).copy()


class Concat:
    """Several encoders side by side.

    Args:
        encoders: at least one. `dim` is the sum of theirs.
    """

    def __init__(self, *encoders: Encoder) -> None:
        if not encoders:
            raise InvalidInput("Concat needs at least one encoder; Bias() is the smallest")
        self.encoders = encoders
        self.dim = sum(encoder.dim for encoder in encoders)

    def __call__(self, request: Request) -> F64:
        """Shape (dim,), in the order of the encoders."""
        return np.concatenate([encode(request) for encode in self.encoders])


class Standardise:
    """Subtract the mean and divide by the standard deviation of what `update` has seen so far.

    Calling it encodes with the state as it stands; only `update` changes the state. A linear policy's
    coefficients belong to one state, so update on a stated prefix of the stream and then stop. Until two
    requests were seen, and in columns that never varied, the deviation counts as 1. Leave `Bias` and
    indicator columns outside: a constant becomes 0 here.

    Args:
        encoder: what to standardise. `dim` is the same.

    Source: Welford 1962, "Note on a method for calculating corrected sums of squares and products",
    Technometrics 4(3).

    Example:
        >>> encode = Standardise(Precomputed(dim=1))
        >>> for value in (1.0, 3.0):
        ...     encode.update(Request(features=[value]))
        >>> encode(Request(features=[2.0 + 2.0**0.5])).round(6).tolist()
        [1.0]
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.dim = encoder, encoder.dim
        self.count, self.mean, self.squares = 0, np.zeros(self.dim), np.zeros(self.dim)

    def __call__(self, request: Request) -> F64:
        """Shape (dim,)."""
        deviation = np.sqrt(self.squares / max(1, self.count - 1))
        return np.asarray((self.encoder(request) - self.mean) / np.where(deviation > 0, deviation, 1.0))

    def update(self, request: Request) -> None:
        """Take one request into mean and deviation."""
        x = self.encoder(request)
        self.count += 1
        above = x - self.mean
        self.mean = self.mean + above / self.count
        self.squares = self.squares + above * (x - self.mean)

    def state(self) -> dict[str, NDArray[Any]]:
        """Count, mean and sum of squared deviations as arrays."""
        return {"count": np.asarray(self.count), "mean": self.mean.copy(), "squares": self.squares.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state. Raises InvalidInput, and changes nothing, when it does not fit."""
        try:
            count = int(state["count"])
            mean, squares = (finite(name, state[name], (self.dim,)).copy() for name in ("mean", "squares"))
        except KeyError as missing:
            raise InvalidInput(f"state of Standardise lacks {missing}; was it saved by another class?") from None
        if count < 0 or (squares < 0).any():
            raise InvalidInput(f"count and squares must not be negative, got {count} and {squares.tolist()}")
        self.count, self.mean, self.squares = count, mean, squares


def finite(name: str, values: ArrayLike, shape: tuple[int, ...]) -> F64:
    """`values` as float64 of `shape`. Raises InvalidInput when the shape differs or a value is not finite."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be numbers of shape {shape}, got {values!r}") from None
    if array.shape != shape:
        raise InvalidInput(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} must be finite; clean NaN and infinity before encoding")
    return array
