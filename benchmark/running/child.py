"""A run in a process of its own: what it yields comes over a pipe, however the process ends."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from multiprocessing import current_process, forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

import cloudpickle
import psutil

from benchmark.running import interruption

V = TypeVar("V")

#: imported once, in the process that the others are forked from
PRELOADED = [
    "__main__",
    "torch",
    "benchmark.plugins.bilevel_solver",
    "benchmark.measure.evaluation",
    "benchmark.running.server",
]

#: that a process may take to start: with the first one, the server imports torch
STARTING_SECONDS = 300.0
#: that it may take to end when it is asked to
ENDING_SECONDS = interruption.SECONDS + 4
#: of <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


# a fork of this process needs a server of its own: it cannot wait for this one's
os.register_at_fork(after_in_child=forkserver._forkserver.__init__)


class ChildEnded(RuntimeError):  # noqa: N818 (named after what happened)
    """The process ended before its work did; ``status`` is "timeout", "interrupted"
    or "error".
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def streamed(
    work: Callable[[], Generator[V, None, None]], *, seconds: float | None = None
) -> Generator[V, None, None]:
    """What ``work()`` yields, one by one, made in a process of its own.

    The process is forked from a server that has torch loaded (multiprocessing's forkserver), so it
    has no thread, lock or setting of this one, and none of its own is left here. It waits after
    each value until the next is asked for; when the generator is closed, or this process is
    interrupted, ``work()`` is closed or interrupted there, and has ``ENDING_SECONDS`` for it. Then,
    or when this process is gone, it is killed, and with it what it has forked, at whatever remove.
    ``work`` and the values travel by cloudpickle: classes of files that only this process has
    loaded travel with their code.

    seconds : of the clock, that the process may take in all, once it is there; None: any number.

    Raises ChildEnded where the process takes longer, dies (of a signal, by ``os._exit``, by running
    out of memory) or its work raises anything; the message says which. Cost: some 20 ms each, and
    once, for the server, the import of torch.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    here, there = context.Pipe()
    payload = cloudpickle.dumps((sys.path, work))
    process = context.Process(target=_serve, args=(there, payload), daemon=False)
    with _as_no_daemon():
        process.start()
    there.close()
    try:
        _received(process, here, time.monotonic() + STARTING_SECONDS, STARTING_SECONDS)
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            kind, value = _received(process, here, deadline, seconds)
            if kind == "end":
                return
            if kind != "value":
                raise ChildEnded(kind, value)
            yield value
            here.send_bytes(b"next")
    except GeneratorExit:
        here.close()  # for which it waits, between two values
        process.join(ENDING_SECONDS)
        raise
    except KeyboardInterrupt:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        process.join(ENDING_SECONDS)
        raise
    finally:
        _kill(process)
        here.close()


@contextmanager
def _as_no_daemon() -> Generator[None, None, None]:
    """multiprocessing lets no daemon have children, for it would leave them behind; dask's workers
    are daemons, and a run of theirs ends with them by itself.
    """
    settings = current_process()._config
    daemon = settings.pop("daemon", None)
    try:
        yield
    finally:
        if daemon is not None:
            settings["daemon"] = daemon


def interrupt_all() -> None:
    """Ask the runs of all processes that descend from this one to end, as a signal does, and wait
    for them: joblib kills its workers as soon as anything is raised here.
    """
    with suppress(psutil.Error):
        running = [
            process
            for process in psutil.Process().children(recursive=True)
            if _leads_a_session(process.pid)
        ]
        for process in running:
            with suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(running, timeout=ENDING_SECONDS)


def _leads_a_session(pid: int) -> bool:
    """As ``_serve`` does."""
    with suppress(OSError):
        return os.getsid(pid) == pid
    return False


def _received(
    process: BaseProcess, here: Connection, deadline: float | None, seconds: float | None
) -> tuple[str, object]:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    if not wait([here, process.sentinel], left):
        raise ChildEnded("timeout", f"the run took longer than {seconds:g} s and was stopped")
    if here.poll():
        with suppress(EOFError, ConnectionResetError):
            return cloudpickle.loads(here.recv_bytes())
    process.join(5)
    code = process.exitcode
    if code is not None and code < 0:
        raise ChildEnded(
            "error", f"the process of the run was killed by {signal.Signals(-code).name}"
        )
    raise ChildEnded("error", f"the process of the run ended by itself, with exit code {code}")


def _kill(process: BaseProcess) -> None:
    """End the process and what it has forked."""
    _kill_what_came_of(process.pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    process.close()


def _kill_what_came_of(pid: int) -> None:
    """End all that descends from ``pid``, in sessions of their own too."""
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                process.kill()


def adopt_orphans() -> None:
    """Make processes whose parent ends children of this one, where the system can (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _serve(there: Connection, payload: bytes) -> None:
    os.setsid()
    adopt_orphans()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    path, work = None, None
    try:
        with interruption.heeded():
            path, work = cloudpickle.loads(payload)
            sys.path[:] = path
            gc.freeze()  # what is imported is no garbage, and takes long to look through
            there.send_bytes(cloudpickle.dumps(("started", None)))
            with closing(work()) as values:
                for value in values:
                    there.send_bytes(cloudpickle.dumps(("value", value)))
                    there.recv_bytes()
        _say(there, "end", None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody asks any more
    except interruption.Interrupted as asked:
        _say(there, "interrupted", f"the process of the run was asked to end by {asked}")
    except BaseException as error:  # exits among them: they are faults of the work
        _say(there, "error", f"{type(error).__name__}: {error}")
    finally:
        # threads that the work left alive must not keep the process
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        _kill_what_came_of(os.getpid())
        os._exit(0)


def _say(there: Connection, kind: str, value: str | None) -> None:
    with suppress(OSError):
        there.send_bytes(cloudpickle.dumps((kind, value)))


def _end_with_the_parent() -> None:
    """Kill this process, and what it has forked, when the one that asked for it is gone."""
    wait([parent_process().sentinel])
    _kill_what_came_of(os.getpid())
    os.killpg(0, signal.SIGKILL)
