"""The columns of somebody's file that nothing reads: a misspelt one must not pass in silence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

SHOWN = 20


def unused_names(names: Iterable[str], used: Collection[str], *, free: Sequence[str]) -> list[str]:
    """The names that are not used, each once, with the free field that a misspelt one may mean.

    Example:
        >>> unused_names(["arm", "propensty", "remark"], ["arm"], free=["propensity", "quality"])
        ['propensty (meant as propensity?)', 'remark']
    """
    unused = [name for name in dict.fromkeys(names) if name not in used and not re.fullmatch(r"|Unnamed: \d+", name)]
    shown = []
    for name in unused:
        near = difflib.get_close_matches(name.lower(), free, n=1, cutoff=0.8)
        shown.append(f"{name} (meant as {near[0]}?)" if near and near[0] != name.lower() else name)
    return shown


def listed(names: Sequence[str]) -> str:
    """The first names, and that there are more."""
    return ", ".join(names[:SHOWN]) + ("" if len(names) <= SHOWN else ", ...")
