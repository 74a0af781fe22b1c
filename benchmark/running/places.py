"""Where the rows of a study go: one file, claimed by one study at a time, written at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from benchopt.results.parquet import to_parquet

from benchmark.running.options import Settings

#: what makes two rows those of one run of the same code on the same kind of machine
IDENTITY = (
    "dataset_name",
    "objective_name",
    "solver_name",
    "idx_rep",
    "base_seed",
    "objective_sources_digest",
    "objective_torch_version",
    "objective_device_name",
)
#: bytes beyond what is needed, so that a disk is not filled to its end
RESERVE = 16 * 2**20


def rows_path(settings: Settings) -> Path:
    """The file of the rows: ``outputs/NAME.parquet`` of the benchmark, or the path that was given.

    Raises ValueError for another kind of file.
    """
    path = Path(settings.output).expanduser()
    if os.sep not in settings.output:
        path = settings.benchmark / "outputs" / path
    if path.suffix == ".csv":
        raise ValueError(f"output must be a .parquet file, got {settings.output!r}")
    return path if path.suffix == ".parquet" else path.with_name(f"{path.name}.parquet")


def faults_of_folder(folder: Path, what: str, *, needed: int) -> list[str]:
    """Why nothing could be written into ``folder``, which is made where it is not there.

    needed : bytes that will be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        return [f"{what} cannot be written into {folder}: {error.strerror}"]
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        return [
            f"{what} need about {(needed + RESERVE) / 2**20:.0f} MiB in {folder}, where "
            f"{free / 2**20:.0f} MiB are free"
        ]
    return []


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """``path`` for this process alone; where another holds it, ``NAME_1.parquet``, and so on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _names(path):
        lock = candidate.with_name(f".{candidate.name}.lock")
        handle = _locked(lock)
        if handle is not None:
            try:
                yield candidate
            finally:
                with suppress(OSError):
                    lock.unlink()
                os.close(handle)
            return


def write_rows(rows: pd.DataFrame, path: Path) -> Path:
    """Write ``rows`` where no run is lost by it, and return the file.

    It is ``path``, in place of a file whose runs are all among ``rows`` (the same study, gone
    further); where there are others in it, the next free of ``NAME_1.parquet``, … A reader never
    sees half a file.
    """

    def place(made: Path) -> Path:
        for candidate in _names(path):
            if candidate == path and _holds_no_other(path, rows):
                os.replace(made, path)
                return path
            with suppress(FileExistsError):
                os.link(made, candidate)
                return candidate
        raise AssertionError("there is always another name")

    return _made(rows, path, place)


def put(rows: pd.DataFrame, path: Path) -> None:
    """Write ``rows`` to ``path``, in place of what is there; a reader never sees half a file."""
    _made(rows, path, lambda made: made.replace(path))


def _made(rows: pd.DataFrame, path: Path, place: Callable[[Path], Path]) -> Path:
    """What ``place`` returns for a file of ``rows`` beside ``path``, which is gone afterwards."""
    rows = rows.assign(run_date=pd.Timestamp.now().isoformat())
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}_", suffix=".parquet")
    os.close(handle)
    made = Path(name)
    try:
        to_parquet(rows, made)
        hidden = os.umask(0o077)  # there is no other way to ask for it
        os.umask(hidden)
        made.chmod(0o666 & ~hidden)
        return place(made)
    finally:
        made.unlink(missing_ok=True)


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1


def _locked(lock: Path) -> int | None:
    """A handle on ``lock`` that no other process holds; None where one does."""
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        with suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # another has removed the file meanwhile


def _holds_no_other(path: Path, rows: pd.DataFrame) -> bool:
    """Whether there is no file, or each run in it is among ``rows``, with as many rows or more."""
    if not path.exists():
        return True
    try:
        there = set(pq.read_schema(path).names)
        before = pd.read_parquet(path, columns=[name for name in IDENTITY if name in there])
    except Exception:  # not a file of rows: it is not ours to overwrite
        return False
    now = _runs(rows)
    return all(now[run] >= number for run, number in _runs(before).items())


def _runs(rows: pd.DataFrame) -> Counter[tuple]:
    """The number of rows of each run."""
    known = rows.reindex(columns=list(IDENTITY)).astype(str)
    return Counter(known.itertuples(index=False, name=None))
