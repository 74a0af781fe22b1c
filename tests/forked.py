"""Programs in processes of their own, without the seconds that importing torch takes each time.

Each is a fork of this process that has forgotten this repository. Like a program started from a
shell, it has its own working directory, environment, import path, standard streams and exit code,
and imports the repository anew from where it is told to; what is installed is imported already.
So are the workers that joblib starts in it for ``-j``, and the servers that runs are forked from.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import runpy
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path
from unittest import mock

import pytest
from benchopt.cli import main
from joblib.externals.loky.backend import fork_exec as loky

INSTALLED = (sys.prefix, sys.base_prefix)
#: what the programs import of what is installed, beside what the tests have imported
PRELOADED = (
    *("great_tables", "matplotlib.pyplot", "pandera.pandas", "pyarrow.parquet", "seaborn"),
    *("deepinv.loss.metric", "scipy.stats", "skimage", "torchmetrics.functional.image"),
)


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


def preload() -> None:
    """Import what programs import."""
    for name in PRELOADED:
        importlib.import_module(name)


def run_module(module: str, *arguments: object, **where: object) -> Finished:
    """``python -m module arguments``; ``where`` is what ``fork`` takes."""
    return fork(_run_module, module, *map(str, arguments), **where)


def run_code(code: str, *arguments: object, **where: object) -> Finished:
    """``python -c code arguments``."""
    return fork(_run_code, code, *map(str, arguments), **where)


def benchopt_test(*arguments: object, **where: object) -> Finished:
    """``benchopt test arguments``, pytest, which it starts by a shell, in the same process."""
    return fork(_benchopt_test, *map(str, arguments), **where)


def fork(call: Callable, *arguments: str, cwd: Path, environment: Mapping[str, str]) -> Finished:
    """``call(*arguments)`` in a fork.

    ``environment`` is all of the process's variables. Of the import path, it has what is installed
    and what PYTHONPATH says.
    """
    preload()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        setting = (str(cwd), dict(environment), str(out), str(err))
        process = multiprocessing.get_context("fork").Process(
            target=_as_a_program, args=(setting, call, arguments)
        )
        process.start()
        process.join()
        return Finished(process.exitcode, out.read_text(), err.read_text())


def _as_a_program(setting: tuple, call: Callable, arguments: tuple[str, ...]) -> None:
    cwd, environment, *streams = setting
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = (open(i, "w", closefd=False) for i in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    _forget_the_repository(environment.get("PYTHONPATH", ""))
    loky.fork_exec = _forked_worker
    util.spawnv_passfds = _forked_server
    # what has been imported is no garbage: looking through it takes long, each time
    gc.freeze()
    atexit._clear()
    try:
        call(*arguments)
    finally:
        # a fork ends without what a program does at its end: joblib's workers would be waited for
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def _forked_worker(command: list[str], keep: Collection[int], env: Mapping[str, str]) -> int:
    """What loky starts by ``python -m module options``: the same in a fork, its process number."""
    _python, _m, module, *options = command

    def call() -> None:
        os.environ.update(env)
        _forget_the_repository(os.environ.get("PYTHONPATH", ""))
        del sys.modules[module]
        _run_module(module, *options)

    return _forked(call, keep)


def _forked_server(_path: str, command: Sequence[str], keep: Collection[int]) -> int:
    """What multiprocessing starts by ``python options -c code``, in the same way."""
    return _forked(lambda: _run_code(command[-1]), keep)


def _forked(call: Callable[[], None], keep: Collection[int]) -> int:
    """The number of a process that calls and ends, with standard streams and what it ``keep``s."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        opened = {int(name) for name in os.listdir("/dev/fd")}
        for descriptor in opened - {0, 1, 2, *map(int, keep)}:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        atexit._clear()
        call()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        with contextlib.suppress(ValueError):  # they may have been closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _forget_the_repository(pythonpath: str) -> None:
    """Leave what is installed, of the modules and of the import path, and ``pythonpath``."""
    given = [path for path in pythonpath.split(os.pathsep) if path]
    sys.path[:] = [*given, *(p for p in sys.path if p.startswith(INSTALLED) and p not in given)]
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and not file.startswith(INSTALLED):
            del sys.modules[name]


def _run_module(module: str, *arguments: str) -> None:
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_code(code: str, *arguments: str) -> None:
    sys.argv[:] = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _benchopt_test(*arguments: str) -> None:
    def in_this_process(command: str, **_: object) -> int:
        python, m, name, *options = shlex.split(command)
        assert (python, m, name) == ("python", "-m", "pytest")
        return pytest.main(options)

    with mock.patch.object(main, "_run_shell_in_conda_env", in_this_process):
        main.test(list(arguments))
