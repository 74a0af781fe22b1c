"""The wings import in one direction; files, functions and plugins keep to their sizes."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import forked
import pytest
from conftest import ROOT

SOURCES = sorted((ROOT / "benchmark").rglob("*.py"))
PLUGINS = sorted((ROOT / "solvers").glob("*.py"))


def lint_imports(where: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(where)}
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(
    not Path(sys.executable).with_name("lint-imports").exists(), reason="import-linter is absent"
)
def test_the_contracts_hold_and_a_planted_upward_import_breaks_them(tmp_path):
    held = lint_imports(ROOT)
    assert held.returncode == 0, held.stdout
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "benchmark" / "solve" / "vectors.py"
    planted.write_text(planted.read_text() + "\nfrom benchmark.problems import LOWER_LEVELS\n")
    torchful = tmp_path / "benchmark" / "report" / "style.py"
    torchful.write_text(torchful.read_text() + "\nimport torch\n")
    broken = lint_imports(tmp_path)
    assert broken.returncode == 1
    assert "benchmark.solve.vectors -> benchmark.problems" in broken.stdout
    assert "benchmark.report.style -> torch" in broken.stdout


def lines_of_code(text: str) -> int:
    """Lines that are neither blank, comments nor docstrings."""
    tree = ast.parse(text)
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | FUNCTION)]
    skipped = set()
    for node in documented:
        if ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in skipped
        for number, line in lines
    )


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_file_has_two_subjects():
    """Those of the tests included."""
    files = [*SOURCES, *(ROOT / "tests").glob("*.py")]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_a_page():
    """Its docstring aside."""
    too_long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, FUNCTION):
                doc = node.body[0] if ast.get_docstring(node) is not None else None
                length = node.end_lineno - node.lineno + 1
                length -= doc.end_lineno - doc.lineno + 1 if doc else 0
                too_long += [f"{path}: {node.name} has {length} lines"] if length > 50 else []
    assert too_long == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_is_a_page(path):
    rival = path.stem.startswith(("deepinv", "torchdeq"))
    assert lines_of_code(path.read_text(encoding="utf-8")) <= (60 if rival else 40)


def test_every_package_is_installed():
    """Those listed in pyproject.toml are those that are there; the methods come from solvers/."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if path.stem == "__init__"
    }
    assert set(setuptools["packages"]) == there | {"benchmark.solvers"}
    assert setuptools["package-dir"] == {"benchmark.solvers": "solvers"}


def test_the_methods_can_be_imported_from_a_bare_clone(tmp_path):
    """Through ``benchmark_utils``, which puts the clone's own package first."""
    for folder in ("benchmark", "benchmark_utils", "solvers"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "objective.py", tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.util as u\n"
        "s = u.spec_from_file_location('benchmark_utils', sys.argv[2])\n"
        "s.loader.exec_module(u.module_from_spec(s))\n"
        "import benchmark, benchmark.solvers.jfb as jfb\n"
        "print(benchmark.__file__); print(jfb.__file__)"
    )
    utils = tmp_path / "benchmark_utils" / "__init__.py"
    done = forked.run_code(code, ROOT, utils, cwd="/", environment=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(tmp_path / "benchmark" / "__init__.py"),
        str(tmp_path / "solvers" / "jfb.py"),
    ]


def test_what_is_shipped_is_all_that_there_is():
    """The wheel lists its packages, the source archive its folders: neither forgets a new one."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    own = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    assert {*setup["packages"]} == {".".join(path.parts) for path in own} | {"benchmark.solvers"}
    listed = ["git", "ls-files", "--", "*.py", "*.yml", "*.md"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    manifest = (ROOT / "MANIFEST.in").read_text().splitlines()
    grafted = {line.split()[1] for line in manifest if line.startswith("graft ")}
    assert folders - grafted <= {"benchmark", "solvers", "results"}
