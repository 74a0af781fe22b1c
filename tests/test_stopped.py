"""Studies that are killed, asked to end, or run into a full disk, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pandas as pd
import pytest
from benchopt.results import read_results
from conftest import small_benchmark
from shared import without_costs

from benchmark.__main__ import main
from benchmark.report.frame import how_ended, last_rows, tidy
from benchmark.report.reading import read
from benchmark.running import interruption
from benchmark.running.kept import kept
from benchmark.running.same import different

#: does what the file "event" beside it says, within its fourth outer step
STAGED = '''\
"""Unrolling to which something happens."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.solve.search import Steps

HERE = Path(__file__).parent


def fill():
    with open(HERE / "filler", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


EVENTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGUSR1": lambda: os.kill(os.getpid(), signal.SIGUSR1),
    "fill": fill,
}


class Solver(PairMethod):
    """See above."""

    name = "Staged"

    def pair(self, call):
        event = HERE / "event"
        if call == 3 and event.exists():
            EVENTS[event.read_text()]()
        return Pair(Steps(0), LastLayers(2))
'''
SOLVERS = [
    {"Staged": {"steps": [6], "evaluate_every": [2], "batch_size": [1]}},
    {"Unrolling": {"steps": [1], "layers": [2]}},
]


def place(folder: Path) -> Path:
    """A benchmark of two methods."""
    return small_benchmark(folder, solver=SOLVERS, staged=STAGED)


def command(folder: Path) -> list[str]:
    return ["run", str(folder / "small.yml"), "--benchmark", str(folder)]


def study(folder: Path, event: str | None = None) -> tuple[int, str]:
    """The study, in a fork of this process; its exit code and what it said."""
    note = folder / "solvers" / "event"
    note.unlink(missing_ok=True)
    if event:
        note.write_text(event)
    said = folder.with_suffix(".said")  # beside the disk that may be full
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for stream in (1, 2):
                os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            sys.stdout, sys.stderr = (open(i, "w", closefd=False) for i in (1, 2))  # noqa: SIM115
            code = main(command(folder))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    text = said.read_text()
    said.unlink()
    return os.waitstatus_to_exitcode(status), text


def rows_of(folder: Path) -> pd.DataFrame:
    return read_results(folder / "outputs" / "small.parquet")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[pd.DataFrame]:
    """The rows of the study to which nothing happened."""
    with pytest.MonkeyPatch.context() as patch:
        without_costs(patch)
        folder = place(tmp_path_factory.mktemp("whole") / "study")
        # here, so that what is found once in a process is found once for all that follow
        assert main(command(folder)) == 0
        yield rows_of(folder)


def test_a_study_that_was_killed_goes_on_with_the_same_bytes(whole, tmp_path):
    folder = place(tmp_path / "killed")
    assert study(folder, "kill")[0] == -signal.SIGKILL
    # what there was is on disk, marked, for the report as any file of rows
    (unfinished,) = (folder / "outputs" / "small" / "unfinished").glob("*.parquet")
    (ends,) = how_ended(last_rows(tidy(read([unfinished]).rows)))
    assert ends == "unfinished"
    rows = read_results(unfinished)
    assert set(rows["objective_outer_step"]) <= {0, 2}
    code, said = study(folder)
    assert code == 0, said
    assert different(whole, rows_of(folder)) == []
    assert [p.name for p in (folder / "outputs").glob("small*")] == ["small.parquet"]
    assert not list((folder / "outputs" / "unfinished").iterdir())
    # from the cache: the same, times and all
    once = rows_of(folder)
    assert study(folder)[0] == 0
    again = rows_of(folder).drop(columns="run_date")
    assert again.astype(str).equals(once.drop(columns="run_date").astype(str))


def test_a_study_that_is_asked_to_end_does_and_goes_on_with_the_same_bytes(whole, tmp_path):
    """By one of the signals that are heeded; see below for the others."""
    folder = place(tmp_path / "asked")
    code, said = study(folder, "SIGUSR1")
    assert code == 1
    assert "1 interrupted" in said and "to complete it: python -m benchmark run" in said
    begun = rows_of(folder)
    assert list(begun["objective_ended"]) == ["", "interrupted"]
    assert list(begun["objective_outer_step"]) == [0, 2]
    code, said = study(folder)
    assert code == 0, said
    assert different(whole, rows_of(folder)) == []
    assert [p.name for p in (folder / "outputs").glob("small*")] == ["small.parquet"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_what_was_finished_kept(whole, small_disk, monkeypatch):
    # after each step, however long it takes
    monkeypatch.setitem(kept.__kwdefaults__, "share", inf)
    folder = place(small_disk)
    code, said = study(folder, "fill")
    assert code == 1
    assert "the run of Staged is not kept: " in said and "No space left on device" in said
    assert "is its disk full?" in said or "could not be written" in said
    assert "to complete it: python -m benchmark run" in said
    assert "Traceback" not in said
    (folder / "solvers" / "filler").unlink()
    code, said = study(folder)
    assert code == 0, said
    assert different(whole, rows_of(folder)) == []


# --- signals ------------------------------------------------------------------------------------


def test_a_step_is_finished_first_and_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(interruption, "SECONDS", 0.2)
    with interruption.heeded():
        with pytest.raises(interruption.Interrupted, match="SIGTERM"):
            with interruption.finishing():
                os.kill(os.getpid(), signal.SIGTERM)
                done = True
            assert done
            interruption.check()
        with pytest.raises(interruption.Interrupted, match="SIGUSR1"), interruption.finishing():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(20)
        with pytest.raises(interruption.Interrupted, match="SIGINT"), interruption.finishing():
            for _ in range(2):  # who asks twice is in a hurry
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
        interruption.check()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
