"""What a study says while it runs: colours in a terminal, else one plain line for each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchopt.utils.terminal_output import TerminalOutput

from benchmark.running.outcome import Run


def say(line: str) -> None:
    """Print ``line``; where nobody reads any more (a closed pipe), the study goes on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal(TerminalOutput):
    """benchopt's display where ``rich``, else silent; ``on_skip`` is told of runs that are skipped.

    Skips are known to benchopt's display alone: it is told of them in the midst of what it runs.
    """

    def __init__(self, *, rich: bool, on_skip: Callable[[Run], None]) -> None:
        super().__init__(show_progress=rich)
        self.rich = rich
        self.on_skip = on_skip

    def __reduce__(self):
        """In other processes there is no terminal."""
        return _silent, ()

    def skip(self, reason=None, objective=False):
        """benchopt's hook: the run in turn has a task that cannot be made."""
        self._tell("skip", reason or "")
        if self.rich:
            super().skip(reason, objective=objective)

    def show_status(self, status, reason=None, dataset=False, objective=False, cached=False):
        """benchopt's hook: how a run ended, or that a plugin is not installed."""
        if status == "not installed":
            self._tell(status, f"{self.dataset if dataset else self.solver}: a library is absent")
        if self.rich:
            super().show_status(status, reason, dataset, objective, cached)

    def progress(self, progress, key):
        """benchopt's hook: how far a run is."""
        if self.rich:
            super().progress(progress, key)

    def _display_name(self, tag):
        if self.rich:
            super()._display_name(tag)

    def _tell(self, status: str, reason: str) -> None:
        names = (str(part or "") for part in (self.dataset, self.objective, self.solver))
        self.on_skip(Run(*names, status=status, reason=reason))


def _silent() -> Terminal:
    return Terminal(rich=False, on_skip=_nothing)


def _nothing(run: Run) -> None:
    pass
