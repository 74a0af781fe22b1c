"""Results that are older than the code, or that someone touched, are named."""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from made_up import DENOISING, STUDY, cli, save, study

from benchmark.measure.plausible import too_cheap
from benchmark.measure.provenance import as_text, sources


@cache
def here() -> str:
    """What a row of JFB would name."""
    return as_text(sources([ROOT / "objective.py", ROOT / "solvers" / "jfb.py"]))


def rows(methods=STUDY[:2]) -> pd.DataFrame:
    return study(methods=methods, tasks=[DENOISING])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study that is up to date, with one figure, whose files are empty."""
    folder = tmp_path_factory.mktemp("made") / "results" / "one"
    folder.mkdir(parents=True)
    path = save(rows().assign(objective_sources=here()), folder / "one.parquet")
    assert cli(path, "--out", folder, "--only", "time", drawn=False)[0] == 0
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to spoil."""
    shutil.copytree(made.parent, tmp_path / "results")
    return tmp_path / "results" / "one"


def test_up_to_date(folder):
    code, printed, _ = cli("check", folder.parent)
    assert (code, printed) == (0, f"{folder}: up to date\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda at: (at / "table.md").write_text("28 dB"), "write otherwise: table.md"),
        (lambda at: (at / "headline.tex").unlink(), "missing: headline.tex"),
        (lambda at: (at / "time.png").unlink(), "missing: time.png"),
        (lambda at: (at / "time.pdf").write_bytes(b"%PDF"), "report drew: time.pdf"),
        (lambda at: (at / "one.parquet").unlink(), "missing: one.parquet"),
        (lambda at: (at / "provenance.json").unlink(), "no provenance.json"),
        (lambda at: (at / "provenance.json").write_text("{}"), "cannot be used (KeyError)"),
        (
            lambda at: save(rows().assign(objective_sources_digest="old"), at / "one.parquet"),
            "made by sources old, which name no files",
        ),
        (
            lambda at: save(
                rows().assign(
                    objective_sources=here().replace('"solvers/jfb.py":"', '"solvers/jfb.py":"0')
                ),
                at / "one.parquet",
            ),
            "rows made by other files than those here: solvers/jfb.py",
        ),
        (lambda at: save(rows(STUDY[1:3]), at / "one.parquet"), "not the file"),
        (
            lambda at: save(
                rows().assign(
                    objective_sources=here(), objective_overhead=0.8, objective_overhead_high=0.94
                ),
                at / "one.parquet",
            ),
            "takes less time than what it calls",
        ),
    ],
)
def test_stale_is_one_line_and_exit_code_1(folder, spoil, said):
    spoil(folder)
    code, printed, _ = cli("check", folder.parent)
    assert code == 1 and printed.count("\n") == 1
    assert str(folder) in printed and said in printed, printed


def test_an_overhead_below_1_within_its_interval_is_none():
    overheads = pd.DataFrame({"objective_overhead_high": [0.94, 0.96, np.nan, 1.2]})
    assert list(too_cheap(overheads).index) == [0]
    assert too_cheap(pd.DataFrame({"objective_overhead": [0.5]})).empty


def test_nothing_to_check(tmp_path):
    assert cli("check", tmp_path)[0] == 2
    assert cli("check", tmp_path / "none")[0] == 2
