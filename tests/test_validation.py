"""A study is refused as a whole, with a line for each of its faults, before anything is run."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from functools import cache
from pathlib import Path

import pytest
import yaml
from benchopt.benchmark import Benchmark
from conftest import ROOT
from hypothesis import given, settings, strategies

from benchmark.__main__ import main
from benchmark.gradients.named import GRADIENT_RULE
from benchmark.imaging.degradations import DEGRADATION, DEGRADATIONS
from benchmark.imaging.denoisers.table import DENOISER
from benchmark.imaging.losses import UPPER_LOSS
from benchmark.plugins.descent import OPTIMIZER, SCHEDULE
from benchmark.plugins.rules import RULES
from benchmark.problems import LOWER_LEVEL, LOWER_LEVELS
from benchmark.running import engine, options, places, selection, specs
from benchmark.running.faults import LONGEST, InvalidStudyError, one_line
from benchmark.running.files import plugin_files
from benchmark.running.given import faults_of_options
from benchmark.running.glance import first_look
from benchmark.running.outlines import outline
from benchmark.running.selection import select
from benchmark.running.tasks import faults_of_tasks
from benchmark.running.validation import validated
from benchmark.solve.named import ADJOINT_SOLVER, EQUILIBRIUM_SOLVER

SOLVERS = ("deq", "neumann", "tpe", "unrolling")
GOOD = {
    "objective": [{"Learning at equilibrium": {"lower": ["wavelet_l1(levels=1)"]}}],
    "dataset": [{"Simulated": {"size": [8]}}],
    "solver": [{"Unrolling": {"steps": [1]}}],
}


def copy_of_plugins(folder: Path, solvers: tuple[str, ...]) -> Path:
    shutil.copy(ROOT / "objective.py", folder)
    for kind, names in (("datasets", ("simulated", "folder")), ("solvers", solvers)):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(ROOT / kind / f"{name}.py", folder / kind)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A benchmark with some of the plugins."""
    return copy_of_plugins(tmp_path_factory.mktemp("benchmark"), SOLVERS)


@pytest.fixture(autouse=True)
def unchanged_files_are_imported_once(place, monkeypatch):
    """Those of ``place``: forking a large process a hundred times takes its time."""
    monkeypatch.setattr(
        selection,
        "plugin_files",
        lambda folder, kind: (once if folder == place else plugin_files)(folder, kind),
    )


once = cache(plugin_files)


@pytest.fixture
def own_place(tmp_path) -> Path:
    """The same for a test that adds files."""
    return copy_of_plugins(tmp_path, ("unrolling",))


def plan_of(text: str, place: Path, *command: str):
    config = place / "study.yml"
    config.write_text(text)
    command = [str(config), "--benchmark", str(place), *command]
    parsed = options.parser("run", "").parse_args(command)
    glanced = first_look(command)
    plan = validated(options.settings(parsed, command))
    assert not glanced  # what is no fault for the one is none for the other
    return plan


def faults(text: str | dict, place: Path, *command: str) -> tuple[str, ...]:
    """The faults of a configuration; a mapping is taken in addition to a good one."""
    text = text if isinstance(text, str) else yaml.safe_dump(GOOD | text)
    try:
        plan_of(text, place, *command)
    except InvalidStudyError as error:
        return error.faults
    return ()


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


# --- fuzzing ------------------------------------------------------------------------------------

#: what may be typed for a value, and is a good one for few parameters
JUNK = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.integers(),
    strategies.sampled_from([10**9 + 1, 10**30, 10**400, 16**6000, -(10**30)]),
    strategies.floats(),
    strategies.text(max_size=12),
    strategies.sampled_from(["1e-6", "x" * 9000, "a(", "a(b=1)", "anderson(depth=1e30)", "é\n"]),
    strategies.dates(),
    strategies.binary(max_size=4),
    strategies.lists(strategies.integers() | strategies.text(max_size=3), max_size=3),
    strategies.dictionaries(strategies.text(max_size=3), strategies.integers(), max_size=2),
)
FEW = settings.get_profile("fuzz")  # more of them: pytest --fuzz 500
CLASSES = {
    cls.name: cls
    for cls in (
        *Benchmark(ROOT).get_solvers(),
        *Benchmark(ROOT).get_datasets(),
        Benchmark(ROOT).get_benchmark_objective(),
    )
    if cls.is_installed(quiet=True)
}


def is_a_clear_line(fault: str) -> bool:
    """One line that names no inside of a library."""
    inside = re.search(r"Traceback|object has no|unsupported operand|must be real number", fault)
    return fault == one_line(fault) and 0 < len(fault) <= LONGEST and not inside


@pytest.mark.parametrize("name", CLASSES)
@FEW
@given(drawn=strategies.data())
def test_any_value_of_a_parameter_is_taken_or_refused(name, drawn):
    """Refused in a line and within a second, or the plugin can be made with it."""
    cls = CLASSES[name]
    for parameter in cls.parameters:
        value, start = drawn.draw(JUNK, label=parameter), time.process_time()
        found = faults_of_options({parameter: [value]}, list(cls.parameters), RULES)
        if found:
            assert all(is_a_clear_line(fault) for fault in found), found
        else:
            try:
                cls.get_instance(**{parameter: value})
            except ValueError as error:  # a plugin's own check, which ``select`` makes a fault of
                assert is_a_clear_line(one_line(str(error)))
        assert time.process_time() - start < 1


SPECS = [
    (kind, name, option)
    for kind, table in (("degradation", DEGRADATIONS), ("lower", LOWER_LEVELS))
    for name, entry in table.items()
    for option in inspect.signature(entry).parameters
    if option not in ("image_shape", "physics", "lipschitz", "img_size", "dtype")
]
LITERALS = (None, True, -1, 10**12, 0.5, 1e308, 1e-320, "", "haar", (1, 2), {})


@pytest.mark.parametrize(("kind", "name", "option"), SPECS, ids=map("-".join, SPECS))
def test_any_value_of_an_option_makes_a_task_or_is_refused(kind, name, option):
    texts = {"degradation": "denoising(sigma=0.1)", "lower": "wavelet_l1(levels=1,wavelet='haar')"}
    for value in LITERALS[hash_of(option) % 4 :: 4]:
        texts[kind] = f"{name}({option}={value!r})"
        dataset = CLASSES["Simulated"].get_instance(size=8, degradation=texts["degradation"])
        objective = CLASSES["Learning at equilibrium"].get_instance(
            lower=texts["lower"], device="cpu"
        )
        start = time.process_time()
        found = faults_of_tasks([dataset], [objective], seed=0)
        assert time.process_time() - start < 1 or not found
        by_text = list(specs.faults_of_spec(specs.TABLES[kind], texts[kind]))
        # which tells no more than there is, but of a denoiser that the prior would not use
        assert found or not by_text or option == "denoiser"
        assert all(is_a_clear_line(fault) for fault in by_text)
        assert all(is_a_clear_line(fault) for fault in found), found


def hash_of(text: str) -> int:
    return sum(text.encode())


@FEW
@given(
    content=strategies.dictionaries(
        strategies.sampled_from(["solver", "dataset", "seed", "timeout", "n-jobs", "x", "output"]),
        JUNK,
        min_size=1,
    )
)
def test_any_configuration_is_a_study_or_is_refused(place, content):
    try:
        text = yaml.safe_dump(content)
    except ValueError:  # more digits than Python prints
        return
    found = faults(text, place)
    assert all(is_a_clear_line(fault) for fault in found), found


def test_the_configurations_that_ship_are_within_the_limits():
    benchmark = Benchmark(ROOT, seed=0)
    studies = (path for path in ROOT.glob("configs/**/*.yml") if path.parent.name != "engines")
    for path in sorted(studies):
        config = yaml.safe_load(path.read_text())
        for kind in ("Objective", "Dataset"):
            assert select(benchmark, kind, config[kind.lower()]).faults == []
        for entry in config.get("solver", []):
            for name, given_values in entry.items():
                known = CLASSES[name].parameters if name in CLASSES else given_values
                assert faults_of_options(given_values, list(known), RULES) == [], path
