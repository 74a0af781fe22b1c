"""Signals that ask a study to end: what is under way is kept first.

SIGINT is Ctrl-C; SIGTERM is what SLURM sends when a job's time is up, SIGUSR1 what it sends before,
where it is asked to (``--signal=USR1@60``), SIGUSR2 what submitit has it send.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: that an outer step may still take once its run was asked to end
SECONDS = 8.0


class Interrupted(KeyboardInterrupt):
    """The study was asked to end; its text is the name of the signal."""


class _Asked:
    """What this process was asked: the name of the signal, while a step is being finished; and what
    is to be done first.
    """

    finishing = False
    by = ""
    first: Callable[[], object] | None = None


@contextmanager
def heeded(*, first: Callable[[], object] | None = None) -> Iterator[None]:
    """Inside, in the main thread, each of ``SIGNALS`` raises Interrupted, after ``first()`` was
    called for the first of them; see ``finishing``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Asked.finishing, _Asked.by, _Asked.first = False, "", first
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
    first, _Asked.by, _Asked.first = _Asked.first, "", None
    if first is not None:
        first()
    raise Interrupted(name)
