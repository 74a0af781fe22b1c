"""The rows of a study that is under way, on disk as its runs end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pandas as pd
from benchopt.results import read_results

from benchmark.running.kept import SHARE
from benchmark.running.outcome import Row
from benchmark.running.places import put, write_rows
from benchmark.running.under_way import ENDED, FOLDER


@final
@dataclass
class Record:
    """The rows of the runs that have ended, until the study has and they are in ``study``.

    study : the file of the study's rows; each : whether to write when each run ends, whatever it
    costs; written, cost : when it was last written, and the seconds that it took.
    """

    study: Path
    each: bool
    written: float = field(default_factory=time.monotonic)
    cost: float = 0.0

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
        """Write ``rows``, all there are, where it takes no more of the time than ``SHARE``.

        Raises OSError where they cannot be written.
        """
        if rows and (now or self.each or time.monotonic() - self.written >= self.cost / SHARE):
            start = time.monotonic()
            self.folder.mkdir(parents=True, exist_ok=True)
            put(pd.DataFrame(rows), self.folder / ENDED)
            self.written = time.monotonic()
            self.cost = self.written - start

    def end(self) -> None:
        """The rows are in ``study``."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # benchopt's, or a plugin's, are in it
            self.folder.parent.rmdir()
