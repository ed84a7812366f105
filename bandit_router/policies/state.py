"""What a policy has learned, as numeric arrays: saved, loaded, and checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bandit_router.declared import Declared
from bandit_router.errors import InvalidInput

Form = Literal["variable", "packed", "symmetric"]
MOST = 1 << 53  # counts are exact as floats
FREE = 10_000  # arms, or features, of which a policy may keep nothing


class Stateful(Declared):
    """Base of what declares its settings and keeps what it has learned as arrays, `_arrays` and `_restore`.

    Class attribute `forms`: which arrays are more than numbers, by name. A "variable" one has a length that is not
    known before it is read; "packed" are the lower halves of positive definite matrices, by rows; "symmetric" are whole
    positive semi-definite matrices. A state whose matrices are not what they must be is refused when it is loaded.
    """

    forms: ClassVar[Mapping[str, Form]] = {}

    def _start(self) -> None:
        self.steps = 0  # outcomes learned

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on as before, as numeric arrays: settings, step count, estimates."""
        settings = {f"parameter.{name}": np.asarray(value) for name, value in self.settings().items()}
        return {**settings, "steps": np.asarray(self.steps), **{k: v.copy() for k, v in self._arrays().items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a policy from `state`. Raises InvalidInput when an array is missing, or of another shape or type."""
        try:
            check_sizes(state)
            policy = cls(**{name: state[f"parameter.{name}"].item() for name in cls.declared})
            policy.steps = int(state["steps"])
            expected = policy._arrays()
            arrays = {name: np.array(state[name]) for name in expected}
        except KeyError as missing:
            raise InvalidInput(f"state of {cls.__name__} lacks {missing}; was it saved by another policy?") from None
        for name, array in arrays.items():
            if cls.forms.get(name) != "variable" and array.shape != expected[name].shape:
                raise InvalidInput(f"state['{name}'] must have shape {expected[name].shape}, got {array.shape}")
            if array.dtype.kind != expected[name].dtype.kind:
                raise InvalidInput(f"state['{name}'] must have type {expected[name].dtype}, got {array.dtype}")
        policy._restore(arrays)
        return policy

    def settings(self) -> dict[str, Any]:
        """Sizes and settings as they stand now: what two policies must share to share a state."""
        return {name: getattr(self, name) for name in self.declared}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The learned arrays, by name."""
        return {}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over arrays of the shapes that `_arrays` has."""


def check_sizes(state: Mapping[str, NDArray[Any]]) -> None:
    """Raise InvalidInput for counts that no policy can have, before anything is made in their size.

    A file of kilobytes that speaks of 10^9 arms must not cost the memory for them.
    """
    for name, array in state.items():
        if (name.startswith("parameter.") or name == "steps") and array.ndim:
            raise InvalidInput(f"state['{name}'] must be one number, got shape {array.shape}")
        if array.dtype.kind == "i" and name == "steps" and not 0 <= int(array) <= MOST:
            raise InvalidInput(f"state['{name}'] must be in 0..{MOST}, got {int(array)}")
    held = sum(array.size for array in state.values())
    for name in ("n_arms", "dim"):
        size = state.get(f"parameter.{name}")
        if size is not None and not 1 <= size.item() <= max(held, FREE):
            raise InvalidInput(f"a state of {held} numbers cannot have {name} = {size.item()}")


def nested(prefix: str, forms: Mapping[str, Form]) -> dict[str, Form]:
    """The forms of a part whose arrays are saved behind a prefix."""
    return {f"{prefix}{name}": form for name, form in forms.items()}
