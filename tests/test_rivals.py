"""The methods of other libraries, through their own solvers: each computes what it says it does."""

from __future__ import annotations

import copy
import gc
import json
import re
import sys
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchopt.benchmark import Benchmark
from benchopt.cli.main import run as benchopt_run
from benchopt.results import read_results
from benchopt_runs import copy_plugins
from click.testing import CliRunner
from conftest import ROOT, plugins, small_task
from oracles import AffineLayer, relative_error
from shared import CHEAP, known_to, small_reference, without_costs
from torch import nn

from benchmark.measure.counting import CountedLayer
from benchmark.measure.evaluation import evaluate
from benchmark.measure.truth import Truth
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.convergence import NotConverged

pytest.importorskip("torchdeq")

PEERS = {cls.name: cls for cls in Benchmark(ROOT).get_solvers()}
TORCHDEQ_SOLVERS = ("fixed_point_iter", "anderson", "broyden")
LOWER = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)"


def torchdeq_ift(solver: str, tol: float, **options):
    parameters = {"f_solver": solver, "b_solver": solver, "f_tol": tol, "b_tol": tol} | options
    return PEERS["torchdeq-IFT"].get_instance(**parameters)


def deepinv_deq(tol: float, **options):
    return PEERS["deepinv-DEQ"].get_instance(thres_conv=tol, **options)


#: the exact methods at a tolerance, as functions of it
EXACT = {
    **{
        f"torchdeq {name}": (lambda tol, name=name: torchdeq_ift(name, tol))
        for name in TORCHDEQ_SOLVERS
    },
    "deepinv": deepinv_deq,
    "deepinv anderson": lambda tol: deepinv_deq(tol, anderson=True, eps=1e-12),
}


def cost_and_gradient(estimator, oracle: AffineLayer) -> tuple[CountedLayer, torch.Tensor]:
    """T with what was called of it, and the gradient."""
    T = CountedLayer(oracle.layer())
    x = estimator.equilibrium(T, torch.zeros_like(oracle.y))
    return T, torch.autograd.grad(oracle.loss(x), oracle.theta)[0]


# --- what they compute ------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
def test_the_error_follows_the_tolerance(name):
    """κ = 0.9 multiplies a residual by 10 at most; a tighter tolerance costs more of both."""
    oracle = AffineLayer.make(kappa=0.9)
    before = None
    for tol in (1e-3, 1e-6, 1e-9):
        T, gradient = cost_and_gradient(EXACT[name](tol), oracle)
        error = relative_error(gradient, oracle.gradient())
        assert error < 10 * tol
        if before is not None:
            assert error < before[0]
            assert T.layer_evals > before[1]
            assert T.vjp_evals > before[2]
        before = error, T.layer_evals, T.vjp_evals


@pytest.mark.parametrize("tau", [1.0, 0.6])
@pytest.mark.parametrize("grad", [1, 4])
@pytest.mark.parametrize("f_solver", TORCHDEQ_SOLVERS)
def test_the_phantom_gradient_is_its_series(f_solver, grad, tau):
    oracle = AffineLayer.make(kappa=0.8)
    options = {"f_solver": f_solver, "f_tol": 1e-12, "grad": grad, "tau": tau}
    _, gradient = cost_and_gradient(PEERS["torchdeq-Phantom"].get_instance(**options), oracle)
    # Σ_{k<K} τBᵀ((1−τ)I + τMᵀ)ᵏ∇ℓ
    power = (oracle.equilibrium() - oracle.target).flatten(1).T
    eye = torch.eye(len(oracle.matrix), dtype=torch.float64)
    step = (1 - tau) * eye + tau * oracle.matrix.T
    w = torch.zeros_like(power)
    for _ in range(grad):
        w, power = w + tau * power, step @ power
    assert relative_error(gradient, (oracle.injection.T @ w).sum(1)) < 1e-10


@pytest.mark.parametrize("anderson", [False, True])
def test_the_jacobian_free_mode_is_the_first_term(anderson):
    oracle = AffineLayer.make(kappa=0.8)
    options = {"thres_conv": 1e-12, "anderson": anderson, "eps": 1e-12}
    estimator = PEERS["deepinv-JFB"].get_instance(**options)
    T, gradient = cost_and_gradient(estimator, oracle)
    assert relative_error(gradient, oracle.gradient(terms=1)) < 1e-9
    assert T.vjp_evals == 1


@pytest.mark.parametrize("name", EXACT)
def test_on_a_wavelet_task(name):
    task = small_task(lower=LOWER, degradation="inpainting(keep=0.5)")
    reference = small_reference(lower=LOWER, degradation="inpainting(keep=0.5)")
    errors = []
    for tol in (1e-4, 1e-7):
        found = EXACT[name](tol).hypergradient(task.lower, task.probe)
        flat = torch.cat([g.flatten() for g in found.gradient])
        errors.append(relative_error(flat, reference.gradient))
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 10


# --- what their options do --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(
    ("option", "layers", "vjps"),
    [
        ({"f_tol": 1e-4}, True, False),
        ({"f_max_iter": 5}, True, False),
        ({"f_solver": "anderson"}, True, False),
        ({"b_tol": 1e-4}, False, True),
        ({"b_max_iter": 5}, False, True),
        ({"b_solver": "anderson"}, False, True),
    ],
)
def test_each_option_of_torchdeq_changes_its_own_solve(option, layers, vjps):
    oracle = AffineLayer.make(kappa=0.9)
    plain, _ = cost_and_gradient(torchdeq_ift("fixed_point_iter", 1e-8), oracle)
    changed, _ = cost_and_gradient(torchdeq_ift("fixed_point_iter", 1e-8, **option), oracle)
    assert (plain.layer_evals != changed.layer_evals) == layers
    assert (plain.vjp_evals != changed.vjp_evals) == vjps


def test_the_options_of_torchdeqs_anderson_reach_both_solves():
    """And do not outlive the call: torchdeq's table of solvers is shared."""
    oracle = AffineLayer.make(kappa=0.9)

    def calls(**options):
        T, _ = cost_and_gradient(torchdeq_ift("anderson", 1e-8, **options), oracle)
        return T.layer_evals, T.vjp_evals

    plain = calls()
    for option in ({"lam": 10.0}, {"m": 2}):
        assert all(a != b for a, b in zip(calls(**option), plain, strict=True))
    assert calls() == plain


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(
    ("option", "layers", "vjps"),
    [
        ({"thres_conv": 1e-4}, True, True),
        ({"max_iter": 5}, True, False),
        ({"max_iter_backward": 5}, False, True),
        ({"anderson": False}, True, True),
        ({"history_size": 2}, True, True),
        ({"eps": 10.0}, True, True),
    ],
)
def test_each_option_of_deepinv_changes_what_is_called(option, layers, vjps):
    oracle = AffineLayer.make(kappa=0.9)
    options = {"thres_conv": 1e-8, "anderson": True, "history_size": 10, "eps": 1e-12}
    plain, _ = cost_and_gradient(PEERS["deepinv-DEQ"].get_instance(**options), oracle)
    changed, _ = cost_and_gradient(PEERS["deepinv-DEQ"].get_instance(**options | option), oracle)
    assert (plain.layer_evals != changed.layer_evals) == layers
    assert (plain.vjp_evals != changed.vjp_evals) == vjps


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("torchdeq-IFT", "f_solver", "newton", "f_solver must be one of anderson, broyden, "),
        ("torchdeq-IFT", "b_max_iter", 0, "b_max_iter must be an integer of at least 1, got 0"),
        ("torchdeq-Phantom", "grad", 0, "grad must be an integer of at least 1, got 0"),
        ("torchdeq-Phantom", "tau", 0, "tau must be a positive number, got 0"),
        ("deepinv-DEQ", "thres_conv", 0, "thres_conv must be a positive number, got 0"),
        ("deepinv-JFB", "anderson", 1, "anderson must be True or False, got 1"),
    ],
)
def test_bad_parameters_are_named(name, parameter, value, expected):
    with pytest.raises(ValueError) as raised:
        PEERS[name].get_instance(**{parameter: value})
    assert expected in str(raised.value)


# --- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("torchdeq-IFT", "f_max_iter", "b_max_iter"),
        ("deepinv-DEQ", "max_iter", "max_iter_backward"),
    ],
)
def test_a_solve_that_stops_early_says_so(name, forward, backward):
    oracle = AffineLayer.make(kappa=0.9)
    for option, what in {forward: "the equilibrium", backward: "the adjoint system"}.items():
        with pytest.warns(NotConverged) as caught:
            cost_and_gradient(PEERS[name].get_instance(**{option: 5}), oracle)
        (warning,) = caught
        assert str(warning.message).startswith(f"{what} did not converge")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost_and_gradient(PEERS[name].get_instance(), oracle)


class Cubic(LowerLevelProblem):
    """T(x) = x/2 + cubic·x³ + θy: a contraction without its cubic, with it every step overflows."""

    def __init__(self, *, cubic: float) -> None:
        super().__init__()
        self.cubic = cubic
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def init(self, y):
        return y

    def step(self, x, y):
        return x / 2 + self.cubic * x**3 + self.weight * y

    def reconstruct(self, x):
        return x


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(("torchdeq-IFT", {"f_solver": s, "b_solver": s}) for s in TORCHDEQ_SOLVERS),
        ("torchdeq-Phantom", {}),
        ("deepinv-DEQ", {"anderson": True}),
        ("deepinv-JFB", {}),
    ],
)
@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
def test_a_failure_is_a_row_with_its_status(name, parameters, monkeypatch):
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    task = small_task(lower=LOWER, size=8)
    sound, explosive = (replace(task, lower=Cubic(cubic=c)) for c in (0.0, 1e60))
    plugin = PEERS[name]
    solver = plugin.get_instance(steps=1, **parameters, **known_to(plugin, CHEAP))
    solver.set_objective(explosive)
    solver.warm_up()
    solver.run(lambda: True)
    result = solver.get_result()
    assert result["training"].status in ("diverged", "error")
    assert result["training"].message
    seen = {"theta": result["theta"], "training": result["training"], "last": False}
    row = evaluate(solver, truth=Truth(sound), task=explosive, **seen)
    assert row["status"] == result["training"].status
    assert np.isnan(row["gradient_error"])
    assert np.isfinite(row["value"])


def test_a_library_that_is_absent_is_skipped_with_the_reason(tmp_path, monkeypatch):
    """The other methods run; what is asked of the absent one is read from its literals."""
    without_costs(monkeypatch)
    monkeypatch.setitem(sys.modules, "torchdeq", None)
    monkeypatch.delitem(sys.modules, "benchmark.plugins.torchdeq_method", raising=False)
    copy_plugins(tmp_path, package=False)
    config = tmp_path / "config.yml"
    options = {"steps": [0], "f_max_iter": [5]}
    absent = [{"torchdeq-IFT": options}, {"torchdeq-Phantom": options}]
    config.write_text(
        json.dumps(
            {
                "objective": [{"Learning at equilibrium": {"lower": ["tikhonov(levels=1)"]}}],
                "dataset": [{"Simulated": {"size": [8]}}],
                "solver": [*absent, {"Unrolling": {"steps": [0]}}],
            }
        )
    )
    parquet = tmp_path / "rows.parquet"
    command = [str(tmp_path), "--config", str(config), "--no-plot", "--output", str(parquet)]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code == 0, result.output
    assert "ModuleNotFoundError: import of torchdeq" in result.output
    for name in ("torchdeq-IFT", "torchdeq-Phantom"):
        assert re.search(rf"{name}:\S* \S*not installed", result.output)
    (method,) = read_results(parquet)["objective_method"].unique()
    assert method == "Unrolling"


OPTIONS = {"deepinv-DEQ": {"anderson": True}, "deepinv-JFB": {"anderson": True}}


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    "name", [name for name, cls in plugins().items() if "warm_start" in cls.parameters]
)
def test_layers_and_their_images_are_gone_with_the_estimate(name, warm_start):
    """Without the collector: models of deepinv are cycles, and held T and y until it came by."""
    task = small_task(lower="tikhonov(levels=1)", size=8)
    for options in ({}, *([OPTIONS[name]] if name in OPTIONS else [])):
        method = plugins()[name].get_instance(warm_start=warm_start, **options)
        method.set_objective(task.learning)
        if method.unfit(task.learning):
            pytest.skip("needs another layer")
        lower, y = copy.deepcopy(task.lower), task.probe.observation.clone()
        batch = replace(task.probe, observation=y)
        gone = weakref.ref(lower), weakref.ref(y)
        gc.disable()
        try:
            for _ in range(2):
                assert method.mean_hypergradient(lower, batch).state.isfinite().all()
            method.deployed(lower, y)
            del lower, y, batch
            assert [there() for there in gone] == [None, None]
        finally:
            gc.enable()
