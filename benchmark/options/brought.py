"""What a user brings in a Python file: loaded, and the one function or class that it defines."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from os.path import isfile
from pathlib import Path
from types import ModuleType
from typing import Any


class FileError(Exception):
    """A file that does not hold what it should: its message begins with the path of the file."""


def of_a_file(error: BaseException | None) -> bool:
    """Whether ``error`` comes from a file that does not hold what it should."""
    return error is not None and (isinstance(error, FileError) or of_a_file(error.__cause__))


def entry_of(path: str | Path) -> Callable[..., Any]:
    """The function or class that the file at ``path`` defines.

    It is the only public one, or the one that is named as the file is, letter case and underscores
    aside: ``my_blur.py`` may define ``my_blur`` or ``MyBlur`` and helpers beside it. The file is
    run once for each content; two files of one name do not meet.

    Raises FileError where there is no such file, running it raises anything, or it defines none or
    several of which none has its name.
    """
    module = loaded(path)
    public = {
        name: value
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    }
    stem = _plain(Path(path).stem)
    named = [value for name, value in public.items() if _plain(name) == stem]
    chosen = named or list(public.values())
    if len(chosen) != 1:
        raise FileError(
            f"{str(path)!r} defines {', '.join(public) or 'no public function or class'}"
            + (f", none of which is named {Path(path).stem}" if public else "")
        )
    entry: Callable[..., Any] = chosen[0]
    return entry


def placed(folder: str, name: str) -> Path | None:
    """The file ``name`` in ``folder``, of the working directory or beside the package."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        file = root / folder / name
        if isfile(file):  # the method of Path raises for long names
            return file
    return None


def loaded(path: str | Path) -> ModuleType:
    """The file at ``path`` as a module, run unless its content has been; see ``entry_of``."""
    file = Path(path).expanduser().resolve()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise FileError(f"{str(path)!r}: {error.strerror}, looked for at {file}") from error
    digest = hashlib.sha256(str(file).encode() + content).hexdigest()[:12]
    name = f"brought_{digest}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None:
        raise FileError(f"{str(path)!r} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        # not by its loader, which takes a file changed within a second for the one it compiled
        exec(compile(content, file, "exec"), module.__dict__)
    except BaseException as error:  # a file that exits is a faulty file, not the end of a study
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise FileError(f"{str(path)!r}{_where(error, file)}: {error_line(error)}") from error
    _travels(module)
    return module


def _travels(module: ModuleType) -> None:
    """Let another process take objects of ``module`` with their code: it cannot import it."""
    try:
        import cloudpickle  # type: ignore[import-untyped]
    except ImportError:
        return
    cloudpickle.register_pickle_by_value(module)


def _where(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f", line {line}"


def error_line(error: BaseException) -> str:
    """What ``error`` is, in one line."""
    return f"{type(error).__name__}: {' '.join(text_of(error).split())}"


def text_of(error: BaseException) -> str:
    """What ``error`` says; nothing where its text raises in its turn."""
    try:
        return str(error)
    except Exception:
        return ""


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
