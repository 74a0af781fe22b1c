"""A file of rows from elsewhere, whatever is in it, is reported on or refused with the reason, and
nothing is written but where it was asked for."""

from __future__ import annotations

import os
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import STUDY, cli, save, study

from benchmark.report.frame import tidy
from benchmark.report.reading import ReportError, read
from benchmark.running import places

#: what a column may be made of instead of what it holds
OTHERS = {
    "text": lambda n: ["x"] * n,
    "marks": lambda n: (
        ["</script>", "=cmd()", "../../up", "\0\x1b[2J", "|`\n#", "\N{RIGHT-TO-LEFT OVERRIDE}a"][:n]
        + ["é" * 3000] * max(0, n - 6)
    ),
    "bytes": lambda n: [b"\x00benchopt-pkl\x00cos\nsystem\n(S'x'\ntR."] * n,
    "numbers": lambda n: [np.inf, -np.inf, np.nan, 1e308, -0.0, *range(n)][:n],
    "nothing": lambda n: [None] * n,
    "flags": lambda n: [True] * n,
    "lists": lambda n: [[1.0, 2.0]] * n,
    "mappings": lambda n: [{"a": 1}] * n,
    "dates": lambda n: [pd.Timestamp("2020-01-01")] * n,
    "large": lambda n: [2**63 - 1] * n,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save(study(methods=STUDY[:2]), tmp_path_factory.mktemp("good") / "a.parquet")


def reported(path):
    """Whether the file at ``path`` can be reported on; what is said of it where it cannot."""
    try:
        frame = tidy(read([path]).rows)
    except ReportError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return False
    assert len(frame)
    return True


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_rows_or_a_reason(good, tmp_path_factory, data):
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    reported(path)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_columns_of_other_kinds_are_rows_or_a_reason(good, tmp_path_factory, data):
    table = pq.read_table(good).slice(0, 12)
    for name in data.draw(st.lists(st.sampled_from(table.column_names), max_size=3, unique=True)):
        kind = data.draw(st.sampled_from(sorted(OTHERS)))
        values = pa.array(OTHERS[kind](len(table)))
        table = table.set_column(table.column_names.index(name), name, values)
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    pq.write_table(table, path)
    reported(path)


def test_names_lead_nowhere_else(tmp_path):
    """Whatever a task or a method is called, files are made in the folder that was asked for."""
    evil = ["../../up", "/etc/x", "x" * 300]
    rows = study(methods=STUDY[:1]).iloc[:3].assign(solver_name=evil, dataset_name=evil)
    (tmp_path / "in").mkdir()
    path = save(rows, tmp_path / "in" / "a.parquet")
    code, said, complaint = cli(path, "--out", tmp_path / "out", "--only", "learned", drawn=False)
    assert code == 0, complaint
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out"}
    made = [*(tmp_path / "out").rglob("*")]
    assert len(made) > 2 and all(p.parent == tmp_path / "out" for p in made), said


@pytest.mark.parametrize(("hidden", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_of_rows_is_as_private_as_its_owner_wants(tmp_path, monkeypatch, hidden, mode):
    """While it is written nobody else can read it; then the process's umask says who can."""
    seen, write = [], places.to_parquet

    def watched(rows, path):
        seen.append(path.stat().st_mode)
        write(rows, path)

    monkeypatch.setattr(places, "to_parquet", watched)
    before = os.umask(hidden)
    try:
        places.put(pd.DataFrame({"a": [1]}), tmp_path / "a.parquet")
        assert os.umask(hidden) == hidden  # put back
    finally:
        os.umask(before)
    assert [stat.S_IMODE(found) for found in seen] == [0o600]
    assert stat.S_IMODE((tmp_path / "a.parquet").stat().st_mode) == mode


@pytest.mark.filterwarnings("error::pandas.errors.PerformanceWarning")
def test_rows_are_not_read_into_pieces():
    """Of which pandas warns whoever makes a report."""
    assert len(tidy(read([ROOT / "results" / "methods" / "methods.parquet"]).rows))
