"""The benchmark as benchopt runs it: in processes of their own, on a copy of the repository.

One study (a plugin of each kind, one more that is dropped in, one that fails in four ways) is run
once and looked at by most tests; two repeats of it show what the cache does. The processes are
forks of this one (``forked``).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
import test_contract
import torch
from benchopt.benchmark import Benchmark
from benchopt.utils.run_context import RunContext
from benchopt_runs import (
    DAMPED,
    DEGRADATION,
    FAILING,
    KAPPA,
    LOWER,
    Run,
    comment,
    copy_plugins,
    environment,
    run,
    write_config,
)
from conftest import gradient_methods, plugins, searches
from oracles import ByHand

from benchmark.plugins.task import make_task

LEARNING_RATE = 100.0
#: Adam's first steps would be the same for all methods
DESCENT = f"optimizer=gradient_descent,learning_rate={LEARNING_RATE}"
OFTEN = f"steps=2,evaluate_every=1,{DESCENT}"
ONCE = f"steps=1,evaluate_every=1,{DESCENT}"
SELDOM = f"steps=3,evaluate_every=2,{DESCENT}"
#: of the gradient methods one of each kind: a state, a pair, one that is dropped in. The columns of
#: all of them are asked for in ``test_several_operators``, the rest in ``test_contract``
METHODS = ("Unrolling", "JFB", "DEQ", "Damped")
SEARCHES = sorted(searches())
#: those that take two steps, and not one
TWICE = ("Unrolling", "DEQ", "Damped")
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
            *(f"{name}[{ONCE}]" for name in METHODS if name not in TWICE),
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
    config = write_config(folder / "parallel.yml", solvers=[f"JFB[{ONCE}]"])
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
        loss = train.errors(train.unrolled(theta, layers=10, tau=1 + KAPPA)).mean()
        value = train.errors(train.equilibrium(theta)).mean()
        (estimate,), (exact,) = (torch.autograd.grad(f, theta) for f in (loss, value))
        assert row["value"] == pytest.approx(value.item(), rel=1e-10)
        for column, d in {
            "test_psnr": test.equilibrium(theta),
            "test_psnr_deployed": test.unrolled(theta, layers=10, tau=1 + KAPPA),
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
    figures = ("gradient_error", "time")
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
        test_contract.test_importable,
        test_contract.test_takes_a_layer_it_has_never_seen,
        test_contract.test_samples_are_independent,
        test_contract.test_repeats_itself,
        test_contract.test_float32_stays_float32,
        test_contract.test_no_graph_where_gradients_are_disabled,
        test_contract.test_parameters_that_do_not_influence_the_state_get_zero,
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
    before, after = study.of("JFB"), after_package_edit.of("JFB")
    assert not set(before["time"]) & set(after["time"])
    assert not set(before["sources_digest"]) & set(after["sources_digest"])


def test_the_same_seed_gives_the_same_numbers_in_parallel_too(study, after_package_edit):
    """One process or two, one repetition asked for or two: identical to the last bit."""
    alone, parallel = study.of("JFB"), after_package_edit.of("JFB")
    pd.testing.assert_frame_equal(alone[REPEATABLE], parallel[REPEATABLE], check_exact=True)
    assert set(alone["images_digest"]) == set(parallel["images_digest"])


def test_repetitions_have_images_of_their_own(after_package_edit):
    first, second = (after_package_edit.of("JFB", repetition=i) for i in (0, 1))
    assert len(first) == len(second) == 2
    assert not set(first["images_digest"]) & set(second["images_digest"])
    assert not set(first["value"]) & set(second["value"])
