"""Encoders that sort requests into few categories: semantic clusters and readability bins.

They are the context features of GreenServ (Ziller et al., ICPE 2026, arXiv 2601.17551), beside the task label, for
which there is `contexts.OneHotTask`. Every category has a column of its own, the missing text too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.encoding.contexts import Request, finite
from bandit_router.encoding.text import TextComplexity, wordllama
from bandit_router.errors import InvalidInput

_COMPLEXITY = TextComplexity()


class ReadabilityBin:
    """One column for each range of reading difficulty, 100 minus Flesch reading ease, and a last one without text.

    Args:
        edges: increasing; bin i holds edges[i-1] <= difficulty < edges[i], so there are len(edges) + 1 bins and `dim`
            is len(edges) + 2. Default GreenServ's thresholds.

    Example:
        >>> ReadabilityBin()(Request(text="The cat sat on the mat.")).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, edges: Sequence[float] = (20.0, 30.0)) -> None:
        self.edges = finite("edges", edges, (len(edges),))
        if not len(edges) or (np.diff(self.edges) <= 0).any():
            raise InvalidInput(f"edges must be increasing and not empty, got {list(edges)}")
        self.dim = len(edges) + 2

    def __call__(self, request: Request) -> F64:
        """Shape (dim,): a single 1, the rest 0."""
        x = np.zeros(self.dim)
        figures = _COMPLEXITY(request)
        missing = figures[-1] == 1.0
        x[-1 if missing else self.edges.searchsorted(100.0 * (1.0 - figures[3]), side="right")] = 1.0
        return x


class SemanticCluster:
    """One column for each cluster of embeddings, found online, and a last one for a text that has no cluster yet.

    The first `clusters` distinct embeddings are the first centroids; from then on each embedding that `update` sees
    moves the centroid that is nearest by cosine to the mean of what it has been given. As with `Standardise`, calling
    encodes with the state as it stands and only `update` changes it: update on a stated prefix of the stream and stop,
    or accept that a column's meaning drifts under what was learned.

    Args:
        clusters: how many, at least 1. `dim` is clusters + 1.
        embed: texts to vectors of shape (len(texts), width).

    Source: MacQueen 1967, "Some methods for classification and analysis of multivariate observations", with cosine
    assignment as in GreenServ. It finds a local optimum that depends on the order of the stream.

    Example:
        >>> letters = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.9, 0.1]}
        >>> encode = SemanticCluster(2, embed=lambda texts: np.array([letters[text] for text in texts]))
        >>> for text in "ab":
        ...     encode.update(Request(text=text))
        >>> encode(Request(text="c")).tolist()
        [1.0, 0.0, 0.0]
    """

    def __init__(self, clusters: int = 3, *, embed: Callable[[list[str]], F64] = wordllama) -> None:
        if clusters < 1:
            raise InvalidInput(f"clusters must be at least 1, got {clusters}")
        self.clusters, self.dim, self._embed = clusters, clusters + 1, embed
        self.centroids: F64 = np.zeros((0, 0))
        self.counts: F64 = np.zeros(0)

    def __call__(self, request: Request) -> F64:
        """Shape (dim,): a single 1, the rest 0."""
        x = np.zeros(self.dim)
        vector = self._vector(request)
        x[-1 if vector is None or not len(self.counts) else self._nearest(vector)] = 1.0
        return x

    def update(self, request: Request) -> None:
        """Move the nearest centroid, or begin one; a request without text is passed over."""
        vector = self._vector(request)
        if vector is None:
            return
        if len(self.counts) < self.clusters and not any((vector == centroid).all() for centroid in self.centroids):
            self.centroids = np.vstack([self.centroids.reshape(-1, len(vector)), vector])
            self.counts = np.append(self.counts, 1.0)
            return
        near = self._nearest(vector)
        self.counts[near] += 1.0
        self.centroids[near] += (vector - self.centroids[near]) / self.counts[near]

    def state(self) -> dict[str, NDArray[Any]]:
        """Centroids, shape (clusters so far, width), and how many embeddings each is the mean of."""
        return {"centroids": self.centroids.copy(), "counts": self.counts.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state. Raises InvalidInput, and changes nothing, when it does not fit."""
        try:
            centroids, counts = (finite(name, state[name], np.shape(state[name])) for name in ("centroids", "counts"))
        except KeyError as missing:
            raise InvalidInput(f"state of SemanticCluster lacks {missing}; was it saved by another class?") from None
        if centroids.ndim != 2 or counts.shape != (len(centroids),) or len(counts) > self.clusters:
            raise InvalidInput(
                f"state must hold at most {self.clusters} centroids and as many counts, "
                f"got shapes {centroids.shape} and {counts.shape}"
            )
        self.centroids, self.counts = centroids.copy(), counts.copy()

    def _vector(self, request: Request) -> F64 | None:
        return self._embed([request.text])[0] if request.text and request.text.strip() else None

    def _nearest(self, vector: F64) -> int:
        lengths = np.maximum(np.linalg.norm(self.centroids, axis=1), 1e-12)
        return int((self.centroids @ vector / lengths).argmax())
