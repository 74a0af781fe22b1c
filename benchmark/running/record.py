"""The rows of a study that is under way, on disk as its runs end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pandas as pd
from benchopt.results import read_results

from benchmark.running.outcome import Row
from benchmark.running.pace import Pace
from benchmark.running.places import put, write_rows
from benchmark.running.under_way import ENDED, FOLDER


@final
@dataclass
class Record:
    """The rows of the runs that have ended, until the study has and they are in ``study``.

    study : the file of the study's rows; each : whether to write when each run ends, whatever it
    costs.
    """

    study: Path
    each: bool
    pace: Pace = field(default_factory=Pace)

    @property
    def folder(self) -> Path:
        """Where the rows of a study under way are, for the report too."""
        return self.study.parent / self.study.stem / FOLDER

    def begin(self) -> None:
        """Put what a study of this name that was killed has left where no other overwrites it."""
        path = self.folder / ENDED
        if path.is_file():
            with suppress(ValueError):  # not a file of rows
                write_rows(read_results(path), self.study)
            path.unlink()

    def write(self, rows: Sequence[Row], *, now: bool = False) -> None:
        """Write ``rows``, all there are, where it takes no more of the time than may be.

        Raises OSError where they cannot be written.
        """
        if rows and (now or self.each or self.pace.due()):
            with self.pace.doing():
                try:
                    self._put(rows)
                except FileNotFoundError:
                    # a run that ended in between has removed the folder, which was empty
                    self._put(rows)

    def _put(self, rows: Sequence[Row]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        put(pd.DataFrame(rows), self.folder / ENDED)

    def end(self) -> None:
        """The rows are in ``study``."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # benchopt's, or a plugin's, are in it
            self.folder.parent.rmdir()
