"""The files in solvers/ and datasets/, each imported in a child process before benchopt does.

benchopt imports every file of a folder in each run, and ends with it: a syntax error, a file that
exits or never comes to an end is named here, and left out where nothing asks for it.
"""

from __future__ import annotations

import ast
import faulthandler
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark.options.forked import forked
from benchmark.running.faults import one_line

#: seconds that a file may take to be imported
LIMIT = 60.0
FOLDERS = {"Dataset": "datasets", "Solver": "solvers"}


@dataclass(frozen=True)
class PluginFile:
    """A file and what it defines: ``kind`` is "Dataset" or "Solver".

    name : of the plugin, as far as it can be told; fault : why it cannot be used, or ""; missing :
    the library that it needs and that is absent, or "": benchopt skips such a plugin.
    """

    path: str
    kind: str
    name: str = ""
    fault: str = ""
    missing: str = ""


def plugin_files(benchmark: Path, kind: str, *, limit: float = LIMIT) -> list[PluginFile]:
    """Those of ``benchmark`` that benchopt would import, in the order of their names.

    Cost: their imports, once, in children that are gone afterwards; at most ``limit`` seconds each.
    """
    read = [_read(path, kind) for path in _paths(benchmark, kind)]
    imported = _imported(benchmark, [file for file in read if not file.fault], limit=limit)
    by_path = {file.path: file for file in imported}
    return [by_path.get(file.path, file) for file in read]


def unreadable(benchmark: Path) -> list[str]:
    """A line for each file of ``benchmark`` whose text alone says that it cannot be used, and for
    those of one name. Cost: some ms a file.
    """
    lines = []
    for kind in FOLDERS:
        read, named = [_read(path, kind) for path in _paths(benchmark, kind)], {}
        for file in read:
            where = f"{FOLDERS[kind]}/{Path(file.path).name}"
            if file.fault:
                lines.append(f"{where}: {file.fault}")
            elif file.name and file.name.lower() in named:
                lines.append(
                    f"{where}: the name {file.name!r} is that of {named[file.name.lower()]}"
                )
            named.setdefault(file.name.lower(), where)
    return lines


def _paths(benchmark: Path, kind: str) -> list[Path]:
    paths = sorted((benchmark / FOLDERS[kind]).glob("[!.]*.py"))
    return [path for path in paths if not path.name.startswith("template_")]


def plugin_file(benchmark: Path, path: Path, kind: str, *, limit: float = LIMIT) -> PluginFile:
    """The same of one file, wherever it lies."""
    read = _read(path, kind)
    return read if read.fault else next(_imported(benchmark, [read], limit=limit))


def _read(path: Path, kind: str) -> PluginFile:
    """What the text of a file says, without running it."""
    file = PluginFile(str(path), kind)
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        return replace(file, fault=f"line {error.lineno}: {error.msg}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return replace(file, fault=f"cannot be read ({one_line(error) or type(error).__name__})")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == kind:
            return replace(file, name=_literal_name(node))
    return replace(file, fault=f"defines no class {kind}")


def _literal_name(node: ast.ClassDef) -> str:
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
            for target in line.targets:
                if isinstance(target, ast.Name) and target.id == "name":
                    return str(line.value.value)
    return ""


def _imported(
    benchmark: Path, files: Sequence[PluginFile], *, limit: float
) -> Iterator[PluginFile]:
    """Each of ``files`` as its import leaves it; where one ends the child, a new one goes on."""
    waiting = list(files)
    while waiting:
        found, ended = _in_child(benchmark, waiting, limit=limit)
        yield from found
        waiting = waiting[len(found) :]
        if waiting:
            yield replace(waiting.pop(0), fault=f"{ended} when it is imported")


def _in_child(
    benchmark: Path, files: Sequence[PluginFile], *, limit: float
) -> tuple[list[PluginFile], str]:
    """What a forked child says of the first of ``files``, and how it ended where it stopped."""
    reading, writing = os.pipe()
    child = forked(lambda: _import(benchmark, files, reading, writing))
    os.close(writing)
    lines, stuck = _lines(reading, count=len(files), limit=limit)
    os.close(reading)
    if stuck:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    ended = f"does not come to an end within {limit:g} s" if stuck else _end(status)
    return [PluginFile(**json.loads(line)) for line in lines], ended


def _lines(reading: int, *, count: int, limit: float) -> tuple[list[bytes], bool]:
    """Up to ``count`` lines of a pipe, and whether none came for ``limit`` seconds."""
    text, deadline = b"", time.monotonic() + limit
    while text.count(b"\n") < count:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return text.splitlines()[: text.count(b"\n")], True
        part = os.read(reading, 65536)
        if not part:
            break
        text, deadline = text + part, time.monotonic() + limit
    return text.splitlines()[: text.count(b"\n")], False


def _end(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"ends the process ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"ends the process (exit code {os.WEXITSTATUS(status)})"


def _import(benchmark: Path, files: Sequence[PluginFile], reading: int, writing: int) -> None:
    """The child's part."""
    os.close(reading)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.disable()
    for file in files:
        line = json.dumps(asdict(_loaded(benchmark, file))) + "\n"
        os.write(writing, line.encode())


def _loaded(benchmark: Path, file: PluginFile) -> PluginFile:
    from benchopt.utils.dynamic_modules import FailedImport, _load_class_from_module

    try:
        cls = _load_class_from_module(benchmark, file.path, file.kind)
    except BaseException as error:  # a file that exits is a faulty file, not the end of a study
        return replace(file, fault=f"{type(error).__name__}: {one_line(error)}")
    if isinstance(cls, FailedImport):
        return _failed(file, cls)
    home = next((c for c in cls.__mro__ if "name" in vars(c)), None)
    if home is None or home.__module__.startswith("benchopt."):
        return replace(file, fault=f"its class {file.kind} has no name")
    if not isinstance(cls.name, str) or not cls.name.strip():
        return replace(file, fault=f"the name of its class must be a text, got {cls.name!r}")
    if not isinstance(getattr(cls, "parameters", None), dict):
        return replace(file, name=cls.name, fault="its parameters must be a dict of lists")
    return replace(file, name=cls.name)


def _failed(file: PluginFile, cls: type) -> PluginFile:
    """A file whose import raised: benchopt skips it where a library is absent."""
    error = cls._exc
    while error.__cause__ is not None:
        error = error.__cause__
    root = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and root not in ("", "benchmark"):
        if not file.name:
            return replace(file, fault=f"needs {root}, which is absent, and has no literal name")
        try:
            dict(cls.parameters)
        except Exception:  # benchopt reads literals alone, and raises when it comes to use them
            return replace(
                file,
                fault=f"needs {root}, which is absent: its parameters must be "
                "literals, for benchopt to read them without it",
            )
        return replace(file, missing=root)
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file.path:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    return replace(file, fault=f"{where}{type(error).__name__}: {one_line(error)}")
