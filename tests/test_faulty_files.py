"""Files that are faulty stop the studies that need them, and no other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from small_studies import (
    GOOD,
    copy_of_plugins,
    faults,
    import_once,
    plan_of,
    some_plugins,
)

from benchmark.__main__ import main
from benchmark.running.files import plugin_files


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return some_plugins(tmp_path_factory)


@pytest.fixture(autouse=True)
def unchanged_files_are_imported_once(place, monkeypatch):
    import_once(place, monkeypatch)


@pytest.fixture
def own_place(tmp_path) -> Path:
    """The same for a test that adds files."""
    return copy_of_plugins(tmp_path, ("unrolling",))


# --- files --------------------------------------------------------------------------------------

UNUSABLE = {
    "syntax": ("class Solver(:\n", r"solvers/syntax\.py: line 1: invalid syntax"),
    "exits": (
        "import sys\nclass Solver:\n    name = 'Exits'\nsys.exit(0)\n",
        r"solvers/exits\.py: SystemExit: 0",
    ),
    "ends": (
        "import os\nclass Solver:\n    name = 'Ends'\nos._exit(0)\n",
        r"solvers/ends\.py: ends the process \(exit code 0\) when it is imported",
    ),
    "aborts": (
        "import os\nclass Solver:\n    name = 'Aborts'\nos.abort()\n",
        r"solvers/aborts\.py: ends the process \(SIGABRT\) when it is imported",
    ),
    "raises": (
        "class Solver:\n    name = 'Raises'\n1 / 0\n",
        r"solvers/raises\.py: line 3: ZeroDivisionError: division by zero",
    ),
    "empty": ("", r"solvers/empty\.py: defines no class Solver"),
    "nameless": (
        "from benchmark.plugins.bilevel_solver import PairMethod\n"
        "class Solver(PairMethod):\n    def pair(self, call): ...\n",
        r"solvers/nameless\.py: its class Solver has no name",
    ),
    "misspelt": (
        "from benchmark.estimators import Estimator\nclass Solver:\n    name = 'Misspelt'\n",
        r"solvers/misspelt\.py: line 1: ModuleNotFoundError: No module named 'benchmark\.est",
    ),
}


def test_faulty_files_are_named_and_those_that_nothing_asks_for_left_out(own_place):
    for name, (text, _) in UNUSABLE.items():
        (own_place / "solvers" / f"{name}.py").write_text(text)
    plan = plan_of(yaml.safe_dump(GOOD), own_place)
    assert [cls.name for cls, _ in plan.solvers.chosen] == ["Unrolling"]
    assert len(plan.notes) == len(UNUSABLE)
    asked = faults({"solver": ["*"]}, own_place)
    everything = faults(yaml.safe_dump({k: GOOD[k] for k in ("objective", "dataset")}), own_place)
    for _, message in UNUSABLE.values():
        for lines in (plan.notes, asked, everything):
            assert sum(bool(re.search(message, line)) for line in lines) == 1
    (fault,) = faults({"solver": ["Unrolling", "exits"]}, own_place)
    assert re.search(UNUSABLE["exits"][1], fault)


def test_a_file_that_never_comes_to_an_end(own_place):
    (own_place / "solvers" / "a_loop.py").write_text(
        "class Solver:\n    name = 'Loop'\nwhile True:\n    pass\n"
    )
    found = {file.name: file.fault for file in plugin_files(own_place, "Solver", limit=0.5)}
    assert found["Loop"] == "does not come to an end within 0.5 s when it is imported"
    assert found["Unrolling"] == ""


def test_two_files_of_one_name(own_place):
    shutil.copy(own_place / "solvers" / "unrolling.py", own_place / "solvers" / "again.py")
    (fault,) = faults({}, own_place)
    assert fault == (
        "solvers/again.py and solvers/unrolling.py define solvers of one name, 'Unrolling': "
        "rename one"
    )


def test_an_absent_library_leaves_a_method_out(own_place):
    (own_place / "solvers" / "rival.py").write_text(
        "import no_such_library\nclass Solver:\n    name = 'Rival'\n    parameters = {'a': [1]}\n"
    )
    plan = plan_of(yaml.safe_dump(GOOD | {"solver": ["Unrolling", "Rival"]}), own_place)
    assert plan.notes == ["Rival needs no_such_library, which is not installed: left out"]
    assert plan.runs == 1
    (fault,) = faults({"solver": ["Rival"]}, own_place)
    assert fault == "no solver is left to run: not installed: no_such_library"


def test_a_file_from_elsewhere(place, tmp_path):
    file = tmp_path / "mine.py"
    shutil.copy(ROOT / "solvers" / "jfb.py", file)
    plan = plan_of(yaml.safe_dump(GOOD | {"solver": [f"{file}[steps=1]"]}), place)
    assert [(s.name, s.steps) for s in plan.solvers.instances] == [("JFB", 1)]
    file.write_text("raise SystemExit(0)\n")
    (fault,) = faults({"solver": [str(file)]}, place)
    assert fault == f"{file}: defines no class Solver"


def test_a_class_that_cannot_be_made(own_place):
    (own_place / "solvers" / "half.py").write_text(
        "from benchmark.plugins.bilevel_solver import PairMethod\n"
        "class Solver(PairMethod):\n    name = 'Half'\n"
    )
    (fault,) = faults({"solver": ["Half"]}, own_place)
    assert re.search(r"solver Half: TypeError: .*abstract.* pair", fault)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_line_for_each_fault_no_traceback_and_exit_code_2(place, capsys, command):
    config = place / "bad.yml"
    config.write_text(yaml.safe_dump(GOOD | {"solver": ["Unroling", "DEK"]}))
    assert main([command, str(config), "--benchmark", str(place)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "error: unknown solver 'Unroling': did you mean Unrolling?",
        "error: unknown solver 'DEK': did you mean DEQ?",
    ]


def test_a_command_that_is_not_known(capsys):
    assert main(["rum"]) == 2
    assert "unknown command 'rum': expected one of run, check, " in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "  check    what a study (CONFIG.yml) would run" in capsys.readouterr().out


def test_a_folder_without_an_objective(tmp_path, capsys):
    assert main(["run", "--benchmark", str(tmp_path)]) == 2
    assert "there is no objective.py" in capsys.readouterr().err
