"""The names and parameters of plugins as their text alone has them: nothing is imported.

A mapping that a class inherits, or puts into its own, is followed to the file that it is imported
from. What cannot be told so (a name that is computed) is not guessed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import final

from benchmark.running.texts import Module, UnknownError, assigned, module_at, parameters


@final
@dataclass(frozen=True)
class Outline:
    """A plugin: its name, and its parameters' names; None for what its text does not tell."""

    name: str | None
    parameters: tuple[str, ...] | None


def outline(path: Path, kind: str) -> Outline:
    """That of the class ``kind`` ("Solver", "Dataset" or "Objective") in the file at ``path``."""
    try:
        home = module_at(path)
        found = _class(kind, home)
    except UnknownError:
        return Outline(None, None)
    literal = assigned(found.body, "name")
    name = literal.value if isinstance(literal, ast.Constant) else None
    try:
        texts = [text for text, *_ in parameters(found, home)]
        keys = tuple(key.strip() for text in texts for key in text.split(","))
    except (UnknownError, RecursionError):
        keys = None
    return Outline(name if isinstance(name, str) else None, keys)


def _class(name: str, home: Module) -> ast.ClassDef:
    for node in home.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise UnknownError
