"""What a River object has learned, as numbers: saved without pickle, put back into a fresh object.

A pickle is a program: reading one runs it, so whoever can write a snapshot would own the router. What is saved here is
a tree of numbers only, walked along a freshly made object of the same kind, and reading it can set numbers and nothing
else. Objects that grow other objects while they learn (trees, forests) or keep their numbers in compiled code (ADWIN)
cannot be saved so; for them pickle has to be allowed by name, and then only classes of the packages named are loaded.
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import random
from collections import deque
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.errors import InvalidInput

Bytes = NDArray[np.uint8]

_FLOAT64 = "numpy.float64"
_SETTINGS = (type, frozenset, FunctionType, MethodType, BuiltinFunctionType)
_CONTAINERS = {
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "builtins": {"set", "frozenset", "int", "float", "bool", "list", "dict", "tuple"},
    "functools": {"partial"},
    "random": {"Random"},
    "numpy": {"ndarray", "dtype"},
}


class NotNumeric(TypeError):
    """An object holds something that is neither a number nor part of a fresh object."""


def check_installed() -> None:
    """Raise ImportError with the way out when River is missing."""
    if importlib.util.find_spec("river") is None:
        raise ImportError("this policy needs River: pip install 'bandit-router[river]'")


def save(objects: Sequence[Any], fresh: Callable[[], Sequence[Any]], allow_pickle: Sequence[str]) -> Bytes:
    """What the objects have learned, as bytes.

    Args:
        objects: River objects. fresh: makes the same objects, untrained.
        allow_pickle: packages whose classes a pickle may hold, used only if plain numbers do not suffice.

    Raises:
        InvalidInput: plain numbers do not suffice and pickle is not allowed.
    """
    try:
        tree = [_dump(live, new, type(live).__name__, set()) for live, new in zip(objects, fresh(), strict=True)]
    except NotNumeric as error:
        if not allow_pickle:
            raise InvalidInput(
                f"{error} cannot be saved as numbers; a pickle can run code when it is read and is refused unless "
                'the class says allow_pickle = ("river",)'
            ) from None
        return np.frombuffer(b"P" + pickle.dumps(list(objects)), dtype=np.uint8)
    return np.frombuffer(b"N" + json.dumps(tree).encode(), dtype=np.uint8)


def load(data: Bytes, fresh: Callable[[], Sequence[Any]], allow_pickle: Sequence[str]) -> list[Any]:
    """The objects that `save` was given. Raises InvalidInput for damaged bytes, or a pickle that is not allowed."""
    raw = np.asarray(data).astype(np.uint8).tobytes()
    if raw[:1] == b"P":
        return _unpickle(raw[1:], allow_pickle)
    try:
        trees = json.loads(raw[1:])
        return [_load(tree, new, set()) for tree, new in zip(trees, fresh(), strict=True)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"the saved River state does not fit the model: {error!r}") from None


def _unpickle(raw: bytes, allow_pickle: Sequence[str]) -> list[Any]:
    if not allow_pickle:
        raise InvalidInput('this state holds a pickle; to read it, the class must say allow_pickle = ("river",)')

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = super().find_class(module, name)  # a dotted name can lead out of the module, hence:
            home = str(getattr(found, "__module__", "")).split(".")[0]
            numpy_array = module.startswith("numpy.") and name in ("scalar", "_reconstruct")
            if home in allow_pickle or name in _CONTAINERS.get(module, ()) or numpy_array:
                return found
            raise InvalidInput(f"the pickled state names {module}.{name}; add its package to allow_pickle to trust it")

    try:
        objects: list[Any] = Unpickler(io.BytesIO(raw)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"the pickled state is damaged: {error!r}") from None
    return objects


def _dump(live: Any, new: Any, path: str, seen: set[int]) -> Any:
    if type(live) is np.float64:  # not the same as float: from Python 3.12 on `sum` rounds the two differently
        return {_FLOAT64: live.item()}
    if isinstance(live, np.generic):
        return live.item()
    if live is None or isinstance(live, (bool, int, float, str)):
        return live
    if type(live) is not type(new):
        raise NotNumeric(f"{path} ({type(live).__name__})")
    if isinstance(live, _SETTINGS) or id(live) in seen:
        return None
    seen.add(id(live))
    if isinstance(live, random.Random):
        version, words, gauss = live.getstate()
        return [version, list(words), gauss]
    if isinstance(live, np.ndarray):
        return [live.tolist(), "F" if live.flags.f_contiguous else "C", live.shape]
    if isinstance(live, tuple):
        return [_dump(a, b, f"{path}[{i}]", seen) for i, (a, b) in enumerate(zip(live, new, strict=True))]
    if isinstance(live, (list, deque)):
        return [_dump(item, None, f"{path}[]", seen) for item in live]
    if hasattr(live, "keys"):
        return [[key, _dump(live[key], _entry(new, key), f"{path}[{key!r}]", seen)] for key in _keys(live, path)]
    if not hasattr(live, "__dict__") or _attributes(live) != _attributes(new):
        raise NotNumeric(f"{path} ({type(live).__name__})")
    return {name: _dump(vars(live)[name], vars(new)[name], f"{path}.{name}", seen) for name in _attributes(live)}


def _load(tree: Any, new: Any, seen: set[int]) -> Any:
    """Fill `new` from `tree`; returns `new`, or the value that takes its place."""
    if isinstance(tree, dict) and tree.keys() == {_FLOAT64}:
        return np.float64(tree[_FLOAT64])
    if not isinstance(tree, (list, dict)):
        return new if tree is None and _is_kept(new, seen) else tree
    if id(new) in seen:
        return new
    seen.add(id(new))
    if isinstance(new, random.Random):
        new.setstate((tree[0], tuple(tree[1]), tree[2]))
    elif isinstance(new, np.ndarray):
        return np.array(tree[0], dtype=new.dtype, order=tree[1]).reshape(tree[2], order="A")
    elif isinstance(new, tuple):
        return tuple(_load(part, old, seen) for part, old in zip(tree, new, strict=True))
    elif isinstance(new, (list, deque)):
        new.clear()
        new.extend(_load(item, None, set()) for item in tree)
    elif hasattr(new, "keys"):
        filled = {key: _load(value, _entry(new, key), seen) for key, value in tree}
        new.clear()
        new.update(filled)
    else:
        for name, value in dict(tree).items():
            vars(new)[name] = _load(value, vars(new)[name], seen)
    return new


def _attributes(thing: Any) -> list[str]:
    """Where an object keeps what it learns; a pipeline's other attributes are plans that it makes when first used."""
    return ["steps"] if "steps" in vars(thing) else sorted(vars(thing))


def _is_kept(new: Any, seen: set[int]) -> bool:
    """Whether a null in the tree stands for a setting or for an object already filled, not for None."""
    return isinstance(new, _SETTINGS) or id(new) in seen


def _keys(mapping: Any, path: str) -> list[int | str]:
    keys = list(mapping.keys())
    if not all(isinstance(key, (int, str)) and not isinstance(key, bool) for key in keys):
        raise NotNumeric(f"{path} (keys that are neither numbers nor names)")
    return keys


def _entry(new: Any, key: Any) -> Any:
    """What a fresh mapping holds under a key, or would put there."""
    if key in new:
        return new[key]
    factory = getattr(new, "default_factory", None)
    return None if factory is None else factory()
