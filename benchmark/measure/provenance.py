"""What produced a row: every file that can change it, found from the syntax trees.

A row depends on the files of its plugins, on the modules of this package that they import, in turn
and wherever in a file, and on what its parameters name: a family of layers, files of the user's.
The digest of a Python file is that of its code: comments, docstrings, formatting and line ends are
none. Other libraries are not followed; their versions are columns of their own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
#: they read results, start runs or say what was run, and cannot change a row
_WITHOUT_EFFECT = ("report", "running", "measure/provenance.py", "plugins/keyed.py")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sources(roots: Iterable[Path], *, package: Path = PACKAGE) -> dict[str, str]:
    """The digest of each file that ``roots`` reach, by its path from the checkout, sorted.

    Followed are imports of modules of ``package``, the ``__init__.py`` above them included, and of
    the checkout around it; and the data beside a module that it names, such as weights. A file
    outside of the checkout goes by its name alone, two of one name together. Each file is read once
    in a process: what has been imported is what counts. Cost: some ms for each file that is new.
    """
    return dict(_sources(tuple(Path(root).resolve() for root in roots), package.resolve()))


@cache
def _sources(roots: tuple[Path, ...], package: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    waiting = list(dict.fromkeys(roots))
    seen = set(waiting)
    while waiting:
        file = waiting.pop()
        digest, imported = _read(file, package)
        name = _name(file, package)
        found[name] = _short((found[name] + digest).encode()) if name in found else digest
        waiting += [other for other in imported if other not in seen]
        seen |= set(imported)
    return dict(sorted(found.items()))


def named(values: Iterable[object], *, package: Path = PACKAGE) -> list[Path]:
    """The files that the texts among the parameters ``values`` name.

    "pnp(denoiser='mine.py')" names the family of layers of ``benchmark/problems/pnp.py`` and, where
    it is there, the file ``mine.py``; "pnp(denoiser='mine')" also ``denoisers/mine.py``, and any
    ``mine.py`` in a folder of the working directory or of the checkout. With a file of Python comes
    one of weights that has its name.
    """
    files = []
    for value in values:
        words = [word.strip() for word in re.split(r"[()\[\]{}'\"=,;]", str(value))]
        if re.fullmatch(r"\w+", words[0]):
            files.append(package / "problems" / f"{words[0]}.py")
        for word in words:
            if re.search(r"\.[A-Za-z]\w*$", word):
                files.append(Path(os.path.expanduser(word)))
            elif word.isidentifier() and len(word) < 100:
                files += [f for root in (Path(), package.parent) for f in _placed(root, word)]
    weights = [file.with_suffix(".safetensors") for file in files if file.suffix == ".py"]
    # the method of Path raises for long names
    return [file for file in (*files, *weights) if os.path.isfile(file)]


@cache
def _placed(root: Path, name: str) -> list[Path]:
    """The files ``name.py`` in folders of ``root``, those of benchopt and of this package aside."""
    return [
        file
        for file in sorted(root.resolve().glob(f"*/{name}.py"))
        if file.parent.name not in ("solvers", "datasets", "plots", "tests", PACKAGE.name)
    ]


def digest(files: Mapping[str, str]) -> str:
    """12 hexadecimal digits for what ``sources`` found."""
    return hashlib.sha256(as_text(files).encode()).hexdigest()[:12]


def as_text(files: Mapping[str, str]) -> str:
    """What ``sources`` found, as a row holds it: JSON."""
    return json.dumps(files, sort_keys=True, separators=(",", ":"))


def files_of(digest: object, text: object) -> dict[str, str]:
    """The files of a row by its two columns, ``digest`` and ``as_text``.

    Rows of before there was a text have one digest for all; they agree with none that has.
    """
    if not isinstance(text, str):
        return {"(the whole package)": str(digest)}
    return {"(the whole package)": "(file by file)", **json.loads(text)}


def changed(text: str, *, package: Path = PACKAGE) -> list[str]:
    """The files of ``as_text`` that are not here as they were, or not here at all.

    Of files outside of the checkout a row has the name alone: they are not looked for.
    """
    known: dict[str, str] = json.loads(text)
    here = {name: package.parent / name for name in known}
    return [
        name
        for name, file in here.items()
        if (not file.is_file() and "/" in name)
        or (file.is_file() and _read(file.resolve(), package.resolve())[0] != known[name])
    ]


@cache
def _read(file: Path, package: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file, and the files that it imports or names."""
    content = file.read_bytes()
    try:
        tree = ast.parse(content) if file.suffix == ".py" else None
    except (SyntaxError, ValueError):  # whoever imports it will say so
        tree = None
    if tree is None:
        return _short(content), ()
    nodes = _stripped(tree)
    reached = {*_imported(file, nodes, package), *_data(file, nodes)}
    skipped = [package / part for part in _WITHOUT_EFFECT]
    kept = {f for f in reached if not any(s == f or s in f.parents for s in skipped)}
    return _short(ast.unparse(tree).encode()), tuple(sorted(kept))


def _stripped(tree: ast.Module) -> list[ast.AST]:
    """Take out docstrings, and what only type checkers read: the nodes that are left."""
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        elif isinstance(node, ast.If) and _for_type_checkers(node):
            node.test, node.body = ast.Constant(False), [ast.Pass()]
        nodes.extend(ast.iter_child_nodes(node))
    return nodes


def _for_type_checkers(node: ast.If) -> bool:
    return ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _imported(file: Path, nodes: Iterable[ast.AST], package: Path) -> Iterator[Path]:
    """The files of the modules that are imported, and of the packages that they are in."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(alias.name, package)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, file, package)
            yield from _modules(base, package)
            for alias in node.names:
                own = _module(f"{base}.{alias.name}", package)
                yield from [own] if own else _exported(base, alias.name, package)


def _exported(base: str, name: str, package: Path) -> Iterator[Path]:
    """Where the package ``base`` has ``name`` from, though it imports it only when asked for it."""
    home = _module(base, package)
    if home is None or home.name != "__init__.py":
        return
    for node in _imports_from(home):
        if name in [alias.asname or alias.name for alias in node.names]:
            yield from _modules(_absolute(node, home, package), package)


@cache
def _imports_from(file: Path) -> list[ast.ImportFrom]:
    nodes = ast.walk(ast.parse(file.read_bytes()))
    return [node for node in nodes if isinstance(node, ast.ImportFrom)]


def _absolute(node: ast.ImportFrom, file: Path, package: Path) -> str:
    """The module that ``from … import`` names, dots before it resolved."""
    if not node.level:
        return node.module or ""
    place = file.parents[node.level - 1]
    if not place.is_relative_to(package.parent):
        return ""
    return ".".join([*place.relative_to(package.parent).parts, *filter(None, [node.module])])


def _modules(dotted: str, package: Path) -> Iterator[Path]:
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        if (file := _module(".".join(parts[:length]), package)) is not None:
            yield file


@cache
def _module(dotted: str, package: Path) -> Path | None:
    """The file of a module of the package or of the checkout around it; None of any other."""
    first, *rest = dotted.split(".")
    if first == "benchmark":
        places = [package, package.parent] if rest else [package]
    elif first == "benchmark_utils":
        places = [package.parent / first]
    else:
        return None
    for place in (p.joinpath(*rest) for p in places):
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None


def _data(file: Path, nodes: Iterable[ast.AST]) -> Iterator[Path]:
    """The files beside ``file`` that it names in a text, but for Python's."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if re.fullmatch(r"[\w.-]{1,100}\.[A-Za-z]\w*", text) and not text.endswith(".py"):
                beside = file.with_name(text)
                if beside.is_file():
                    yield beside.resolve()


def _name(file: Path, package: Path) -> str:
    inside = file.is_relative_to(package.parent)
    return file.relative_to(package.parent).as_posix() if inside else file.name


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
