"""What code can change for all that runs after it in a process, and how that is put back.

On ``NUMERICS`` results depend: they are put back after each call of a method's code, the rest after
each step. What cannot be seen from here is not: functions of
libraries that were replaced, memory that was written to from C.
"""

from __future__ import annotations

import gc
import locale
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch.nn.modules import module as modules

#: kept for good: what has left inference mode holds it left for as long as it lives
_LEFT: list[torch.inference_mode] = []
#: torch's hooks on every module
_HOOKS = {
    name: hooks
    for name, hooks in vars(modules).items()
    if name.startswith("_global_") and isinstance(hooks, dict)
}
_MATMUL, _CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD")
    if hasattr(signal, name)
]
#: processes that libraries keep for later, by what their command lines hold
_LIBRARIES = ("multiprocessing.", "torch/_inductor", "joblib.externals")


@dataclass(frozen=True)
class Setting:
    """Something of which a process has one: ``get`` says how it is, ``put`` makes it so.

    by_imports : whether libraries change it as they are imported, so that it is no fault then.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    by_imports: bool = False


def _put_inference(on: bool) -> None:
    mode = torch.inference_mode(on)
    mode.__enter__()
    _LEFT.append(mode)


def _put_default_device(device: torch.device) -> None:
    # None, not "cpu": a device that is set is looked at in each call of a function of torch
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _put_modes(number: int) -> None:
    while torch._C._len_torch_function_stack() > number:
        torch._C._pop_torch_function_stack()


def _hooks() -> dict[str, dict]:
    return {name: dict(hooks) for name, hooks in _HOOKS.items() if hooks}


def _put_hooks(kept: dict[str, dict]) -> None:
    for name, hooks in _HOOKS.items():
        hooks.clear()
        hooks.update(kept.get(name, {}))


def _deterministic() -> tuple[bool, bool]:
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warn_only


def _put_deterministic(flags: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])


def _backends() -> tuple[bool | str, ...]:
    cudnn = (_CUDNN.enabled, _CUDNN.benchmark, _CUDNN.deterministic)
    return *cudnn, torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()


def _put_backends(flags: tuple[Any, ...]) -> None:
    _CUDNN.enabled, _CUDNN.benchmark, _CUDNN.deterministic = flags[:3]
    torch.backends.mkldnn.enabled = flags[3]
    torch.set_float32_matmul_precision(flags[4])


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _put_autocast(flags: tuple[bool, bool]) -> None:
    for device, on in zip(("cpu", "cuda"), flags, strict=True):
        torch.set_autocast_enabled(device, on)


_TINY = torch.full((1,), 1e-310, dtype=torch.float64)


def _flushes() -> bool:
    """Whether numbers below the smallest normal one are taken for zero."""
    return not (_TINY * 1.0).any()


NUMERICS = (
    # before the grad mode, which goes with it
    Setting("inference mode", torch.is_inference_mode_enabled, _put_inference),
    Setting("grad mode", torch.is_grad_enabled, torch._C._set_grad_enabled),
    Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("default device", lambda: torch.empty(0).device, _put_default_device),
    Setting("modes of torch functions", torch._C._len_torch_function_stack, _put_modes),
    Setting("number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("hooks on all modules", _hooks, _put_hooks),
    Setting("deterministic algorithms", _deterministic, _put_deterministic),
    Setting("autocast", _autocast, _put_autocast),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
)


def _put_environment(kept: dict[str, str]) -> None:
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]
    os.environ.update(kept)


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # deleted
        return ""


def _put_cwd(path: str) -> None:
    with suppress(OSError):
        os.chdir(path)


def _filters() -> list[tuple]:
    return list(warnings.filters)


def _put_filters(kept: list[tuple]) -> None:
    warnings.filters[:] = kept
    warnings._filters_mutated()


def _handlers() -> dict[int, Any]:
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not None}


def _put_handlers(kept: dict[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in kept.items():
        if signal.getsignal(number) is not handler:
            with suppress(OSError):
                signal.signal(number, handler)


def _alarm() -> bool:
    """Whether one is set that would end the process."""
    pending = signal.getitimer(signal.ITIMER_REAL)[0] > 0
    return pending and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def _put_alarm(on: bool) -> None:
    if not on:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _path() -> list[str]:
    return list(sys.path)


def _put_path(kept: list[str]) -> None:
    sys.path[:] = kept


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _put_streams(kept: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = kept


def _collector() -> tuple[bool, tuple[int, int, int]]:
    return gc.isenabled(), gc.get_threshold()


def _put_collector(kept: tuple[bool, tuple[int, int, int]]) -> None:
    (gc.enable if kept[0] else gc.disable)()
    gc.set_threshold(*kept[1])


def _locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def _put_locale(kept: str) -> None:
    locale.setlocale(locale.LC_ALL, kept)


def _put_numpy(kept: dict[str, Any]) -> None:
    np.seterr(**kept)


PROCESS = (
    Setting("flags of torch's backends", _backends, _put_backends),
    Setting("small numbers as zeros", _flushes, torch.set_flush_denormal),
    Setting("environment variables", lambda: dict(os.environ), _put_environment),
    Setting("working directory", _cwd, _put_cwd),
    Setting("filters of warnings", _filters, _put_filters, by_imports=True),
    Setting("signal handlers", _handlers, _put_handlers),
    Setting("an alarm", _alarm, _put_alarm),
    Setting("umask", _umask, os.umask),
    Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("sys.path", _path, _put_path),
    Setting("standard streams", _streams, _put_streams),
    Setting("locale", _locale, _put_locale),
    Setting("garbage collection", _collector, _put_collector),
    Setting("numpy's handling of errors", np.geterr, _put_numpy),
)
EVERYTHING = (*NUMERICS, *PROCESS)

#: how the process was when this was loaded, before any plugin's file was
AT_FIRST = [(setting, setting.get()) for setting in NUMERICS]


@contextmanager
def kept(settings: Iterable[Setting], changed: set[str]) -> Iterator[None]:
    """Whatever happens inside, ``settings`` are afterwards what they were before; the names of
    those that were not are added to ``changed``. A fork that was made inside ends here.
    """
    before = [(setting, setting.get()) for setting in settings]
    imported, process = len(sys.modules), os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)  # else all that follows would be done twice
        put = put_back(before)
        new = len(sys.modules) > imported
        changed |= {setting.name for setting in put if not (new and setting.by_imports)}


def put_back(before: Iterable[tuple[Setting, Any]] = AT_FIRST) -> list[Setting]:
    """Make settings what they were, by default when this was loaded; those that were not."""
    put = []
    for setting, value in before:
        if setting.get() != value:
            put.append(setting)
            setting.put(value)
    return put


@dataclass(frozen=True)
class Others:
    """Threads of this process, and processes that it has started."""

    threads: frozenset[threading.Thread]
    processes: frozenset[psutil.Process]

    @classmethod
    def now(cls) -> Others:
        """Those that are there. Cost: a look at all processes, some ms."""
        return cls(_threads(), _children())

    def ended(self) -> set[str]:
        """Kill the processes that have come since; threads cannot be ended. The names of both."""
        left = _still_there(self.threads)
        # not how many: that depends on how often the method was timed
        changed = {f"a thread ({re.sub('-[0-9]+', '', thread.name)})" for thread in left}
        for process in _children() - self.processes:
            with suppress(psutil.Error):
                process.kill()
                process.wait(1)
                changed.add("a process")
        return changed


def _still_there(known: frozenset[threading.Thread], seconds: float = 0.2) -> set[threading.Thread]:
    """Threads beside ``known`` that do not end within some time; torch's own are none of Python."""
    deadline = time.monotonic() + seconds
    while True:
        left = set(_threads() - known)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def _threads() -> frozenset[threading.Thread]:
    """Those of Python, but for the one that watches over tqdm's bars."""
    running = threading.enumerate()
    return frozenset(t for t in running if not type(t).__module__.startswith("tqdm."))


def _children() -> frozenset[psutil.Process]:
    """Processes that this one has started, but for those of libraries and those that ended."""
    found, own = set(), psutil.Process().cmdline()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = child.cmdline()
            of_library = command != own and any(part in " ".join(command) for part in _LIBRARIES)
            if child.status() != psutil.STATUS_ZOMBIE and not of_library:
                found.add(child)
    return frozenset(found)
