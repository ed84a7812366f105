"""Encoders as sections of a configuration file, each a kind with its settings."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from bandit_router.encoding.contexts import Bias, Concat, Encoder, OneHotTask, Precomputed
from bandit_router.encoding.text import Embedding, TextComplexity, Whitening
from bandit_router.encoding.traits import Traits
from bandit_router.errors import InvalidInput


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One encoder of the list `context`."""

    def build(self, folder: Path | None) -> Encoder:
        """The encoder; relative paths start from `folder`."""
        raise NotImplementedError


class BiasSection(_Section, frozen=True, tag="bias"):
    """The constant 1, see `Bias`."""

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        return Bias()


class TaskSection(_Section, frozen=True, kw_only=True, tag="task"):
    """One column per task and one for any other, see `OneHotTask`.

    Attributes:
        tasks: the known labels.
    """

    tasks: tuple[str, ...]

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        return OneHotTask(self.tasks)


class FeaturesSection(_Section, frozen=True, kw_only=True, tag="features"):
    """The request's own numbers, see `Precomputed`.

    Attributes:
        count: how many numbers every request brings.
    """

    count: int

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        return Precomputed(self.count)


class TraitsSection(_Section, frozen=True, kw_only=True, tag="traits"):
    """Labels, tools and length, see `Traits`.

    Attributes:
        tags, modalities: the known labels.
    """

    tags: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        return Traits(tags=self.tags, modalities=self.modalities)


class ComplexitySection(_Section, frozen=True, tag="text_complexity"):
    """Seven cheap figures of the text, see `TextComplexity`."""

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        return TextComplexity()


class EmbeddingSection(_Section, frozen=True, kw_only=True, tag="embedding"):
    """Components of the text's WordLlama embedding, see `Embedding`; needs the extra `text`.

    Attributes:
        whitening: file that `numpy.savez(path, **fit_pca(vectors).state())` wrote.
    """

    whitening: str

    def build(self, folder: Path | None) -> Encoder:
        """See `_Section`."""
        path = Path(folder or "", self.whitening)
        try:
            with np.load(path, allow_pickle=False) as saved:
                whitening = Whitening.from_state(dict(saved))
        except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{path.name} is no saved whitening: {error}; see fit_pca") from None
        return Embedding(whitening=whitening)


EncoderSection = BiasSection | TaskSection | FeaturesSection | TraitsSection | ComplexitySection | EmbeddingSection


def build_encoder(sections: Sequence[EncoderSection], folder: Path | None) -> Encoder:
    """The encoders side by side; relative paths start from `folder`."""
    if not sections:
        raise InvalidInput("context needs at least one encoder, for instance kind = 'bias', or a length")
    return Concat(*(section.build(folder) for section in sections))
