"""A study is refused as a whole, with a line for each of its faults, before anything is run."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from small_studies import (
    CLASSES,
    GOOD,
    faults,
    import_once,
    plan_of,
    some_plugins,
)

from benchmark.gradients.named import GRADIENT_RULE
from benchmark.imaging.degradations import DEGRADATION
from benchmark.imaging.denoisers.table import DENOISER
from benchmark.imaging.losses import UPPER_LOSS
from benchmark.plugins.descent import OPTIMIZER, SCHEDULE
from benchmark.problems import LOWER_LEVEL
from benchmark.running import engine, options, places, specs
from benchmark.running.faults import InvalidStudyError
from benchmark.running.outlines import outline
from benchmark.solve.named import ADJOINT_SOLVER, EQUILIBRIUM_SOLVER


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return some_plugins(tmp_path_factory)


@pytest.fixture(autouse=True)
def unchanged_files_are_imported_once(place, monkeypatch):
    import_once(place, monkeypatch)


# --- what is written ----------------------------------------------------------------------------


def test_a_good_study_has_no_faults(place):
    plan = plan_of(yaml.safe_dump(GOOD | {"n-repetitions": 2, "timeout": "1h"}), place)
    assert plan.runs == 2
    assert plan.notes == []
    assert plan.settings.timeout == 3600
    assert plan.path == place / "outputs" / "study.parquet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solver: [JFB", r"study\.yml, line 1: .*expected"),
        ("a: b: c", r"study\.yml, line 1: mapping values are not allowed"),
        ("- JFB", r"expected a mapping of options"),
        ("seed: 0\nseed: 1", r"line 2: 'seed' is given twice, in lines 1 and 2"),
        ("solver:\n- DEQ: {tol: [1], tol: [2]}", r"line 2: 'tol' is given twice"),
        ("n-repetition: 3", r"unknown key 'n-repetition': did you mean n-repetitions\?"),
        ("n-jobs: 1\nn_jobs: 2", r"'n-jobs' is given twice"),
        ("seed: abc", r"seed must be an integer of at least 0, got 'abc'"),
        ("seed: 0x" + "f" * 6000, r"seed must be .* a int that cannot be shown"),
        ("max-runs: -1", r"max-runs must be an integer of at least 0, got -1"),
        ("plot: maybe", r"plot must be True or False, got 'maybe'"),
        ("timeout: soon", r"timeout must be a time such as 100, 10m or 1h, got 'soon'"),
        ("timeout: .nan", r"timeout must be a time"),
        ("timeout: 5\nno-timeout: true", r"timeout and no-timeout are both given"),
        ("collect: true\nno-cache: true", r"nothing could be collected"),
        ("solver:", r"solver: nothing is listed"),
        ("solver: []", r"solver: nothing is listed"),
        ("dataset: ''", r"dataset: nothing is listed"),
    ],
)
def test_what_is_written(place, text, message):
    (fault,) = faults(text, place)
    assert re.search(message, fault)


def test_a_configuration_that_is_not_there(place):
    with pytest.raises(InvalidStudyError, match=r"nowhere\.yml: No such file"):
        options.settings(options.parser("run", "").parse_args(["nowhere.yml"]), [])


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("Unroling", r"unknown solver 'Unroling': did you mean Unrolling\?"),
        (3, r"solver: expected a name or a mapping of options, got 3"),
        ({"DEQ": None}, r"solver 'DEQ': expected a mapping of options after the colon, got None"),
        ({"DEQ": [1]}, r"solver DEQ: expected option=value, got the bare \[1\]"),
        ("DEQ[tol=", r"solver 'DEQ\[tol=': expected NAME or NAME\[option=value, …\]"),
        ("DEQ[toll=0.1]", r"solver DEQ: unknown option 'toll': did you mean tol\?"),
        ({"DEQ": {"tol": []}}, r"solver DEQ: tol: no value is listed"),
        ({"DEQ": {"tol, steps": [[1e-3]]}}, r"tol, steps: expected lists of 2 values, got \[0.001"),
        ({"DEQ": {"tol, steps": [[1e-3, 2]], "tol": [0.1]}}, r"tol is given twice"),
        ({"DEQ": {"tol": "1e-6"}}, r"solver DEQ: tol must be a positive number, got '1e-6' \(YAML"),
        ({"DEQ": {"steps": ["three"]}}, r"steps must be an integer of at least 0, got 'three'"),
        ({"Neumann": {"terms": [1e30]}}, r"terms must be an integer of at least 1, got 1e\+30"),
        ({"Neumann": {"terms": [10**30]}}, r"terms must be an integer .* at most 100000, got 1000"),
        ({"TPE": {"sampler": ["tpex"]}}, r"sampler must be one of random, tpe, got 'tpex'"),
        ({"DEQ": {"equilibrium_solver": ["andersen"]}}, r"did you mean anderson\?"),
        ({"DEQ": {"equilibrium_solver": ["anderson(depth=0)"]}}, r"depth must be an integer"),
        ({"DEQ": {"adjoint_solver": ["gmres(restart=0)"]}}, r"restart must be an integer"),
        (
            {"DEQ": {"steps": [*range(99)], "tol": [0.1 / (n + 1) for n in range(99)]}},
            r"9801 combinations are asked for: expected at most 5000",
        ),
    ],
)
def test_what_is_asked_of_a_plugin(place, solver, message):
    (fault,) = faults({"solver": [solver]}, place)
    assert re.search(message, fault)


def test_the_command_line_is_checked_too(place):
    command = ("-s", "Unroling", "--seed", "x", "-j", "0", "--output", "rows.csv")
    found = faults(GOOD, place, *command)
    assert len(found) == 2
    assert "seed must be an integer" in found[0]
    assert "n-jobs must be an integer" in found[1]
    assert faults({}, place, *command[:2]) == (
        "unknown solver 'Unroling': did you mean Unrolling?",
    )


def test_all_faults_are_listed_at_once(place):
    study = {
        "objective": [{"Learning at equilibrium": {"dtype": ["float16"]}}],
        "dataset": [{"Simulated": {"sise": [8]}}],
        "solver": ["Unroling", {"DEQ": {"steps": [-1], "tol": [0]}}],
        "output": "rows.csv",
    }
    found = "\n".join(faults(study, place))
    for word in ("dtype", "sise", "Unroling", "steps", "tol must", r"output must be a .parquet"):
        assert word in found


def test_a_slip_of_the_pen_costs_no_import(place):
    """One line for each fault, before anything that takes seconds is loaded."""
    levels = ["wavelet_l9", "tv(wieght=3)", "pnp(denoiser='small_drunt')", "tikhonov("]
    degradations = ["inpaintin(keep=0.5)", "inpainting(kep=0.5)", "deblurring(width=-1)"]
    deq = {
        "steps": ["three"],
        "stepz": [1],
        "optimizer": ["adm", "ADAMW(betaz=1)"],
        "schedule": [None, "StepLRR"],
        "equilibrium_solver": ["andersn(depth=5)", "anderson(depth=0)"],
    }
    study = {
        "objective": [
            {"Learning at equilibrium": {"lower": levels, "dtype": ["half"], "device": ["gpu"]}}
        ],
        "dataset": [{"Simulated": {"sise": 8, "degradation": degradations}}],
        "solver": ["Unroling", {"DEQ": deq}, "Unrolling[layers=-1,optimizer=SDG]"],
    }
    config = place / "slips.yml"
    config.write_text(yaml.safe_dump(study))
    words = ["-X", "importtime", "-m", "benchmark", "run", str(config), "--benchmark", str(place)]
    start = time.process_time()
    found = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert time.process_time() - start < 1
    lines = [line for line in found.stderr.splitlines() if not line.startswith("import time")]
    assert found.returncode == 2 and all(line.startswith("error: ") for line in lines)
    words = (
        "wavelet_l1?",
        "weight?",
        "small_drunet?",
        "a lower level is written name or name(option=value, …), got 'tikhonov('",
        "dtype",
        "unknown device 'gpu'",
        "size?",
        "inpainting?",
        "mean keep?",
        "width must be a positive number, got -1",
        "Unrolling?",
        "'three'",
        "steps?",
        "adam?",
        "betas?",
        "StepLR?",
        "anderson?",
        "depth must be",
        "layers must be",
        "SGD?",
    )
    for word in words:
        assert sum(word in line for line in lines) == 1, (word, lines)
    assert len(lines) == len(words)
    for library in ("torch", "pandas", "benchopt", "numpy"):
        assert f" {library}\n" not in found.stderr


KINDS = {
    "lower": LOWER_LEVEL,
    "degradation": DEGRADATION,
    "denoiser": DENOISER,
    "loss": UPPER_LOSS,
    "equilibrium_solver": EQUILIBRIUM_SOLVER,
    "adjoint_solver": ADJOINT_SOLVER,
    "gradient": GRADIENT_RULE,
    "optimizer": OPTIMIZER,
    "schedule": SCHEDULE,
}


@pytest.mark.parametrize("parameter", KINDS)
def test_the_text_tells_what_specs_may_name_and_with_which_options(parameter):
    """What the looks at text and at the objects themselves must have in common."""
    kind, table = KINDS[parameter], specs.TABLES[parameter]
    written = table.entries()
    assert (table.what, set(written)) == (kind.name, set(kind.entries))
    for name, entry in kind.entries.items():
        keywords, any_other = specs.signature(*written[name])
        takes = inspect.signature(entry).parameters.values()
        named = {p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        assert set(keywords) == named
        assert any_other == any(p.kind is p.VAR_KEYWORD for p in takes)
        with pytest.raises(ValueError, match="has no option 'nosuch'") as by_object:
            kind.choose(f"{name}(nosuch=1)", given=table.given, also=table.also)
        with pytest.raises(ValueError, match="has no option 'nosuch'") as by_text:
            specs.rule(parameter, f"{name}(nosuch=1)")
        assert str(by_text.value) == str(by_object.value)


def test_the_text_of_each_plugin_tells_its_name_and_parameters():
    for cls in CLASSES.values():
        kind = {"solvers": "Solver", "datasets": "Dataset"}.get(
            Path(cls._module_filename).parent.name, "Objective"
        )
        names = {name.strip() for key in cls.parameters for name in key.split(",")}
        found = outline(Path(cls._module_filename), kind)
        assert (found.name, set(found.parameters)) == (cls.name, names)


def test_what_a_text_does_not_tell_is_not_guessed(tmp_path):
    (tmp_path / "computed.py").write_text(
        "class Solver(Base):\n    name = 'A' + 'b'\n    parameters = made()\n"
    )
    found = outline(tmp_path / "computed.py", "Solver")
    assert (found.name, found.parameters) == (None, None)
    assert outline(tmp_path / "nowhere.py", "Solver") == found


# --- tasks, places ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("dataset", "degradation", "inpaintin(keep=0.5)", r"did you mean inpainting\?"),
        ("dataset", "degradation", "inpainting(keep=2)", r"keep must lie strictly between"),
        ("dataset", "degradation", "inpainting(keep=1e-320)", r"leaves nothing of an image"),
        ("dataset", "n_test", 0, r"n_test must be an integer of at least 1, got 0"),
        ("dataset", "size", 9, r"both sides must be multiples of 2\^1 = 2"),
        ("dataset", "size", 8192, None),
        ("objective", "lower", "wavelet_l9", r"unknown lower level 'wavelet_l9'.* mean wavelet_l1"),
        ("objective", "lower", "wavelet_l1(levels=1000000)", r"levels must be .* at most 20, got"),
        ("objective", "probe_size", 3, r"probe_size must be at most .* images, 2, got 3"),
        ("objective", "device", "quantum", r"unknown device 'quantum'"),
    ],
)
def test_a_task_that_cannot_be_made_stops_the_study(place, kind, name, value, message):
    study = {"dataset": {"size": [8]}, "objective": {"lower": ["wavelet_l1(levels=1)"]}}
    if message is None:  # it fits into no memory, whatever its operator
        study["dataset"]["n_train"], message = [10**6], r"needs about \d+ GiB for its images"
    study[kind][name] = [value]
    plugins = {"dataset": "Simulated", "objective": "Learning at equilibrium"}
    (fault,) = faults({k: [{plugins[k]: v}] for k, v in study.items()}, place)
    assert re.search(message, fault)


def test_a_degradation_hides_no_fault_of_the_lower_level(place):
    """Both are found though the task is made from both; the same reason is told once."""
    study = {
        "dataset": [{"Simulated": {"size": [8], "degradation": ["blur", "blurr"]}}],
        "objective": [{"Learning at equilibrium": {"lower": ["wavelet_l9", "tikhonof"]}}],
    }
    found = faults(study, place)
    assert len(found) == 4
    assert all(sum(word in fault for fault in found) == 1 for word in ("'blurr'", "tikhonof'"))
    assert all("and of 1 more" in fault for fault in found)


def test_images_that_are_not_there(place):
    (fault,) = faults({"dataset": [{"Folder": {"path": ["nowhere"]}}]}, place)
    assert "there is no folder nowhere" in fault


def test_folders_that_cannot_be_written(place, monkeypatch):
    blocked = place / "blocked"
    blocked.write_text("a file where a folder should be")
    (fault,) = faults({}, place, "--output", str(blocked / "rows"))
    assert re.search(r"the rows cannot be written into .*blocked: ", fault)
    (place / "full.parquet").mkdir()
    (fault,) = faults({}, place, "--output", str(place / "full.parquet"))
    assert fault.endswith("it is a folder")
    usage = namedtuple("usage", "total used free")(2**30, 2**30, 2**20)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: usage)
    rows, cache = faults({}, place)
    assert re.search(r"the rows need about 16 MiB in .*outputs, where 1 MiB are free", rows)
    assert cache.startswith("cached rows need about 16 MiB")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backend": "laky"}, r"unknown backend .*did you mean loky\?"),
        ({}, r"unknown backend 'None'"),
        ("nowhere.yml", r"nowhere.yml: No such file"),
        ({"backend": "submitit", "timeout_min": 5}, r"timeout_min has no effect: .* slurm_time"),
    ],
)
def test_parallel_configurations(place, config, message, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: name)  # as if it were installed
    (fault,) = faults({"parallel-config": config}, place)
    assert re.search(message, fault)
