"""Work in a fork of this process, of which nothing is left here but what it sends."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """The number of a fork in which ``work()`` runs; what it prints and changes is lost.

    It ends with exit code 0, with 1 where the work raises anything, and never returns into what it
    has inherited. It has one thread, also where this process has more. Raises OSError where there
    can be none.
    """
    with warnings.catch_warnings():
        # Python warns where threads may hold locks that no one opens in the fork: callers have a
        # limit of time for that
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        sys.stdout = sys.stderr = silent = open(os.devnull, "w")  # noqa: SIM115 (till the end)
        for descriptor in (1, 2):  # what is not Python's, too
            os.dup2(silent.fileno(), descriptor)
        work()
        code = 0
    finally:
        os._exit(code)
