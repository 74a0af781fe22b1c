"""What a row's digest covers: all that can change it, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
from functools import cache
from pathlib import Path

import forked
import joblib
import numpy as np
import pytest
from benchopt._generate_runs import get_solver_kwargs
from benchopt.benchmark import Benchmark
from benchopt.utils.terminal_output import TerminalOutput
from conftest import ROOT
from made_up import STUDY, cli, save, study
from PIL import Image

from benchmark.measure.provenance import as_text, changed, digest, named, sources
from benchmark.problems import LOWER_LEVELS

SOLVERS = ("jfb", "deq")
LEVELS = ("wavelet_l1", "pnp(denoiser='small_drunet')", "drunet")
ROWS = [(solver, lower) for solver in SOLVERS for lower in LEVELS]


def copied(folder: Path) -> Path:
    """A clone without its history."""
    for name in ("benchmark", "benchmark_utils", "solvers", "datasets"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "report")
        )
    shutil.copy(ROOT / "objective.py", folder)
    return folder


def files_behind(clone: Path, solver: str, lower: str, dataset: str = "simulated"):
    package = clone / "benchmark"
    plugins = ("objective.py", f"solvers/{solver}.py", f"datasets/{dataset}.py")
    roots = [clone / name for name in plugins]
    return sources([*roots, *named([lower], package=package)], package=package)


def digests(clone: Path) -> dict[tuple[str, str], str]:
    return {row: digest(files_behind(clone, *row)) for row in ROWS}


@cache
def here() -> dict[tuple[str, str], str]:
    """Those of this repository."""
    return digests(ROOT)


def append(path: str, text: str):
    def edit(clone: Path) -> None:
        with (clone / path).open("ab") as file:
            file.write(text.encode())

    return edit


def everywhere(change):
    def edit(clone: Path) -> None:
        for file in clone.rglob("*.py"):
            file.write_bytes(change(file.read_bytes()))

    return edit


def reworded(content: bytes) -> bytes:
    """Another layout, another docstring wherever there is one, and one wherever there is none."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            if ast.get_docstring(node) is not None:
                node.body[0].value.value = "Other words."
            else:
                node.body.insert(0, ast.Expr(ast.Constant("Words.")))
    return ast.unparse(tree).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: (b"# a comment\n\n" + content + b"\n    # and one\n").replace(
            b"\n", b"\r\n"
        ),
        reworded,
    ],
    ids=["comments and CRLF", "layout and docstrings"],
)
def test_what_is_no_code_does_not_count(tmp_path, change):
    clone = copied(tmp_path)
    everywhere(change)(clone)
    assert digests(clone) == here()


ALL = set(ROWS)
DENOISED = {row for row in ROWS if row[1] != "wavelet_l1"}


@pytest.mark.parametrize(
    ("edit", "void"),
    [
        (append("solvers/jfb.py", "\n    steps = 0\n"), {r for r in ROWS if r[0] == "jfb"}),
        (append("benchmark/problems/pnp.py", "FAMILY = None\n"), DENOISED),
        (append("benchmark/problems/drunet.py", "A = 1\n"), {r for r in ROWS if r[1] == "drunet"}),
        (append("benchmark/imaging/denoisers/small_drunet.safetensors", "x"), DENOISED),
        (append("benchmark/measure/evaluation.py", "EQUILIBRIUM_TOL = 1\n"), ALL),
        (append("benchmark/__init__.py", "A = 1\n"), ALL),
        (append("objective.py", "DTYPES = {}\n"), ALL),
        (append("datasets/simulated.py", "A = 1\n"), ALL),
    ],
)
def test_a_change_of_behaviour_voids_the_rows_that_it_can_reach(tmp_path, edit, void):
    before, clone = here(), copied(tmp_path)
    edit(clone)
    after = digests(clone)
    assert {row for row in ROWS if before[row] != after[row]} == void


def test_what_no_row_reaches_voids_none(tmp_path):
    before, clone = here(), copied(tmp_path)
    for path in (
        "benchmark/problems/tikhonov.py",
        "benchmark/problems/new.py",
        "benchmark/imaging/denoisers/MODEL_CARD.md",
        "benchmark/plugins/search_method.py",
        "benchmark/running/rerun.py",
        "datasets/folder.py",
        "solvers/hoag.py",
    ):
        append(path, "FAMILY = None\n")(clone)
    assert digests(clone) == before


TRAINED = """
import sys; sys.path.insert(0, sys.argv[1])
import objective
from benchmark.imaging.images import simulated
from benchmark.measure import evaluation
from benchmark.plugins.dataset import ImageDataset
from benchmark.solvers.jfb import Solver
images = simulated(number=2, size=8, seed=0)
task = objective.make_task(train=images, test=images, degradation="denoising(sigma=(0.1,0.2,0.3))",
                           lower=sys.argv[2], probe_size=1, seed=0)
solver = Solver.get_instance(steps=1, tol=1e-3)
solver.set_objective(task)
solver.run(lambda: True)
result = solver.get_result()
evaluation.evaluate(solver, result["theta"], truth=evaluation.Truth(task), task=task,
                    training=result["training"], last=False)
files = {n: getattr(m, "__file__", None) for n, m in list(sys.modules.items())}
print(*[f for n, f in files.items() if n.split(".")[0] == "benchmark" and f], sep="\\n")
"""


@pytest.mark.parametrize("lower", ["pnp"])
def test_no_module_that_a_run_loads_is_missed(lower):
    """Python's own list of what was imported, once a method has taken a step and been judged."""
    options = {"cwd": "/", "environment": os.environ}
    done = forked.run_code(TRAINED, ROOT, f"{lower}(stepsize=1.5)", **options)
    assert done.returncode == 0, done.stderr
    loaded = {Path(line).relative_to(ROOT).as_posix() for line in done.stdout.splitlines()}
    # what surrounds runs cannot change their rows
    loaded = {name for name in loaded if not name.startswith("benchmark/running/")}
    assert f"benchmark/problems/{lower}.py" in loaded
    without_effect = {f"benchmark/{name}.py" for name in ("measure/provenance", "plugins/keyed")}
    without_effect.add("benchmark/options/whole.py")  # how checkpoints are written
    # ``Kind.has`` compares with the entries of every family, and calls none
    idle = {name for other in LOWER_LEVELS for name in files_behind(ROOT, "jfb", other)}
    used = set(files_behind(ROOT, "jfb", lower))
    assert loaded - without_effect <= used | idle
    own = ("benchmark/problems/", "benchmark/imaging/denoisers/")
    assert all(name in used or name.startswith(own) for name in loaded - without_effect)


@pytest.mark.parametrize(
    ("place", "line", "found"),
    [
        ("solvers", "from benchmark import Phantom", "benchmark/gradients/last_layers.py"),
        ("solvers", "import benchmark.solve.mixing as m", "benchmark/solve/mixing.py"),
        ("solvers", "from benchmark.solvers.jfb import Solver", "solvers/jfb.py"),
        ("solvers", "from benchmark_utils.own import a", "benchmark_utils/own.py"),
        (
            "solvers",
            "def f():\n    from benchmark.solve import mixing",
            "benchmark/solve/mixing.py",
        ),
        ("benchmark/solve", "from . import mixing", "benchmark/solve/mixing.py"),
        ("benchmark/solve", "from ..problems.pnp import A", "benchmark/problems/pnp.py"),
    ],
)
def test_imports_are_followed_however_they_are_written(tmp_path, place, line, found):
    clone = copied(tmp_path)
    (clone / "benchmark_utils" / "own.py").write_text("a = 1\n")
    own = clone / place / "own.py"
    own.write_text(f"{line}\n")
    files = sources([own], package=clone / "benchmark")
    assert {f"{place}/own.py", found} <= set(files)
    assert "benchmark/plugins/search_method.py" not in files


def test_files_that_a_parameter_names(tmp_path, monkeypatch):
    brought = tmp_path / "mine.py"
    brought.write_text("a = 1\n")
    monkeypatch.chdir(tmp_path)
    family = ROOT / "benchmark" / "problems" / "pnp.py"
    assert named(["pnp(denoiser='mine.py')", 3, None]) == [family, Path("mine.py")]
    assert named([f"pnp(denoiser:'{brought}',sigma:0.5)"]) == [family, brought]
    assert named(["inpainting(keep=0.5)", "x" * 5000, "none.py", "(0.1,0.2)"]) == []
    by_name = tmp_path / "denoisers" / "mine.py"
    by_name.parent.mkdir()
    by_name.write_text("a = 3\n")
    assert named(["pnp(denoiser='mine')"]) == [family, by_name]
    assert set(sources([brought])) == {"mine.py"}
    other = tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text("a = 2\n")
    both = sources([brought, other])
    assert set(both) == {"mine.py"}
    assert both["mine.py"] not in {sources([file])["mine.py"] for file in (brought, other)}


def test_a_file_that_is_no_python_is_taken_as_it_is(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    assert sources([broken])["broken.py"]


def test_what_changed_is_named(tmp_path):
    clone = copied(tmp_path)
    text = as_text(files_behind(ROOT, "jfb", "pnp"))
    append("solvers/jfb.py", "\n    steps = 0\n")(clone)
    (clone / "benchmark" / "solve" / "mixing.py").unlink()
    assert changed(text) == []
    assert changed(text, package=clone / "benchmark") == [
        "benchmark/solve/mixing.py",
        "solvers/jfb.py",
    ]
    # a user's own, of which the row has the name alone
    assert changed('{"mine.py": "0123"}') == []


def test_families_are_files():
    files = (ROOT / "benchmark" / "problems").glob("*.py")
    families = {file.stem for file in files if "\nFAMILY = " in file.read_text()}
    assert list(LOWER_LEVELS) == sorted(families) and "wavelet_l12" in families
    assert all(callable(LOWER_LEVELS[name]) for name in LOWER_LEVELS)
    assert "wavelet" not in LOWER_LEVELS and len(LOWER_LEVELS) == len(families)


# --- merging ----------------------------------------------------------------------------------


def part(folder: Path, name: str, index: int, files: dict[str, str]) -> Path:
    """The rows of one method, made by ``files``."""
    rows = study(methods=STUDY[index : index + 1])
    rows = rows.assign(objective_sources=as_text(files), objective_sources_digest=digest(files))
    return save(rows, folder / f"{name}.parquet")


def test_rows_of_other_methods_merge_where_the_files_they_share_are_the_same(tmp_path):
    shared = {"benchmark/solve/vectors.py": "1"}
    one = part(tmp_path, "one", 0, {**shared, "solvers/jfb.py": "1"})
    two = part(tmp_path, "two", 1, {**shared, "solvers/deq.py": "2"})
    assert cli("merge", one, two, "--out", tmp_path / "c.parquet")[0] == 0
    other = part(tmp_path, "other", 1, {"benchmark/solve/vectors.py": "2", "solvers/deq.py": "2"})
    code, printed, said = cli("merge", one, other, "--out", tmp_path / "d.parquet")
    assert code != 0 and "differ in benchmark/solve/vectors.py" in printed + said
    assert not (tmp_path / "d.parquet").exists()
    named_none = save(study(methods=STUDY[1:2]), tmp_path / "before.parquet")
    assert cli("merge", one, named_none, "--out", tmp_path / "d.parquet")[0] != 0


# --- the key of benchopt's cache --------------------------------------------------------------


def pictures(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for i in range(4):
        pixels = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def keys(path: object, *, lower: str = "tikhonov(levels=2)") -> list[str]:
    """What benchopt hashes for two repetitions, here and as a worker would."""
    benchmark = Benchmark(ROOT, seed=0)
    (folder,) = (cls for cls in benchmark.get_datasets() if cls.name == "Folder")
    (solver,) = (cls for cls in benchmark.get_solvers() if cls.name == "JFB")
    runs = get_solver_kwargs(
        benchmark,
        folder.get_instance(path=path, size=8, n_train=2, n_test=2),
        benchmark.get_benchmark_objective().get_instance(lower=lower, probe_size=1),
        solver.get_instance(),
        n_repetitions=2,
        max_runs=1,
        terminal=TerminalOutput(1, show_progress=False),
    )
    found = []
    for run in runs:
        plugins = [run[kind] for kind in ("dataset", "objective", "solver")]
        found.append(joblib.hash(plugins))
        sent = pickle.loads(pickle.dumps(plugins))
        assert joblib.hash(sent) == found[-1], "a worker would look for another entry"
    return found


def test_the_cache_knows_the_images(tmp_path):
    folder = pictures(tmp_path / "imgs", seed=0)
    first = keys(str(folder))
    assert len(set(first)) == 2, "repetitions have images of their own"
    assert keys(str(folder)) == first
    pictures(folder, seed=1)
    assert not set(keys(str(folder))) & set(first)
    pictures(folder, seed=0)
    assert keys(str(folder)) == first


def test_the_cache_knows_which_folder_a_relative_path_means(tmp_path, monkeypatch):
    """Even where the images are the same: the entry of one is not that of the other."""
    found = []
    for name in ("a", "b"):
        pictures(tmp_path / name / "imgs", seed=0)
        monkeypatch.chdir(tmp_path / name)
        found += [keys("imgs"), keys("imgs")]
    assert found[0] == found[1] and found[2] == found[3]
    assert not set(found[0]) & set(found[2])


def test_the_cache_knows_the_family_of_layers(tmp_path):
    folder = str(pictures(tmp_path, seed=0))
    assert not set(keys(folder)) & set(keys(folder, lower="wavelet_l1(levels=2)"))


# --- two clones -------------------------------------------------------------------------------


def test_a_clone_runs_its_own_package_or_says_that_it_does_not(tmp_path):
    """Whatever is installed, from any directory; the second one in a process is refused."""
    clones = [copied(tmp_path / name) for name in "ab"]
    for clone in clones:
        (clone / "benchmark" / "problems" / f"only_{clone.name}.py").write_text("\nFAMILY = dict\n")
    code = """
import json, sys
from benchopt.benchmark import Benchmark
first = Benchmark(sys.argv[1])
import benchmark, benchmark.problems
solver = {cls.name: cls for cls in first.get_solvers()}["JFB"]
said = None
try:
    Benchmark(sys.argv[2])
except ImportError as error:
    said = str(error)
rule = sys.modules[solver.__mro__[1].__module__].__file__
print(json.dumps([benchmark.__file__, rule, list(benchmark.problems.LOWER_LEVELS), said]))
"""
    own, other = clones
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = forked.run_code(code, own, other, cwd="/", environment=environment)
    assert done.returncode == 0, done.stderr
    package, base, families, said = json.loads(done.stdout.splitlines()[-1])
    assert Path(package).is_relative_to(own) and Path(base).is_relative_to(own)
    assert "only_a" in families and "only_b" not in families
    assert str(own) in said and str(other) in said
