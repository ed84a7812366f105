"""Docstrings as the site shows them: an example is code, and every argument and attribute has a line of its own."""

import re
from typing import Any

import griffe

LISTED = re.compile(r"^ *(Args|Attributes):$")


class Docstrings(griffe.Extension):
    """Rewrites a docstring before it is parsed: the package writes `Example:`, and short arguments several a line."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called once for every object."""
        if obj.docstring is not None:
            names = {*obj.members, *(p.name for p in getattr(obj, "parameters", ()))}
            if "__init__" in obj.members:
                names |= {p.name for p in getattr(obj.members["__init__"], "parameters", ())}
            obj.docstring.value = rewritten(obj.docstring.value, names)


def rewritten(text: str, names: set[str]) -> str:
    """`Example:` as `Examples:`; in lists of arguments a new line before each of `names` that stands in mid-line."""
    listed, lines = False, []
    for line in text.splitlines():
        if not line.strip():
            listed = False
        elif LISTED.match(line):
            listed = True
        elif listed:
            line = re.sub(
                r"(?<=[.;]) (\w+)(?=(?:, \w+)*: )", lambda m: f"\n    {m[1]}" if m[1] in names else m[0], line
            )
        lines.append(re.sub(r"^( *)Example:$", r"\1Examples:", line))
    return "\n".join(lines)
