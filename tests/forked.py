"""Programs in processes of their own, without the seconds that importing torch takes each time.

A server process imports what is installed, and nothing of this repository; each program is a fork
of it. Like a program started from a shell, it has its own working directory, environment, import
path, standard streams and exit code, and imports the repository anew from where it is told to.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

#: what the programs import of what is installed
PRELOADED = (
    "torch",
    "deepinv",
    "torchwavelets",
    "pandas",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "seaborn",
    "great_tables",
    "skimage",
    "benchopt.cli",
    "pytest",
)


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run_module(module: str, *arguments: object, **where: object) -> Finished:
    """``python -m module arguments``; ``where`` is what ``fork`` takes."""
    return fork(_run_module, module, *map(str, arguments), **where)


def benchopt_test(*arguments: object, **where: object) -> Finished:
    """``benchopt test arguments``, pytest, which it starts by a shell, in the same process."""
    return fork(_benchopt_test, *map(str, arguments), **where)


def fork(call: Callable, *arguments: str, cwd: Path, environment: Mapping[str, str]) -> Finished:
    """``call``, a function of this module, in a fork of the server.

    ``environment`` is all of the process's variables. Of the import path, it has what is installed
    and what PYTHONPATH says.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with mock.patch.dict(os.environ, environment, clear=True):
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        setting = (str(cwd), dict(environment), str(out), str(err))
        process = context.Process(target=_as_a_program, args=(setting, call, arguments))
        process.start()
        process.join()
        return Finished(process.exitcode, out.read_text(), err.read_text())


def stop() -> None:
    """End the server, so that its time is counted and its memory free; it would start again."""
    forkserver._forkserver._stop()


def _as_a_program(setting: tuple, call: Callable, arguments: tuple[str, ...]) -> None:
    cwd, environment, *streams = setting
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    installed = (sys.prefix, sys.base_prefix)
    given = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*given, *(p for p in sys.path if p.startswith(installed) and p not in given)]
    sys.path_importer_cache.clear()
    # what the server has imported is no garbage: looking through it takes long, each time
    gc.freeze()
    try:
        call(*arguments)
    finally:
        # a fork ends without what a program does at its end: joblib's workers would be waited for
        threading._shutdown()
        atexit._run_exitfuncs()


def _run_module(module: str, *arguments: str) -> None:
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _benchopt_test(*arguments: str) -> None:
    from benchopt.cli import main

    import pytest

    def in_this_process(command: str, **_: object) -> int:
        python, m, name, *options = shlex.split(command)
        assert (python, m, name) == ("python", "-m", "pytest")
        return pytest.main(options)

    with mock.patch.object(main, "_run_shell_in_conda_env", in_this_process):
        main.test(list(arguments))
