"""The griffe extension of mkdocs.yml: on the API page, entries of docstrings are prose.

Of ``name : what it is``, numpydoc takes the rest of the line for a type. Types are in signatures.
"""

from __future__ import annotations

import re

import griffe

ENTRY = re.compile(r"(?m)^(\w+(?:, \w+)*) : (\S.*(?:\n +.*)*)")


def apart(entry: re.Match[str]) -> str:
    """Each name on a line of its own, then the text."""
    return "\n".join(f"{name}\n    {entry[2]}" for name in entry[1].split(", "))


class Prose(griffe.Extension):
    """Names and texts of entries apart."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Of a module, class or function that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = ENTRY.sub(apart, obj.docstring.value)
