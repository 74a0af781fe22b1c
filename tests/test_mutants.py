"""The tool that asks whether tests notice changes: what it changes, and what it makes of it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from conftest import ROOT

pytest.importorskip("cosmic_ray", reason="the extra 'mutants' is not installed")
sys.path.insert(0, str(ROOT / "tools"))

import mutants
import mutants_table

MODULE = '''"""1 + 1 is no code."""
from typing import final
@final
class A:
    x: "int | None" = 1  # θ
def f(a: int | None, *, b=2) -> int | None:
    if a is None:
        raise ValueError(f"{a + 1}")
    return "θ", a * b
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "tests").mkdir()
    for name in ("one", "one_more", "other"):
        (tmp_path / f"tests/test_{name}.py").touch()
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setitem(mutants.COVERED_BY, "module.py", "other one*")
    return mutants.mutants_of("module.py")


def test_code_is_changed_and_no_annotation_or_message(module):
    changes = {mutants.mutated(m)[0].becomes for m in module}
    assert changes == {
        'x: "int | None" = 2  # θ',
        'x: "int | None" = 0  # θ',
        "def f(a: int | None, *, b= 3) -> int | None:",
        "def f(a: int | None, *, b= 1) -> int | None:",
        "if a is not None:",
        "if not a is None:",
        'return "θ", a / b',
        'return "θ", a + b',
    }
    tests = ("tests/test_other.py", "tests/test_one.py", "tests/test_one_more.py")
    assert {m.tests for m in module} == {tests}


def test_a_sample_hardly_depends_on_what_else_there_is(module):
    others = [mutants.Mutant("other.py", n, "core/AddNot", n) for n in range(len(module))]
    drawn = mutants.drawn(module + others, 8, seed=0)
    assert len(drawn) == 8
    alone = mutants.drawn(module, 8, seed=0)
    assert [m for m in drawn if m.file == "module.py"] == alone[: sum(m in module for m in drawn)]
    assert drawn == mutants.drawn((module + others)[::-1], 8, seed=0)
    assert drawn != mutants.drawn(module + others, 8, seed=1)


def test_what_was_caught_is_not_tried_again_while_the_module_is_the_same(module, tmp_path):
    log = tmp_path / "log"
    assert mutants.noticed(module, log) == mutants.noticed(module, None) == []
    outcomes = ("failed", "survived", "time limit")
    tried = [replace(m, outcome=o) for m, o in zip(module, outcomes, strict=False)]
    for m in tried:
        mutants.write_down(m, log)
    assert mutants.noticed(module, log) == [tried[0], tried[2]]
    (tmp_path / "module.py").write_text(MODULE + "#")
    assert mutants.noticed(module, log) == []


def test_the_table_counts_what_is_noticed(tmp_path, monkeypatch, capsys):
    listed = tmp_path / "equivalent.toml"
    entry = '[[mutant]]\nfile = "{}.py"\nwas = "x"\nbecomes = "y"\nreason = "no difference"\n'
    listed.write_text(entry.format("a") + entry.format("b"))
    monkeypatch.setattr(mutants_table, "EQUIVALENT", listed)
    tried = [
        mutants.Mutant(file, line, "core/AddNot", 0, "x", becomes, outcome)
        for file, line, becomes, outcome in [
            ("a.py", 1, "z", "failed"),
            ("a.py", 2, "y", "survived"),
            ("a.py", 3, "z", "survived"),
            ("b.py", 1, "z", "time limit"),
            ("b.py", 2, "y", "failed"),
        ]
    ]
    page = mutants_table.table(tried, of=50, seed=7)
    assert "| a.py | 3 | 1 | 0 | 1 | 1 | 50 % |" in page
    assert "| b.py | 2 | 1 | 1 | 0 | 0 | 100 % |" in page
    assert "| all | 5 | 2 | 1 | 1 | 1 | 75 % |" in page
    survived, equivalent = page.split("## Survived")[1].split("## Equivalent")
    assert "`a.py:3`, AddNot\n\n```diff\n- x\n+ z\n```" in survived
    assert "a.py:2" not in survived
    assert "`a.py:2`" in equivalent
    assert "no difference" in equivalent
    assert "listed as equivalent, but noticed" in capsys.readouterr().out


def test_every_list_is_up_to_date():
    """The tests that are to notice exist, and so do the lines listed as equivalent."""
    for glob, names in mutants.COVERED_BY.items():
        assert list(ROOT.glob(glob)), glob
        assert all(list(ROOT.glob(f"tests/test_{name}.py")) for name in names.split())
    for name in mutants.LEFT_OUT.split():
        file, test = name.split("::")
        assert f"def {test}(" in (ROOT / f"tests/test_{file}.py").read_text(), name
    for entry in mutants_table.equivalent_mutants():
        code = " ".join(line.strip() for line in (ROOT / entry["file"]).read_text().splitlines())
        assert entry["was"] in code, entry
