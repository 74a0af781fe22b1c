"""What was kept of a run that has ended goes once its rows are somewhere else, and not before."""

from __future__ import annotations

from multiprocessing.util import Finalize
from pathlib import Path

from benchmark.running import kept

_done: list[Path] = []


def done(path: Path) -> None:
    """The run that is kept at ``path`` has ended; its rows are still in memory alone."""
    _done.append(path)


def release() -> None:
    """The rows of the runs that have ended are on disk, by benchopt's cache or otherwise."""
    while _done:
        kept.forget(_done.pop())


def spare() -> None:
    """They are not, and cannot be: the same run will be taken up at its end."""
    _done.clear()


# at the end of the process, workers of a pool among them, which atexit knows nothing of
Finalize(None, release, exitpriority=0)
