"""Encoders that read the text of a request: cheap complexity figures, and whitened embeddings.

`TextComplexity` and `wordllama` read the first `LONGEST` characters without white space around them, so a very
long prompt costs no more than that. Both encoders end in a column that is 1 when the text is missing or blank and
0 otherwise.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit_router.arrays import F64
from bandit_router.declared import Declared
from bandit_router.encoding.contexts import Request, finite
from bandit_router.errors import InvalidInput

LONGEST = 10_000

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*+\s|[。！？]|\n[^\S\n]*\n")
_CODE = re.compile(r"[{}\[\]<>=;_#\\|~^`$@*/&+]")
_DIGIT = re.compile(r"\d")
_VOWELS = re.compile(r"[aeiouy]+")
_LOG_MILLION = math.log(1e6)


class TextComplexity(Declared):
    """Cheap figures of the text itself, each in [0, 1]. `dim` is 7.

    Columns: log length in characters (1 at a million); mean word length (1 at 10); words a sentence (1 at
    50); Flesch reading ease 206.835 - 1.015 words/sentences - 84.6 syllables/words, clipped to 0..100, over
    100; share of digits; share of characters usual in code and rare in prose; 1 if the text is missing or
    blank.

    Source: Flesch 1948, "A new readability yardstick", Journal of Applied Psychology 32(3). Syllables are
    counted by `count_syllables`. Both are rules for English: elsewhere reading ease is a bounded number
    without that meaning.

    Example:
        >>> TextComplexity()(Request(text="The cat sat on the mat.")).round(3).tolist()
        [0.227, 0.283, 0.12, 1.0, 0.0, 0.0, 0.0]
    """

    dim = 7

    def __call__(self, request: Request) -> F64:
        """Shape (7,)."""
        text = _prefix(request.text)
        if not text:
            return np.array([0.0] * 6 + [1.0])
        words = _WORD.findall(text) or [text]
        sentences = len([part for part in _SENTENCE_END.split(text) if part.strip()]) or 1
        syllables = sum(map(count_syllables, words))
        ease = 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)
        columns = (
            math.log(len(request.text or text)) / _LOG_MILLION,
            sum(map(len, words)) / len(words) / 10,
            len(words) / sentences / 50,
            ease / 100,
            len(_DIGIT.findall(text)) / len(text),
            len(_CODE.findall(text)) / len(text),
            0.0,
        )
        return np.clip(columns, 0.0, 1.0)


@functools.lru_cache(maxsize=8192)
def count_syllables(word: str) -> int:
    """Vowel groups (a, e, i, o, u, y) of an English word, less one for a silent final e, at least 1.

    Example:
        >>> [count_syllables(word) for word in ("cat", "creature", "table", "seemingly")]
        [1, 2, 2, 3]
    """
    word = word.lower()
    silent = word.endswith("e") and not word.endswith(("ae", "ee", "ie", "oe", "ue", "ye", "le"))
    return max(1, len(_VOWELS.findall(word)) - silent)


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """A linear map to uncorrelated columns of unit variance, (v - mean) @ projection; `fit_pca` makes one.

    Attributes:
        mean: shape (width,). projection: shape (width, components). Both are read-only copies.
        fitted_on: number of vectors it was fitted on.
    """

    mean: F64
    projection: F64
    fitted_on: int

    def __post_init__(self) -> None:
        width, components = np.shape(self.projection) if np.ndim(self.projection) == 2 else (0, 0)
        if not width * components:
            raise InvalidInput(f"projection must be a matrix that is not empty, got {np.shape(self.projection)}")
        for name, shape in (("mean", (width,)), ("projection", (width, components))):
            array = finite(name, getattr(self, name), shape).copy()
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def components(self) -> int:
        """Number of columns it maps to."""
        return int(self.projection.shape[1])

    def __call__(self, vectors: F64) -> F64:
        """Map vectors of shape (..., width) to shape (..., components)."""
        return np.asarray((vectors - self.mean) @ self.projection)

    def state(self) -> dict[str, NDArray[Any]]:
        """The map as arrays."""
        return {"mean": self.mean, "projection": self.projection, "fitted_on": np.asarray(self.fitted_on)}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """The map that was saved. Raises InvalidInput when an array is missing or has the wrong shape."""
        try:
            return cls(state["mean"], state["projection"], int(state["fitted_on"]))
        except KeyError as missing:
            raise InvalidInput(f"state of Whitening lacks {missing}; was it saved by another class?") from None


def fit_pca(vectors: ArrayLike, *, components: int = 24) -> Whitening:
    """Fit the leading principal components, scaled to unit sample variance.

    Fit them on a stated prefix of the stream and keep them: a refit changes what every learned coefficient
    means. The sign of each makes its largest loading positive, so equal vectors give an equal map.

    Args:
        vectors: shape (n, width) with n greater than `components`, for example what `wordllama` returns.
        components: number of columns to keep, at least 1.

    Raises:
        InvalidInput: the shape is wrong, a value is not finite, or the vectors span too few directions.

    Example:
        >>> whitening = fit_pca([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]], components=1)
        >>> whitening(np.array([[1.0, 0.5], [2.0, 0.5]])).round(3).tolist()
        [[0.0], [0.866]]
    """
    matrix = finite("vectors", vectors, np.shape(vectors))
    if matrix.ndim != 2 or not 1 <= components < len(matrix):
        raise InvalidInput(f"vectors must be a matrix with more rows than {components} components, got {matrix.shape}")
    mean = matrix.mean(axis=0)
    _, singular, loadings = np.linalg.svd(matrix - mean, full_matrices=False)
    rank = int((singular > 1e-9 * np.linalg.norm(matrix)).sum())
    if rank < components:
        raise InvalidInput(f"vectors span only {rank} directions, got components={components}; ask for fewer")
    axes = loadings[:components].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(components)])
    return Whitening(mean, axes * (math.sqrt(len(matrix) - 1) / singular[:components]), len(matrix))


def wordllama(texts: Sequence[str]) -> F64:
    """Mean WordLlama token embedding of each text, scaled to unit length; shape (len(texts), 256).

    Needs the extra `text`; its wheel brings the weights, nothing is downloaded. An empty text gives zeros.
    """
    # A lone surrogate, which JSON can carry, is not valid UTF-8 and would stop the tokenizer.
    readable = [_prefix(text).encode("utf-8", "replace").decode() for text in texts]
    vectors = np.asarray(_load_wordllama().embed(readable), dtype=np.float64)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


@functools.cache
def _load_wordllama() -> Any:
    root, guard = logging.getLogger(), logging.NullHandler()
    root.addHandler(guard)  # with a handler there, the logging.basicConfig of wordllama's import does nothing
    try:
        import wordllama as package
    except ImportError:
        raise ImportError("text embeddings need the extra 'text': pip install 'bandit-router[text]'") from None
    finally:
        root.removeHandler(guard)
    return package.WordLlama.load(cache_dir=Path(package.__file__).parent, disable_download=True)


class Embedding:
    """Whitened components of the text's embedding, then 1 if the text is missing or blank, else 0.

    Args:
        whitening: fitted on vectors of the same `embed`. `dim` is its components + 1.
        embed: texts to vectors of shape (len(texts), width). It is called once here, so that a missing model
            fails now and not at the first request.

    Raises:
        InvalidInput: `embed` and `whitening` differ in width.
    """

    def __init__(self, *, whitening: Whitening, embed: Callable[[list[str]], F64] = wordllama) -> None:
        expected, shape = (1, len(whitening.mean)), np.shape(embed(["width"]))
        if shape != expected:
            raise InvalidInput(f"embed must give vectors of shape {expected} to fit the whitening, got {shape}")
        self.whitening, self._embed = whitening, embed
        self.dim = whitening.components + 1

    def __call__(self, request: Request) -> F64:
        """Shape (dim,). Without text the components are 0, which is where the fitted mean lies."""
        x = np.zeros(self.dim)
        if request.text and _prefix(request.text):
            x[:-1] = self.whitening(self._embed([request.text])[0])
        else:
            x[-1] = 1.0
        return x


def _prefix(text: str | None) -> str:
    """What is read of a text; empty when it is missing or blank."""
    return (text or "").strip()[:LONGEST]
