"""The benchmark as benchopt runs it: in processes of their own, on a copy of the repository.

One study (a plugin of each kind, one more that is dropped in, one that fails in four ways) is run
once and looked at by most tests; two repeats of it show what the cache does. The processes are
forks of this one (``forked``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
import test_methods
import torch
from benchopt.benchmark import Benchmark
from benchopt.cli.main import run as benchopt_run
from benchopt.results import read_results
from benchopt.utils.run_context import RunContext
from click.testing import CliRunner
from conftest import ROOT, gradient_methods, plugins, searches
from torch import Tensor

from benchmark.plugins.task import make_task

BIN = Path(sys.executable).parent
PLUGINS = ("objective.py", "datasets", "solvers", "plots")
KAPPA = 0.5
LOWER = f"wavelet_l1(wavelet='haar',levels=1,stepsize={1 + KAPPA})"
DEGRADATION = "denoising(sigma=0.1)"
LEARNING_RATE = 100.0
#: Adam's first steps would be the same for all methods
DESCENT = f"optimizer=gradient_descent,learning_rate={LEARNING_RATE}"
OFTEN = f"steps=2,evaluate_every=1,{DESCENT}"
ONCE = f"steps=1,evaluate_every=1,{DESCENT}"
SELDOM = f"steps=3,evaluate_every=2,{DESCENT}"

DAMPED = '''\
"""Damped iteration."""

import torch

from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.solve.fixed_point import iterate


class Solver(StateMethod):
    """Differentiate ``layers`` steps of x ← (x + T(x)) / 2, after as many without a graph.

    Cost: 2 ``layers`` layers; memory: ``layers`` graphs. Use it where T is not contractive.
    """

    name = "Damped"
    parameters = {**StateMethod.parameters, "layers": [15]}

    def equilibrium(self, T, x0):
        def damped(x):
            return (x + T(x)) / 2

        with torch.no_grad():
            x = iterate(damped, x0, steps=self.layers)
        return iterate(damped, x.detach(), steps=self.layers)
'''

FAILING = '''\
"""Unrolling that fails: "oom" whenever it is called, else in the second outer step."""

import torch

from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.solve.fixed_point import iterate
from benchmark.problems.bilevel import upper_loss


class Solver(BilevelSolver):
    """Fail as asked."""

    name = "Failing"
    parameters = {**BilevelSolver.parameters, "how": ["nan", "oom", "allocate"]}

    def hypergradient(self, lower, batch):
        if self.how == "oom":
            raise torch.OutOfMemoryError("CUDA out of memory: as the test wants it")
        x = iterate(lower.layer(batch.observation), lower.init(batch.observation), steps=3)
        loss = upper_loss(lower, x, batch)
        gradient = torch.autograd.grad(loss, list(lower.theta().values()))
        if lower is getattr(self, "counted", None) and self.outer_step == 1:
            if self.how == "allocate":
                torch.empty(2**50)
            gradient = [torch.nan * g for g in gradient]
        return Hypergradient(loss.detach(), gradient, x.detach())

    @torch.no_grad()
    def deploy(self, lower, y):
        return iterate(lower.layer(y), lower.init(y), steps=3)
'''

#: of the gradient methods one of each kind: a state, a pair, columns of J, another library. What
#: holds for all of them is asked in ``test_methods``
METHODS = ("Unrolling", "JFB", "DEQ", "Forward-Mode", "torchdeq-IFT", "Damped")
SEARCHES = sorted(searches())
#: those that take two steps, and not one
TWICE = ("Unrolling", "DEQ", "Damped")
#: tolerances of methods that nothing exact is asked of
ROUGHLY = {"Forward-Mode": "tol=0.001,", "torchdeq-IFT": "f_tol=0.01,b_tol=0.01,"}
#: those that choose their steps themselves
OTHERS = sorted(plugins().keys() - {*gradient_methods(), *SEARCHES})
EVERY_ROW = (
    "value",
    "test_psnr",
    "test_ssim",
    "equilibrium_residual",
    "test_psnr_deployed",
    "gradient_error",
    "gradient_cosine",
    "reference_residual",
    "contraction",
    "state_residual",
    "layer_evals",
    "vjp_evals",
    "training_layer_evals",
    "training_vjp_evals",
)
LAST_ROW = (
    "gradient_seconds",
    "layer_seconds",
    "gradient_cost",
    "peak_memory_mib",
    "peak_device_mib",
)
PICTURES = ("reconstruction", "observation", "truth")
#: what depends on the seed alone; the rest are times, memory and versions
REPEATABLE = ["value", "test_psnr", "gradient_error", "state_residual", "training_layer_evals"]


# --- the runs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a finished ``benchopt run`` left: its output on the terminal, and its rows."""

    terminal: str
    parquet: Path
    rows: pd.DataFrame

    def of(self, method: str, *, repetition: int = 0, **parameters: object) -> pd.DataFrame:
        """The rows of one configuration in the order of the outer steps."""
        chosen = (self.rows["method"] == method) & (self.rows["idx_rep"] == repetition)
        for name, value in ({"evaluate_every": 1} | parameters).items():
            chosen &= self.rows[f"p_solver_{name}"] == value
        return self.rows[chosen].sort_values("outer_step", kind="stable").reset_index(drop=True)


def copy_plugins(folder: Path, *, package: bool) -> Path:
    """A copy of the plugins, and of the package where it is to be edited."""
    for name in (*PLUGINS, "benchmark") if package else PLUGINS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def environment(package: Path | None = None) -> dict[str, str]:
    """The variables of the processes: ``package`` comes first, nothing makes failures pass through.

    Where no package is named it is the one that is installed, or that these tests were told to
    find.
    """
    unset = ("BENCHOPT_DEBUG", "BENCHOPT_RAISE_ON_ERROR")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    variables["PATH"] = os.pathsep.join([str(BIN), variables["PATH"]])
    if package is not None:
        variables["PYTHONPATH"] = str(package)
    return variables


def write_config(path: Path, *, solvers: list[str], **options: object) -> Path:
    """A benchopt configuration on one small task; JSON is YAML. ``options`` change the task."""
    objective = {"lower": [LOWER], "dtype": ["float64"], "device": ["cpu"]}
    dataset = {"degradation": [DEGRADATION], "size": [8]}
    for name, value in options.items():
        (objective if name in objective else dataset)[name] = [value]
    config = {
        "seed": 0,
        "objective": [{"Learning at equilibrium": objective}],
        "dataset": [{"Simulated": dataset}],
        "solver": solvers,
    }
    path.write_text(json.dumps(config))
    return path


def run(copy: Path, config: Path, *options: object, output: str, cwd: Path) -> Run:
    """``benchopt run`` on the copy with its own package; it must end well."""
    parquet = copy / "outputs" / f"{output}.parquet"
    command = ("run", copy, "--config", config, "--output", parquet.name, *options)
    done = forked.run_module("benchopt", *command, cwd=cwd, environment=environment(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_results(parquet)
    rows.columns = [
        name if name == "objective_name" else name.removeprefix("objective_")
        for name in rows.columns
    ]
    return Run(done.stdout + done.stderr, parquet, rows)


def comment(path: Path) -> None:
    """Add a comment to the file."""
    path.write_text(path.read_text() + "# a comment\n")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The repository with two more solver files, in which a cost is timed in one round."""
    folder = copy_plugins(tmp_path_factory.mktemp("copy"), package=True)
    timed = folder / "benchmark" / "measure" / "cost.py"
    timed.write_text(re.sub(r"(?m)^TIMING_BUDGET = .*", "TIMING_BUDGET = 0.0", timed.read_text()))
    (folder / "solvers" / "damped.py").write_text(DAMPED)
    (folder / "solvers" / "failing.py").write_text(FAILING)
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Most solver files; one once more, evaluated less often, and one with another depth."""
    return write_config(
        tmp_path_factory.mktemp("config") / "study.yml",
        solvers=[
            *(f"{name}[{OFTEN}]" for name in (*TWICE, "Failing")),
            *(f"{name}[{ROUGHLY.get(name, '')}{ONCE}]" for name in METHODS if name not in TWICE),
            *(f"{name}[steps=1,evaluate_every=1]" for name in (*OTHERS, *SEARCHES)),
            f"Unrolling[{SELDOM}]",
            f"Damped[layers=5,steps=2,evaluate_every=2,{DESCENT}]",
        ],
    )


@pytest.fixture(scope="module")
def study(copy, config, tmp_path_factory) -> Run:
    """The study, started from an unrelated directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    return run(copy, config, "--no-plot", output="study", cwd=elsewhere)


@pytest.fixture(scope="module")
def after_report_edit(copy, config, study, tmp_path_factory) -> Run:
    """The same command again, a file of ``benchmark/report`` having changed."""
    comment(copy / "benchmark" / "report" / "frame.py")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    return run(copy, config, "--no-plot", output="again", cwd=elsewhere)


@pytest.fixture(scope="module")
def after_package_edit(copy, after_report_edit, tmp_path_factory) -> Run:
    """One method of it in two processes, with two repetitions, a file of the package changed."""
    edited = copy / "benchmark" / "imaging" / "metrics.py"
    edited.write_text(edited.read_text() + "EDITED = True\n")
    folder = tmp_path_factory.mktemp("parallel")
    config = write_config(folder / "parallel.yml", solvers=[f"DEQ[{OFTEN}]"])
    return run(copy, config, "--no-plot", "-j", 2, "-r", 2, output="parallel", cwd=folder)


# --- the rows of a run ------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS, *OTHERS])
def test_every_method_has_a_complete_row_for_every_evaluation(study, method):
    rows = study.of(method)
    steps = 2 if method in TWICE else 1
    assert list(rows["outer_step"]) == [0, 1, 2][: steps + 1]
    assert list(rows["status"]) == ["ok"] * (steps + 1)
    assert list(rows["message"]) == [""] * (steps + 1)
    assert np.isfinite(rows[list(EVERY_ROW)].to_numpy(dtype=float)).all()
    assert (rows["time"].diff()[1:] > 0).all()
    assert (rows["training_layer_evals"].diff()[1:] > 0).all()
    products = rows["training_vjp_evals"].diff()[1:]
    assert ((products > 0) == (rows["vjp_evals"] > 0).any()).all()


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_has_no_gradient_to_judge(study, method):
    rows = study.of(method)
    assert list(rows["outer_step"]) == [0, 1]
    assert list(rows["status"]) == ["ok"] * 2
    assert np.isfinite(rows[["value", "test_psnr", "test_psnr_deployed"]].to_numpy(float)).all()
    assert rows[["gradient_error", "gradient_seconds"]].isna().all(axis=None)
    assert (rows["value"].diff()[1:] <= 0).all()
    assert [rows[name].iloc[-1].shape for name in PICTURES] == [(8, 8, 3)] * 3


@pytest.mark.parametrize("method", [*METHODS, *OTHERS])
def test_costs_and_pictures_are_in_the_last_row_alone(study, method):
    rows = study.of(method)
    *earlier, last = (row for _, row in rows.iterrows())
    assert (last[list(LAST_ROW)].astype(float) >= 0).all()
    assert last["contended"] in (0, 1)
    assert [last[name].shape for name in PICTURES] == [(8, 8, 3)] * 3
    assert all(last[name].dtype == np.uint8 for name in PICTURES)
    for row in earlier:
        assert row[[*LAST_ROW, "contended", *PICTURES]].isna().all()


def test_rows_say_what_produced_them(study):
    for name in ("images_digest", "torch_version", "device_name", "threads"):
        assert study.rows[name].nunique() == 1
    assert (study.rows.groupby("method")["sources_digest"].nunique() == 1).all()
    assert study.rows["sources_digest"].nunique() == study.rows["method"].nunique()
    assert set(study.rows["torch_version"]) == {torch.__version__}
    assert all(re.fullmatch("[0-9a-f]{12}", digest) for digest in study.rows["sources_digest"])


def test_every_run_starts_from_the_same_theta(study):
    """Whatever ran before, failures included."""
    start = study.rows[study.rows["outer_step"] == 0]
    assert len(start) >= len(METHODS) + 5
    for column in ("value", "test_psnr", "test_ssim", "equilibrium_residual"):
        assert start[column].nunique() == 1


def test_the_oracle_of_the_gradient_errors(study):
    """An orthonormal ℓ1 norm and a stepsize of 1.5: the error of one layer's adjoint is 0.5."""
    assert study.of("JFB")["gradient_error"].to_numpy() == pytest.approx(KAPPA, rel=1e-6)
    for exact in ("DEQ", "Damped"):
        assert (study.of(exact)["gradient_error"] < 1e-8).all()
        assert study.of(exact)["contraction"].to_numpy() == pytest.approx(KAPPA, rel=1e-6)


def test_evaluating_less_often_changes_nothing(study):
    """Evaluation does not touch the solver: the θ after two steps is the same to the last bit."""
    often, seldom = study.of("Unrolling"), study.of("Unrolling", evaluate_every=2)
    pd.testing.assert_frame_equal(
        seldom[REPEATABLE].iloc[:2],
        often[REPEATABLE].iloc[[0, 2]].reset_index(drop=True),
        check_exact=True,
    )


def test_the_last_step_has_a_row_wherever_it_falls(study):
    rows = study.of("Unrolling", evaluate_every=2)
    assert list(rows["outer_step"]) == [0, 2, 3]
    assert list(rows["gradient_seconds"].notna()) == [False, False, True]


# --- the same numbers by hand -----------------------------------------------------------------


def haar(image: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform: approximation, details (N, 3, C, H/2, W/2)."""
    a, b, c, d = (image[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    details = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=1)
    return (a + b + c + d) / 2, details / 2


@dataclass(frozen=True)
class ByHand:
    """Denoising, where all is known in wavelet coefficients d: x* = soft(d, λ), λ = e^θ."""

    observed: Tensor
    wanted: Tensor
    approximation_error: Tensor

    @classmethod
    def of(cls, batch) -> ByHand:
        (low, observed), (low_wanted, wanted) = haar(batch.observation), haar(batch.truth)
        return cls(observed, wanted, ((low - low_wanted) ** 2).flatten(1).sum(1))

    def errors(self, details: Tensor) -> Tensor:
        """The mean squared error of each image; the transform is orthonormal."""
        squares = ((details - self.wanted) ** 2).flatten(1).sum(1) + self.approximation_error
        return squares / details[0].numel() * 3 / 4

    def equilibrium(self, theta: Tensor) -> Tensor:
        return soft(self.observed, theta.exp())

    def unrolled(self, theta: Tensor, *, layers: int) -> Tensor:
        tau, d = 1 + KAPPA, self.observed
        for _ in range(layers):
            d = soft(d - tau * (d - self.observed), tau * theta.exp())
        return d


def soft(d: Tensor, threshold: Tensor) -> Tensor:
    threshold = threshold.view(3, 1, 1, 1)
    return d.sign() * (d.abs() - threshold).clamp_min(0)


def seeded_task(copy: Path):
    """The task of the first repetition, its seed drawn as benchopt draws it."""
    (plugin,) = (cls for cls in Benchmark(copy).get_datasets() if cls.name == "Simulated")
    dataset = plugin.get_instance(size=8, degradation=DEGRADATION)
    RunContext().set_run_context("any", dataset, "any", repetition=0, base_seed=0)
    return make_task(**dataset.get_data(), lower=LOWER, probe_size=2)


def test_the_columns_agree_with_a_computation_by_hand(study, copy):
    """Two steps of gradient descent on Unrolling's gradient, the package giving only the data."""
    task = seeded_task(copy)
    train, test = ByHand.of(task.train), ByHand.of(task.test)
    theta = torch.full((3,), 0.05, dtype=torch.float64).log().requires_grad_()
    for _, row in study.of("Unrolling").iterrows():
        loss = train.errors(train.unrolled(theta, layers=10)).mean()
        value = train.errors(train.equilibrium(theta)).mean()
        (estimate,), (exact,) = (torch.autograd.grad(f, theta) for f in (loss, value))
        assert row["value"] == pytest.approx(value.item(), rel=1e-10)
        for column, d in {
            "test_psnr": test.equilibrium(theta),
            "test_psnr_deployed": test.unrolled(theta, layers=10),
        }.items():
            psnr = -10 * test.errors(d).log10().mean()
            assert row[column] == pytest.approx(psnr.item(), abs=1e-4)  # deepinv adds 1e-8 inside
        error = (estimate - exact).norm() / exact.norm()
        assert row["gradient_error"] == pytest.approx(error.item(), rel=1e-8)
        cosine = torch.cosine_similarity(estimate, exact, dim=0)
        assert row["gradient_cosine"] == pytest.approx(cosine.item(), rel=1e-10)
        theta = (theta - LEARNING_RATE * estimate).detach().requires_grad_()


# --- a new method -----------------------------------------------------------------------------


def test_a_new_file_is_in_the_report(study, tmp_path):
    """The damped iteration is in the tables with both depths, and in the figures, by depth too."""
    assert len(DAMPED.splitlines()) <= 25
    rows = pd.read_parquet(study.parquet)
    few = tmp_path / "few.parquet"  # figures take a time in proportion
    rows[rows["objective_method"].isin(["Damped", "Unrolling", "JFB", "DEQ"])].to_parquet(few)
    figures = ("accuracy", "gradient_error", "time")
    done = forked.run_module(
        *("benchmark.report", few, "--out", tmp_path / "out", "--only", *figures),
        cwd=tmp_path,
        environment=environment(),
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert table["method"].str.startswith("Damped").sum() == 2
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())["artefacts"]
    drawn = " ".join(part["name"] for part in made if "files" in part)
    for figure in figures:
        assert figure in drawn
    assert not [note for part in made for note in part.get("left_out", ()) if "Damped" in note]


def test_the_methods_are_those_of_every_kind():
    assert {*METHODS} - {"Damped"} <= gradient_methods().keys()


def test_every_method_is_in_the_page(study, copy):
    """With a column of each kind: a page's time is in proportion to columns and rows."""
    rows = pd.read_parquet(study.parquet)
    columns = rows.filter(regex="^objective_(?!name$)")
    kinds = {kind(columns[name]): name for name in columns} | {"": "objective_value"}
    assert len(kinds) > 4
    few = copy / "outputs" / "columns.parquet"
    once = rows.groupby("objective_method")["solver_name"].transform("first") == rows["solver_name"]
    rows[once].drop(columns=columns.columns.difference([*kinds.values()])).to_parquet(few)
    done = forked.run_module(
        *("benchopt", "plot", copy, "-f", few, "--no-display"),
        cwd=copy,
        environment=environment(copy),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed to plot" not in done.stdout + done.stderr
    (page,) = study.parquet.parent.glob("*columns*.html")
    assert all(method in page.read_text() for method in (*METHODS, *OTHERS, *SEARCHES))


def kind(column: pd.Series) -> tuple[object, ...]:
    """What a column holds, as far as a page could care: types, and what is missing."""
    numbers = pd.api.types.is_numeric_dtype(column)
    held = frozenset() if numbers else frozenset(type(value).__name__ for value in column)
    return column.dtype, held, bool(column.isna().any()), bool(column.isna().all())


@pytest.mark.parametrize(
    "contract",
    [
        test_methods.test_importable,
        test_methods.test_takes_a_layer_it_has_never_seen,
        test_methods.test_samples_are_independent,
        test_methods.test_repeats_itself,
        test_methods.test_float32_stays_float32,
        test_methods.test_no_graph_where_gradients_are_disabled,
        test_methods.test_parameters_that_do_not_influence_the_state_get_zero,
    ],
)
def test_a_new_file_meets_the_contract_of_a_plugin(copy, contract):
    (plugin,) = (cls for cls in Benchmark(copy).get_solvers() if cls.name == "Damped")
    contract(plugin)


# --- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "steps", "status", "message"),
    [
        ("nan", [0, 1, 1], "diverged", r"DivergedError: the gradient is not finite at outer"),
        ("allocate", [0, 1, 1], "oom", r"^RuntimeError: .*can't allocate memory"),
        ("oom", [0, 0], "oom", r"^OutOfMemoryError: CUDA out of memory: as the test"),
    ],
)
def test_a_failed_run_is_a_row_that_says_why(study, how, steps, status, message):
    """The rows before it are kept; what is still known of θ is in the last."""
    rows = study.of("Failing", how=how)
    assert list(rows["outer_step"]) == steps
    last = rows.iloc[-1]
    assert last["status"] == status
    assert re.search(message, last["message"])
    assert np.isfinite(rows["value"]).all()
    assert last["value"] == rows["value"][steps[-1]]
    if how != "oom":
        assert list(rows["status"][:-1]) == ["ok"] * (len(rows) - 1)
        assert np.isfinite(rows[list(EVERY_ROW)].to_numpy(dtype=float)).all()


def test_a_method_that_cannot_be_called_has_no_estimates(study):
    """It can still deploy; its gradient and its costs are missing, in all rows."""
    rows = study.of("Failing", how="oom")
    assert list(rows["status"]) == ["oom", "oom"]
    assert rows[["gradient_error", "layer_evals", "gradient_seconds"]].isna().all(axis=None)
    assert np.isfinite(rows[["value", "test_psnr", "test_psnr_deployed"]].to_numpy()).all()


# --- the cache, and runs beside each other ----------------------------------------------------


def test_a_second_run_takes_its_rows_from_the_cache(study, after_report_edit):
    """Times included; a change of the report, which only reads results, does not matter."""
    assert "(cached)" in after_report_edit.terminal
    order = ["solver_name", "stop_val"]
    first, second = (r.rows.sort_values(order) for r in (study, after_report_edit))
    assert list(first["time"]) == list(second["time"])
    assert list(first["gradient_seconds"].dropna()) == list(second["gradient_seconds"].dropna())


def test_a_change_of_the_package_makes_the_cache_void(study, after_package_edit):
    assert "(cached)" not in after_package_edit.terminal
    before, after = study.of("DEQ"), after_package_edit.of("DEQ")
    assert not set(before["time"]) & set(after["time"])
    assert not set(before["sources_digest"]) & set(after["sources_digest"])


def test_the_same_seed_gives_the_same_numbers_in_parallel_too(study, after_package_edit):
    """One process or two, one repetition asked for or two: identical to the last bit."""
    alone, parallel = study.of("DEQ"), after_package_edit.of("DEQ")
    pd.testing.assert_frame_equal(alone[REPEATABLE], parallel[REPEATABLE], check_exact=True)
    assert set(alone["images_digest"]) == set(parallel["images_digest"])


def test_repetitions_have_images_of_their_own(after_package_edit):
    first, second = (after_package_edit.of("DEQ", repetition=i) for i in (0, 1))
    assert len(first) == len(second) == 3
    assert not set(first["images_digest"]) & set(second["images_digest"])
    assert not set(first["value"]) & set(second["value"])


# --- what is said when something is wrong -----------------------------------------------------


def test_the_message_about_a_bad_value_reaches_the_terminal(tmp_path):
    """In a process of its own."""
    copy_plugins(tmp_path, package=False)
    config = write_config(tmp_path / "bad.yml", solvers=["Unrolling"], device="quantum")
    command = ("run", ".", "--config", config, "--no-cache", "--no-plot")
    done = forked.run_module("benchopt", *command, cwd=tmp_path, environment=environment())
    assert done.returncode != 0
    assert "unknown device 'quantum': expected auto, cpu, cuda or cuda:i" in (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lower", "wavelet_l7", r"unknown lower level 'wavelet_l7': expected one of .*wavelet_l1"),
        ("size", 9, r"9×9 pixels cannot .*: both sides must be multiples of 2\^1 = 2"),
        ("n_test", 0, r"must be an integer of at least 1, got 0"),
        ("degradation", "denoising(sigma=-1)", r"sigma must be a number of at least 0, got -1"),
    ],
)
def test_bad_values_are_named(copy, tmp_path, name, value, message):
    """In this process, without the start of another: an exception ends on the terminal."""
    config = write_config(tmp_path / "bad.yml", solvers=["Unrolling"], **{name: value})
    command = [str(copy), "--config", str(config), "--no-cache", "--no-plot"]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code != 0
    assert re.search(message, f"{result.output}\n{result.exception}")


def test_images_that_are_not_there_stop_nobody_else(copy, tmp_path):
    """A dataset without its files is skipped with the reason; the next one runs."""
    config = tmp_path / "config.yml"
    config.write_text(
        json.dumps(
            {
                "objective": [{"Learning at equilibrium": {"lower": ["tikhonov(levels=1)"]}}],
                "dataset": [{"Folder": {"path": ["nowhere"]}}, {"Simulated": {"size": [8]}}],
                "solver": [{"Unrolling": {"steps": [0]}}],
            }
        )
    )
    parquet = tmp_path / "rows.parquet"
    command = [str(copy), "--config", str(config), "--no-plot", "--output", str(parquet)]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code == 0, result.output
    assert "Folder: there is no folder" in result.output
    (name,) = read_results(parquet)["dataset_name"].unique()
    assert name.startswith("Simulated")


# --- benchopt's own tests ---------------------------------------------------------------------


def test_benchopt_accepts_every_plugin(tmp_path):
    """``benchopt test``, on the plugins alone: the package is found where it is installed."""
    copy_plugins(tmp_path, package=False)
    done = forked.benchopt_test(".", "--skip-install", cwd=tmp_path, environment=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_every_plugin_is_importable():
    for plugin in [*plugins().values(), *Benchmark(ROOT).get_datasets()]:
        assert plugin.is_installed(raise_on_not_installed=True)
