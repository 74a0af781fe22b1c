"""What injects faults says so where one does not end as promised."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import faults
import faults_of_files

from benchmark.running.files import unreadable


def test_there_are_many_each_with_a_name_of_its_own():
    known = faults.known()
    names = [(fault.kind, fault.name) for fault in known]
    assert len(set(names)) == len(names) >= 80


@pytest.mark.parametrize(
    ("text", "said", "found"),
    [
        ("x = (\n", "line 1", ""),
        ("x = (\n", "line 7", "line 1: '(' was never closed"),
        (faults_of_files.CLASS.format("name = 'Bad'"), "line 1", "nothing is said"),
    ],
)
def test_a_file_is_as_promised_or_not(text, said, found):
    assert faults.found(faults_of_files.file("a file", text, said)) == found


def test_an_exception_of_the_injector_is_no_success_and_the_table_says_it():
    def fails(folder):
        raise OSError("no space left")

    good = faults_of_files.file("a file", "x = (\n", "line 1")
    bad = replace(good, kind="Disks", name="full | small", tried=fails)
    results = [faults.found(fault) for fault in (good, bad)]
    assert results == ["", "OSError: no space left"]
    text = faults.table([good, bad], results)
    assert "1 of 2 ended as promised" in text and "## Files" in text and "## Disks" in text
    assert "| full ∣ small |" in text and text.count("| yes |") == 1


def test_files_that_benchopt_would_end_with_are_named_from_their_text(tmp_path):
    for kind in ("solvers", "datasets"):
        (tmp_path / kind).mkdir()
    good = faults_of_files.CLASS.format("name = 'Good'")
    for name, text in {"a": good, "b": good, "c": "x = (\n", "template_d": "x = (\n"}.items():
        (tmp_path / "solvers" / f"{name}.py").write_text(text)
    assert unreadable(tmp_path) == [
        "solvers/b.py: the name 'Good' is that of solvers/a.py",
        "solvers/c.py: line 1: '(' was never closed",
    ]
    assert unreadable(ROOT) == []
