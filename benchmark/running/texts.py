"""Python files as their text alone has them: what a name in one of them is; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import final

PACKAGE = Path(__file__).resolve().parents[1]
#: classes of benchopt, which have no parameters
BASES = ("BaseSolver", "BaseDataset", "BaseObjective")


class UnknownError(Exception):
    """The text alone does not tell."""


@final
@dataclass(frozen=True)
class Module:
    """A file and its text."""

    path: Path
    tree: ast.Module


@cache
def module_at(path: Path) -> Module:
    """Raises UnknownError where there is no Python at ``path``."""
    try:
        return Module(path, ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnknownError from error


@cache
def module_of(dotted: str) -> Module:
    """That of ``a.b.c``, of this package or of an installed one."""
    first, *rest = dotted.split(".")
    if first == PACKAGE.name:
        folder = PACKAGE
    else:
        spec = find_spec(first)  # of a name without a dot, which imports nothing
        if spec is None or not spec.submodule_search_locations:
            raise UnknownError
        folder = Path(spec.submodule_search_locations[0])
    path = folder.joinpath(*rest)
    return module_at(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    """The expression that ``name`` is given in ``body``, or None."""
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None


#: what a name in a file can be
Defined = ast.ClassDef | ast.FunctionDef | ast.expr


def defined(name: str, home: Module) -> tuple[Defined, Module]:
    """The class, function or constant that ``name`` is in a module, and the module that has it."""
    for node in home.tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node, home
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return defined(alias.name, module_of(node.module or ""))
    constant = assigned(home.tree.body, name)
    if constant is None:
        raise UnknownError
    return constant, home


def pairs(node: Defined | None, home: Module) -> Iterator[tuple[str, ast.expr, Module]]:
    """(key, value, where it is written) of the mapping that an expression makes; what it takes in
    whole is followed.
    """
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                yield from pairs(value, home)
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value, home
            else:
                raise UnknownError
    elif isinstance(node, ast.Name):
        where, there = defined(node.id, home)
        yield from pairs(where if isinstance(where, ast.expr) else None, there)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        where, there = defined(node.value.id, home)
        if node.attr != "parameters" or not isinstance(where, ast.ClassDef):
            raise UnknownError
        yield from parameters(where, there)
    else:
        raise UnknownError


def parameters(found: ast.ClassDef, home: Module) -> Iterator[tuple[str, ast.expr, Module]]:
    """The pairs of a class's ``parameters``, its own or those of the first base that has some."""
    own = assigned(found.body, "parameters")
    if own is not None:
        yield from pairs(own, home)
        return
    for base in found.bases:
        if isinstance(base, ast.Name) and base.id not in (*BASES, "ABC"):
            where, there = defined(base.id, home)
            if not isinstance(where, ast.ClassDef):
                raise UnknownError
            yield from parameters(where, there)
            return
        if not isinstance(base, ast.Name):
            raise UnknownError
