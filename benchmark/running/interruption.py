"""Signals that ask a study to end: what is under way is kept first.

SIGINT is Ctrl-C; SIGTERM is what SLURM sends when a job's time is up, SIGUSR1 what it sends before,
where it is asked to (``--signal=USR1@60``).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: that an outer step may still take once its run was asked to end
SECONDS = 8.0


class Interrupted(KeyboardInterrupt):
    """The study was asked to end; its text is the name of the signal."""


class _Asked:
    """What this process was asked: the name of the signal, while a step is being finished."""

    finishing = False
    by = ""


@contextmanager
def heeded() -> Iterator[None]:
    """Inside, in the main thread, each of ``SIGNALS`` raises Interrupted; see ``finishing``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Asked.finishing, _Asked.by = False, ""
    before = {number: signal.signal(number, _end) for number in (*SIGNALS, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finishing() -> Iterator[None]:
    """Inside, the first signal is put off: ``check`` raises it, or time does after ``SECONDS``."""
    _Asked.finishing = True
    try:
        yield
    finally:
        _Asked.finishing = False


def check() -> None:
    """Raise Interrupted where a signal was put off."""
    if _Asked.by:
        _raise(_Asked.by)


def _end(number: int, _: object) -> None:
    if _Asked.finishing and not _Asked.by:
        _Asked.by = signal.Signals(number).name
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
    else:
        _raise(_Asked.by or signal.Signals(number).name)


def _raise(name: str) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    _Asked.by = ""
    raise Interrupted(name)
