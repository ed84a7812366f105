"""Encoders by name: `ENCODERS` is the registry that a router's file names them from."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from bandit_router.arrays import F64
from bandit_router.declared import Declared, check_required, named, read, setting
from bandit_router.encoding.contexts import Bias, Concat, Encoder, OneHotTask, Precomputed, Request
from bandit_router.encoding.text import Embedding, TextComplexity, Whitening
from bandit_router.encoding.traits import Traits
from bandit_router.errors import InvalidInput

Section = dict[str, Any]


class SavedEmbedding(Declared):
    """An `Embedding` with a whitening from a file; needs the extra `text`.

    Args:
        whitening: file that `numpy.savez(path, **fit_pca(vectors).state())` wrote.
    """

    whitening: str = setting(kind=str, unit="path of a saved whitening")

    def _start(self) -> None:
        path = Path(self.whitening)
        try:
            with np.load(path, allow_pickle=False) as saved:
                whitening = Whitening.from_state(dict(saved))
        except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{path.name} is no saved whitening: {error}; see fit_pca") from None
        self._encode = Embedding(whitening=whitening)
        self.dim = self._encode.dim

    def __call__(self, request: Request) -> F64:
        """Shape (dim,)."""
        return self._encode(request)


ENCODERS: Mapping[str, type[Declared]] = {
    "bias": Bias,
    "task": OneHotTask,
    "features": Precomputed,
    "traits": Traits,
    "text_complexity": TextComplexity,
    "embedding": SavedEmbedding,
}


def check_sections(sections: Sequence[Section]) -> None:
    """Raise InvalidInput for an unknown kind or setting, or a value that does not fit; builds nothing."""
    if not sections:
        raise InvalidInput("context needs at least one encoder, for instance kind = 'bias', or a length")
    for section in sections:
        part, settings = _part(section)
        check_required(part, read(part.__name__, part, settings))


def build_encoder(sections: Sequence[Section], folder: Path | None) -> Encoder:
    """The encoders side by side; relative paths start from `folder`."""
    check_sections(sections)
    encoders = []
    for section in sections:
        part, settings = _part(section)
        values = read(part.__name__, part, settings)
        if part is SavedEmbedding:
            values["whitening"] = str(Path(folder or "", values["whitening"]))
        encoders.append(cast(Encoder, part(**values)))
    return Concat(*encoders)


def sections_schema() -> dict[str, Any]:
    """One encoder as JSON Schema."""
    return {"oneOf": [_schema(kind, part) for kind, part in ENCODERS.items()]}


def _part(section: Section) -> tuple[type[Declared], Section]:
    if "kind" not in section:
        raise InvalidInput(f"an encoder needs a kind; there are {', '.join(ENCODERS)}")
    part = named("encoder", section["kind"], ENCODERS)
    return part, {name: value for name, value in section.items() if name != "kind"}


def _schema(kind: str, part: type[Declared]) -> dict[str, Any]:
    choices = part.choices()
    return {
        "type": "object",
        "properties": {"kind": {"const": kind}, **{name: each.schema() for name, each in choices.items()}},
        "required": ["kind", *(name for name, each in choices.items() if each.required)],
        "additionalProperties": False,
    }
