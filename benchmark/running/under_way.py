"""The rows of a run that has not ended, on disk: for the report, and for what a study leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pandas as pd
from benchopt.results import read_results

from benchmark.plugins.outer_loop import OuterLoop
from benchmark.running.pace import Pace
from benchmark.running.places import put

#: in the folder that benchopt has for what a study leaves beside its rows
FOLDER = "unfinished"
#: in it, the rows of the runs that have
ENDED = "ended.parquet"
#: what the column ``ended`` says in the last row of a run that has not
UNFINISHED = "unfinished"


@final
@dataclass
class UnderWay:
    """One parquet file with the rows of a run, as benchopt has them, while it lasts.

    path : of the file, None: nowhere; callback : benchopt's, which has the rows; number : rows that
    are there.
    """

    path: Path | None
    callback: Callable
    number: int = 0
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def of(cls, solver: OuterLoop, callback: Callable, name: str) -> UnderWay:
        """That of a run of ``solver``, as a study has it: what is no study has no folder."""
        context = getattr(solver, "_run_context", None)
        base = getattr(context, "run_output_base", None)
        known = base is not None and hasattr(callback, "curve")
        return cls(base / FOLDER / f"{name}.parquet" if known else None, callback)

    def write(self) -> None:
        """Write the rows where there are more, and it takes no more of the time than may be."""
        if self.path is None or len(self.callback.curve) == self.number:
            return
        if self.pace.due():
            self._write(UNFINISHED)

    def close(self) -> None:
        """The run has ended, and its rows are the study's; or it was interrupted."""
        if self.path is None:
            return
        if sys.exc_info()[0] is not None and self.callback.status == "running":
            if self.callback.curve:
                self._write("interrupted")
            return
        self.path.unlink(missing_ok=True)
        for folder in (self.path.parent, self.path.parent.parent):
            with suppress(OSError):  # others are in it
                folder.rmdir()

    def _write(self, ended: str) -> None:
        rows = list(self.callback.curve)
        rows[-1] = rows[-1] | {"objective_ended": ended}
        # the run itself is kept elsewhere, and says what cannot be
        with self.pace.doing(), suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            put(pd.DataFrame(rows), self.path)
        self.number = len(rows)


def left(study: Path) -> Iterator[pd.DataFrame]:
    """The rows of the runs that a study whose rows go to ``study`` has left unfinished."""
    for path in sorted((study.parent / study.stem / FOLDER).glob("[!.]*.parquet")):
        if path.name != ENDED:
            with suppress(ValueError):  # of another version: the run makes it again
                yield read_results(path)
