"""The names and parameters of plugins as their text alone has them: nothing is imported.

A mapping that a class inherits, or puts into its own, is followed to the file of the package that
it is imported from. What cannot be told so (a name that is computed, a class of a library) is not
guessed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

PACKAGE = Path(__file__).resolve().parents[1]
#: classes of benchopt, which have no parameters
BASES = ("BaseSolver", "BaseDataset", "BaseObjective")


class _UnknownError(Exception):
    """The text alone does not tell."""


@final
@dataclass(frozen=True)
class Outline:
    """A plugin: its name, and its parameters' names; None for what its text does not tell."""

    name: str | None
    parameters: tuple[str, ...] | None


def outline(path: Path, kind: str) -> Outline:
    """That of the class ``kind`` ("Solver", "Dataset" or "Objective") in the file at ``path``."""
    try:
        home = _module(path)
        found = _class(kind, home)
    except _UnknownError:
        return Outline(None, None)
    literal = _assigned(found.body, "name")
    name = literal.value if isinstance(literal, ast.Constant) else None
    try:
        keys = tuple(key.strip() for text in _parameters(found, home) for key in text.split(","))
    except (_UnknownError, RecursionError):
        keys = None
    return Outline(name if isinstance(name, str) else None, keys)


def keys_of(path: Path, name: str) -> tuple[str, ...] | None:
    """The keys of the mapping ``name`` that the file at ``path`` writes out; None: it does not."""
    try:
        home = _module(path)
        return tuple(_keys(_assigned(home.tree.body, name), home))
    except _UnknownError:
        return None


@final
@dataclass(frozen=True)
class _Module:
    path: Path
    tree: ast.Module


@cache
def _module(path: Path) -> _Module:
    try:
        return _Module(path, ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _UnknownError from error


def _class(name: str, home: _Module) -> ast.ClassDef:
    for node in home.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise _UnknownError


def _assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    """The expression that ``name`` is given in ``body``, or None."""
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None


def _parameters(found: ast.ClassDef, home: _Module) -> Iterator[str]:
    """The keys of a class's ``parameters``, its own or those of the first base that has some."""
    own = _assigned(found.body, "parameters")
    if own is not None:
        yield from _keys(own, home)
        return
    for base in found.bases:
        if isinstance(base, ast.Name) and base.id not in (*BASES, "ABC"):
            yield from _parameters(*_found(base.id, home))
            return
        if not isinstance(base, ast.Name):
            raise _UnknownError


def _keys(node: ast.expr | None, home: _Module) -> Iterator[str]:
    """The keys of the mapping that an expression makes."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                yield from _keys(value, home)
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value
            else:
                raise _UnknownError
    elif isinstance(node, ast.Name):
        where, there = _found(node.id, home)
        yield from _keys(where if isinstance(where, ast.expr) else None, there)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        where, there = _found(node.value.id, home)
        if node.attr != "parameters" or not isinstance(where, ast.ClassDef):
            raise _UnknownError
        yield from _parameters(where, there)
    else:
        raise _UnknownError


def _found(name: str, home: _Module) -> tuple[ast.ClassDef | ast.expr, _Module]:
    """The class or the constant that ``name`` is in a module, and the module that has it."""
    for node in home.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, home
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _found(alias.name, _module(_file(node.module or "")))
    constant = _assigned(home.tree.body, name)
    if constant is None:
        raise _UnknownError
    return constant, home


def _file(dotted: str) -> Path:
    first, *rest = dotted.split(".")
    if first != PACKAGE.name or not rest:
        raise _UnknownError
    return PACKAGE.joinpath(*rest).with_suffix(".py")
