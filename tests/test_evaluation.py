"""What is measured is what its name says, and measuring leaves no trace."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from functools import partial
from math import inf, isfinite, isnan

import numpy as np
import pytest
import torch
from conftest import small_task
from evaluated import ACCURACY, COST, ESTIMATE, INPAINTING, RIDGE, TIGHT, row_of, theta_of
from oracles import LayerProblem
from shared import method
from torch import Tensor

from benchmark.imaging import metrics
from benchmark.measure import evaluation
from benchmark.measure import truth as truths
from benchmark.measure.failure import Outcome
from benchmark.measure.reference import true_equilibrium
from benchmark.measure.truth import Truth
from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.problems.bilevel import BilevelTask, upper_loss
from benchmark.solve.fixed_point import iterate


@pytest.fixture(scope="module")
def task() -> BilevelTask:
    """A layer that contracts, by 0.9 at worst."""
    return small_task(lower=RIDGE, degradation=INPAINTING)


@pytest.fixture(scope="module")
def truth(task) -> Truth:
    return Truth(task)


# --- the columns ------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_fixed_point(task, truth):
    """F and the PSNR from six hundred plain iterations and the definitions.

    They are solved for until these figures are settled, no further.
    """
    found = truth.accuracy(theta_of(task))
    with torch.no_grad():
        train, test = (
            iterate(task.lower.layer(b.observation), task.lower.init(b.observation), steps=600)
            for b in (task.train, task.test)
        )
    assert found.value == pytest.approx(float(((train - task.train.truth) ** 2).mean()), rel=1e-5)
    psnr = -10 * ((test - task.test.truth) ** 2).mean(dim=(1, 2, 3)).log10().mean()
    assert found.test_psnr == pytest.approx(float(psnr), abs=1e-3)
    assert found.test_ssim == pytest.approx(metrics.ssim(test, task.test.truth), abs=1e-4)
    assert found.equilibrium_residual <= truths.FIRST_TOL


def test_accuracy_where_the_equilibrium_is_hard_to_find():
    """A layer whose displacement is bounded: far out, ‖T(x) − x‖ is small beside ‖x‖."""
    spec = "wavelet_l1(wavelet='haar',levels=2,stepsize=1.9,per_channel=True)"
    task = small_task(lower=spec, degradation=INPAINTING, size=8)
    batch = task.train
    with torch.no_grad():
        T = task.lower.layer(batch.observation)
        x = iterate(T, task.lower.init(batch.observation), steps=1000)
        assert metrics.relative_residual(T(x), x) < 1e-8
        expected = upper_loss(task.lower, x, batch)
    found = Truth(task).accuracy(theta_of(task))
    assert found.value == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("step", [1.0, 1e-3])
def test_a_layer_without_equilibrium_is_a_diverged_run(step, task, no_debug, monkeypatch):
    """x + θ has no fixed point, but far out rounding makes one: the row says so, without a PSNR."""
    for name in ("true_equilibrium", "reference_hypergradient"):
        monkeypatch.setattr(truths, name, partial(getattr(truths, name), max_layers=200))
    theta = torch.full((), step, dtype=torch.float64)
    drifting = LayerProblem(theta, lambda theta, x, y: x + theta)
    task = replace(task, lower=drifting)
    row = row_of(method("Unrolling"), task, truth=Truth(task))
    assert row["status"] == "diverged"
    assert "the layer has no equilibrium within reach" in row["message"]
    assert all(isnan(row[name]) for name in (*ACCURACY, "gradient_error", "gradient_cosine"))
    assert row["reference_residual"] == inf
    assert isfinite(row["test_psnr_deployed"])


def test_one_sample_without_equilibrium_is_enough():
    """Among many that have one, a mean over them all would hide it."""
    y = torch.zeros(200, 4, dtype=torch.float64)
    y[0] = 1

    def layer(theta, x, y):
        return torch.where(y > 0, x + 0.01, 0.5 * x + theta)

    one = torch.ones((), dtype=torch.float64)
    found = true_equilibrium(LayerProblem(one, layer), y, tol=1e-8, max_layers=300)
    assert found.residual > 1e-4
    assert torch.allclose(found.x[1:], torch.full((), 2.0, dtype=torch.float64))


def test_samples_that_are_slow_to_converge_go_on_alone():
    """x ← y·x + 1, entry by entry: three samples, of which the second has rates close to 1."""
    y = torch.linspace(0, 1, 300, dtype=torch.float64) * torch.tensor([[0.1], [0.9999], [0.5]])
    batches = []

    def layer(theta, x, y):
        if x.dtype == torch.float64:  # float32 leads up to it
            batches.append(len(x))
        return y * x + theta

    one = torch.ones((), dtype=torch.float64)
    found = true_equilibrium(LayerProblem(one, layer), y, tol=1e-10)
    assert torch.allclose(found.x, 1 / (1 - y), rtol=1e-5)
    # at first together, then the slow one; the last two for the residuals of all
    together = batches.index(1)
    assert set(batches[:together]) == {3}
    assert set(batches[together:-2]) == {1}


@pytest.mark.parametrize("degradation", ["denoising(sigma=0.1)", INPAINTING])
def test_an_exact_method_has_no_error(degradation):
    task = small_task(lower=RIDGE, degradation=degradation)
    row = row_of(method("DEQ", **TIGHT), task)
    assert row["status"] == "ok"
    assert row["gradient_error"] < 1e-8
    assert row["gradient_cosine"] == pytest.approx(1, abs=1e-12)
    assert row["state_residual"] < 1e-12
    assert row["reference_residual"] < 1e-10
    assert row["test_psnr_deployed"] == pytest.approx(row["test_psnr"], abs=1e-3)
    assert 0 < row["contraction"] < 1


def test_estimates_are_at_the_theta_that_is_given(task, truth):
    """Not at that of the task: there, another gradient would be compared with the reference."""
    theta = {name: value + 0.5 for name, value in theta_of(task).items()}
    solver = method("DEQ", **TIGHT)
    here, there = (row_of(solver, task, theta=t, truth=truth) for t in (None, theta))
    assert here["value"] != there["value"]
    assert there["gradient_error"] < 1e-8


def test_an_untrusted_reference_judges_no_gradient():
    """The adjoint does not converge: no error, no cosine, but all else, and the row is ok."""
    spec = "wavelet_l1(wavelet='haar',levels=2,stepsize=1.9,per_channel=True)"
    row = row_of(method("Unrolling"), small_task(lower=spec, degradation=INPAINTING))
    assert isnan(row["gradient_error"])
    assert isnan(row["gradient_cosine"])
    assert row["reference_residual"] > 1e-6
    assert row["state_residual"] > 0
    assert (row["layer_evals"], row["status"]) == (10, "ok")


@pytest.mark.parametrize(
    ("name", "parameters", "layer_evals", "vjp_evals"),
    [
        ("Unrolling", {"layers": 1}, 1, 1),
        ("Unrolling", {"layers": 7}, 7, 7),
        ("Restarted-JFB", {"layers": 3, "restarts": 0}, 3, 3),
        ("Restarted-JFB", {"layers": 3, "restarts": 4}, 15, 3),
    ],
)
def test_evaluations_are_counted_exactly(task, truth, name, parameters, layer_evals, vjp_evals):
    row = row_of(method(name, **parameters), task, truth=truth)
    assert (row["layer_evals"], row["vjp_evals"]) == (layer_evals, vjp_evals)


def test_jfb_takes_one_layer_and_one_product_more_than_its_solve(task, truth):
    solver, steps = method("JFB", tol=1e-6), []

    def counting(x: Tensor) -> Tensor:
        steps.append(torch.is_grad_enabled())
        return task.lower.step(x, task.probe.observation)

    solver.equilibrium(counting, task.lower.init(task.probe.observation))
    row = row_of(solver, task, truth=truth)
    assert steps == [False] * (len(steps) - 1) + [True]
    assert (row["layer_evals"], row["vjp_evals"]) == (len(steps), 1)


# --- once, and without a trace ----------------------------------------------------------------


def test_the_truth_is_computed_once_for_each_theta(task, monkeypatch):
    calls = []

    def counted(name: str):
        inner = getattr(truths, name)

        def call(*arguments, **options):
            calls.append(name)
            return inner(*arguments, **options)

        return call

    for name in ("reference_hypergradient", "true_equilibrium"):
        monkeypatch.setattr(truths, name, counted(name))
    truth = Truth(task)
    first = row_of(method("Unrolling", layers=2), task, truth=truth)
    once = len(calls)
    assert set(calls) == {"reference_hypergradient", "true_equilibrium"}
    second = row_of(method("Unrolling", layers=5), task, truth=truth)
    assert len(calls) == once
    assert [first[c] for c in ACCURACY] == [second[c] for c in ACCURACY]
    moved = {name: value + 1e-9 for name, value in theta_of(task).items()}
    row_of(method("Unrolling"), task, theta=moved, truth=truth)
    assert len(calls) >= 2 * once - 1


def random_states() -> tuple:
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


def tensors_of(task: BilevelTask) -> dict[str, Tensor]:
    batches = {"train": task.train, "test": task.test, "probe": task.probe}
    data = {f"{name} truth": batch.truth for name, batch in batches.items()}
    data |= {f"{name} observation": batch.observation for name, batch in batches.items()}
    return data | task.lower.state_dict() | {f"θ {k}": v for k, v in task.lower.theta().items()}


def test_evaluation_leaves_no_trace(task):
    """Costs and pictures included: the task, the method, θ and every generator are as before."""
    solver, theta = method("Restarted-JFB", layers=3, restarts=2), theta_of(task)
    solver.set_objective(task)
    solver.run(iter([True, True, False]).__next__)
    layers = solver.counted.layer_evals
    before = copy.deepcopy((tensors_of(task), theta, solver.lower))
    states, attributes = random_states(), dict(vars(solver))
    row_of(solver, task, theta=theta, last=True)
    assert random_states() == states
    tensors, theta_before, lower = before
    for name, value in tensors_of(task).items():
        assert torch.equal(value, tensors[name]), name
        assert value.grad is None
    for name, value in theta_before.items():
        assert torch.equal(theta[name], value)
        assert torch.equal(solver.lower.theta()[name], lower.theta()[name])
    assert vars(solver) == attributes
    assert solver.counted.layer_evals == layers


def test_figures_are_settled_long_before_their_states(task, truth, monkeypatch):
    """Solved as far as they ever are, they are the same in what is printed of them."""
    theta = theta_of(task)
    found = truth.accuracy(theta)
    monkeypatch.setattr(truths, "SETTLED", (0.0, 0.0))
    far = Truth(task).accuracy(theta)
    assert far.equilibrium_residual <= truths.EQUILIBRIUM_TOL < found.equilibrium_residual
    assert found.value == pytest.approx(far.value, rel=3e-5)
    assert found.test_psnr_images == pytest.approx(far.test_psnr_images, abs=1e-3)


def test_a_reference_is_as_exact_as_is_enough(task, truth):
    exact = truth.reference(theta_of(task))
    rough = Truth(task, enough=1e-4).reference(theta_of(task))
    assert exact.error < rough.error <= 1e-4
    difference = (rough.gradient - exact.gradient).norm() / exact.gradient.norm()
    assert 0 < difference <= rough.error


# --- failures ---------------------------------------------------------------------------------


class Raising(StateMethod):
    """Cannot be differentiated, but can be deployed."""

    name = "Raising"

    def equilibrium(self, T, x0):
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no room for the graph")
        return iterate(T, x0, steps=5)


class Nan(StateMethod):
    """Diverges silently, as an expanding iteration does."""

    name = "Nan"

    def equilibrium(self, T, x0):
        return T(x0) * torch.inf


@pytest.fixture
def no_debug(monkeypatch):
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)


def test_a_theta_that_is_not_finite_is_a_diverged_run(task, truth):
    theta = {name: value * torch.nan for name, value in theta_of(task).items()}
    row = row_of(method("Unrolling"), task, theta=theta, truth=truth, last=True)
    assert (row["status"], row["message"]) == ("diverged", "θ is not finite")
    columns = (*ACCURACY, "test_psnr_deployed", *ESTIMATE, *COST, "contended", "contraction")
    assert all(isnan(row[name]) for name in columns)
    assert all(row[name] is None for name in ("reconstruction", "observation", "truth"))


class Own:
    """Neither a plugin nor a class of this package."""

    def deployed(self, lower, y):
        return iterate(lower.layer(y), lower.init(y), steps=3)


class OwnWithGradients(Own):
    def hypergradient_on_probe(self, lower, batch):
        return method("Unrolling", layers=3).hypergradient(lower, batch)


def test_a_method_is_told_by_what_it_can_do(task, truth):
    """The gradient's columns are those of methods that estimate it, whatever their class."""
    search, gradient = (row_of(own, task, truth=truth) for own in (Own(), OwnWithGradients()))
    assert search["status"] == gradient["status"] == "ok"
    assert search["test_psnr_deployed"] == gradient["test_psnr_deployed"] > 0
    assert all(isnan(search[name]) for name in ESTIMATE)
    assert (gradient["layer_evals"], gradient["vjp_evals"]) == (3, 3)
    assert isfinite(search["reference_residual"])


def test_a_small_theta_is_in_the_row(task, truth, monkeypatch):
    row = row_of(method("JFB"), task, truth=truth)
    learned = json.loads(row["learned"])
    assert set(learned) == set(task.lower.theta())
    for name, value in task.lower.theta().items():
        assert learned[name] == pytest.approx(value.flatten().tolist())
    monkeypatch.setattr(evaluation, "MOST_LEARNED", 2)
    assert row_of(method("JFB"), task, truth=truth)["learned"] is None


def test_a_method_that_raises_leaves_the_rest_measured(task, truth, no_debug):
    row = row_of(Raising.get_instance(), task, truth=truth, last=True)
    assert row["status"] == "oom"
    assert row["message"].startswith(
        "OutOfMemoryError: no room for the graph (test_evaluation.py, "
    )
    assert all(np.isfinite(row[name]) for name in (*ACCURACY, "test_psnr_deployed"))
    assert row["reconstruction"].shape == (16, 16, 3)
    assert all(isnan(row[name]) for name in (*ESTIMATE, *COST))


def test_an_estimate_that_is_not_finite_is_a_diverged_run(task, truth, no_debug):
    """Also where nothing is trained (steps=0), and no outer step could say so."""
    row = row_of(Nan.get_instance(), task, truth=truth)
    assert row["status"] == "diverged"
    assert np.isfinite(row["value"])
    assert isnan(row["gradient_error"])


def test_the_failure_of_the_training_comes_first(task, truth, no_debug):
    training = Outcome("error", "RuntimeError: in training")
    row = row_of(Raising.get_instance(), task, truth=truth, training=training)
    assert (row["status"], row["message"]) == ("error", "RuntimeError: in training")
