"""One place for the rows of a study, which are never lost, and output that nobody reads."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from benchmark.running import terminal
from benchmark.running.places import claimed, write_rows

# --- one place for rows -------------------------------------------------------------------------


def some_rows(*methods: str, number: int = 1, sources: str = "a") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset_name": "Simulated",
            "objective_name": "Learning",
            "solver_name": method,
            "idx_rep": 0,
            "objective_sources_digest": sources,
            "stop_val": stop,
        }
        for method in methods
        for stop in range(number)
    )


def test_a_study_that_went_further_takes_the_place_of_its_own_rows(tmp_path):
    path = tmp_path / "rows.parquet"
    for methods in (("JFB",), ("JFB", "DEQ")):
        assert write_rows(some_rows(*methods), path) == path
    assert sorted(pd.read_parquet(path)["solver_name"]) == ["DEQ", "JFB"]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize(
    "other",
    [
        some_rows("DEQ", number=2),
        some_rows("JFB", number=1),
        some_rows("JFB", number=2, sources="b"),
    ],
    ids=["another method", "fewer rows", "another code"],
)
def test_rows_of_another_study_are_never_lost(tmp_path, other):
    path = tmp_path / "rows.parquet"
    write_rows(some_rows("JFB", number=2), path)
    assert write_rows(other, path) == tmp_path / "rows_1.parquet"
    assert write_rows(other, path) == tmp_path / "rows_2.parquet"
    assert len(pd.read_parquet(path)) == 2


def test_a_file_that_holds_no_rows_is_not_overwritten(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_text("notes")
    assert write_rows(some_rows("JFB"), path) == tmp_path / "rows_1.parquet"
    assert path.read_text() == "notes"


def test_two_studies_at_the_same_time_have_a_file_each(tmp_path):
    path = tmp_path / "outputs" / "rows.parquet"
    with claimed(path) as first, claimed(path) as second:
        assert (first.name, second.name) == ("rows.parquet", "rows_1.parquet")
    with claimed(path) as again:
        assert again == path
    assert list(path.parent.iterdir()) == []


# --- output -------------------------------------------------------------------------------------


def test_a_pipe_that_nobody_reads_does_not_end_the_study():
    """As with ``| head``: what is said later goes nowhere."""
    reading, writing = os.pipe()
    os.close(reading)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(writing, 1)
            import sys

            sys.stdout = os.fdopen(1, "w")
            for _ in range(3):
                terminal.say("a line")
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
