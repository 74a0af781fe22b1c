"""Hypergradients to a tolerance on the gradient, in float64 where float32 does not reach."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from statistics import median

import pytest
import torch
from conftest import plugins, small_task

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.implicit import Implicit
from benchmark.gradients.precision import promote
from benchmark.gradients.refined import flat, reduction, refined_gradient
from benchmark.gradients.result import Hypergradient
from benchmark.gradients.rule import AdjointRecord
from benchmark.imaging.metrics import gradient_error
from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import reference_hypergradient
from benchmark.problems.bilevel import BilevelTask
from benchmark.problems.lower_level import set_theta
from benchmark.solve.convergence import NotConverged
from benchmark.solve.search import ToTolerance

LOWER = (
    "tikhonov(wavelet='db2',levels=2,ridge=0.01)",
    "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)",
    "wavelet_l1(wavelet='db2',levels=2,ridge=0.01)",
    "wavelet_l1(wavelet='db2',levels=2)",
    "wavelet_l12(wavelet='db2',levels=2,ridge=0.03)",
    "wavelet_l12(wavelet='db2',levels=2)",
)
DEGRADATION = (
    "denoising(sigma=0.1)",
    "inpainting(keep=0.5)",
    "inpainting(keep=0.3)",
    "deblurring(width=0.8)",
)
MAX_LAYERS = 5000
SLOW = {"lower": LOWER[2], "degradation": "inpainting(keep=0.5)"}


def random_problems(number: int) -> Iterator[BilevelTask]:
    """Tasks of any layer and degradation, each at a θ of its own."""
    choose = random.Random(0).choice
    for seed in range(number):
        task = small_task(lower=choose(LOWER), degradation=choose(DEGRADATION), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        set_theta(
            task.lower,
            {
                name: p + 0.7 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
                for name, p in task.lower.theta().items()
            },
        )
        yield task


@dataclass(frozen=True)
class Found:
    """A task, its hypergradient, and by d what comes out for a tolerance of 10⁻ᵈ and its cost."""

    task: BilevelTask
    truth: torch.Tensor
    refined: dict[int, tuple[Hypergradient, int]]


@cache
def found_for(number: int) -> list[Found]:
    """``number`` of ``random_problems``."""
    found = []
    for task in random_problems(number):
        truth = reference_hypergradient(task.lower, task.probe)
        assert truth.error < 1e-5
        by_digits = {}
        for digits in (2, 4, 6):
            counted = CountedProblem(task.lower)
            by_digits[digits] = refined(task, 10.0**-digits, lower=counted), spent(counted)
        found.append(Found(task, truth.gradient, by_digits))
    return found


def start(task: BilevelTask) -> torch.Tensor:
    return task.lower.init(task.probe.observation).detach()


def refined(task: BilevelTask, tol: float, *, polish: bool = True, lower=None) -> Hypergradient:
    return refined_gradient(
        EquilibriumLoss.of_lower_level(task.lower if lower is None else lower, task.probe),
        start(task),
        gradient_tol=tol,
        polish=polish,
        search=ToTolerance("fista", 1e-6, MAX_LAYERS),
        rule=Implicit("gmres", max_steps=MAX_LAYERS),
    )


def implicit(
    task: BilevelTask, *, tol: float, adjoint_tol: float, lower=None, x0=None
) -> Hypergradient:
    problem = EquilibriumLoss.of_lower_level(task.lower if lower is None else lower, task.probe)
    search = ToTolerance("fista", tol, MAX_LAYERS)
    rule = Implicit("gmres", adjoint_tol, MAX_LAYERS)
    x0 = start(task) if x0 is None else x0
    return rule.hypergradient(problem, x0, search, AdjointRecord())


def error(found: Hypergradient, task: BilevelTask, truth: torch.Tensor | None = None) -> float:
    """Relative to the reference, which is computed where it is not given."""
    if truth is None:
        truth = reference_hypergradient(task.lower, task.probe).gradient
    return gradient_error(flat(found.gradient), truth)


@cache
def truth_of_slow() -> torch.Tensor:
    task = small_task(**SLOW)
    return reference_hypergradient(task.lower, task.probe).gradient


def test_the_gradient_is_within_its_tolerance(pytestconfig):
    shares = []
    for one in found_for(pytestconfig.getoption("--problems")):
        for digits, (found, _) in one.refined.items():
            assert found.converged
            assert found.error <= 10.0**-digits
            shares.append(gradient_error(flat(found.gradient), one.truth) * 10.0**digits)
    above = sum(share > 1 for share in shares)
    print(f"{above} of {len(shares)} above their tolerance, at most {max(shares):.1f} times")
    assert above <= 0.05 * len(shares)
    assert max(shares) < 10


def test_a_smaller_tolerance_costs_more_and_gives_more():
    task, truth = small_task(**SLOW), truth_of_slow()
    costs, errors = [], []
    for tol in (1e-1, 1e-3, 1e-5, 1e-7):
        counted = CountedProblem(task.lower)
        errors.append(error(refined(task, tol, lower=counted), task, truth))
        costs.append(spent(counted))
    assert costs == sorted(costs)
    assert errors == sorted(errors, reverse=True)


def test_it_costs_little_more_than_the_best_tolerances(pytestconfig):
    """At the median at most twice what hindsight could have picked, in layers and products."""
    ratios = {2: [], 4: [], 6: []}
    number = pytestconfig.getoption("--problems")
    for one in found_for(number)[: number // 3 + 2]:
        solve = cache(partial(solved, one.task))
        for digits, (_, cost) in one.refined.items():
            ratios[digits].append(cost / best_cost(one.task, one.truth, digits, solve))
    for digits, seen in ratios.items():
        print(f"1e-{digits}: {median(seen):.2f} times the best, at most {max(seen):.2f}")
        assert median(seen) <= 2


def solved(task: BilevelTask, digits: int) -> tuple[torch.Tensor, int]:
    """The equilibrium to 10⁻ᵈ, and the layers that it took."""
    counted = CountedProblem(task.lower)
    search = ToTolerance("fista", 10.0**-digits, MAX_LAYERS)
    return search(counted.layer(task.probe.observation), start(task)).x, counted.layer_evals


def best_cost(task: BilevelTask, truth: torch.Tensor, digits: int, solve) -> float:
    """The least that any pair of tolerances takes to a true error of 10⁻ᵈ.

    ``solve`` is ``solved`` of the task, each equilibrium found once. A smaller tolerance on it
    costs more: none is tried that is dearer than the best.
    """
    best = inf
    for more in (1, 0, -1):
        for k in range(digits + 1, digits + 7):
            x, layers = solve(k)
            if layers >= best:
                break
            tols = {"tol": 10.0**-k, "adjoint_tol": 10.0 ** -(digits + more)}
            counted = CountedProblem(task.lower)
            found = implicit(task, **tols, lower=counted, x0=x)
            # less the layer by which the state is seen to be one
            cost = layers + spent(counted) - 1
            if gradient_error(flat(found.gradient), truth) <= 10.0**-digits:
                best = min(best, cost)
            if cost >= best:
                break
    return best


def spent(counted: CountedProblem) -> int:
    """Layers and products."""
    return counted.layer_evals + counted.vjp_evals


def test_a_loose_residual_is_no_tolerance_on_the_gradient():
    """Why ``gradient_tol`` is there: a residual of 1e-4 leaves an error far above it."""
    task = small_task(**SLOW)
    assert error(implicit(task, tol=1e-4, adjoint_tol=1e-10), task, truth_of_slow()) > 1e-3


# --- what cannot be reached -----------------------------------------------------------------


def in_float32(task: BilevelTask) -> BilevelTask:
    return task.to(device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("spec", [LOWER[0], LOWER[5]])
def test_float32_is_polished_in_float64(spec):
    exact = small_task(lower=spec, degradation="inpainting(keep=0.5)")
    single = in_float32(exact)
    found = refined(single, 1e-5)
    assert found.converged
    # of the problem as float32 poses it
    posed = single.to(device=torch.device("cpu"), dtype=torch.float64)
    assert error(found, posed) < 1e-5
    # and the rounding of the problem to float32 costs little
    assert error(found, exact) < 5e-5


def test_float32_alone_says_that_it_did_not_get_there():
    found = refined(in_float32(small_task(**SLOW)), 1e-7, polish=False)
    assert not found.converged


@pytest.mark.parametrize("name", ["DEQ", "JFB"])
def test_a_tolerance_out_of_reach_is_an_error_or_met_in_float64(name):
    task = in_float32(small_task(**SLOW))
    solver = plugins()[name].get_instance(tol=1e-9, polish=False)
    with pytest.raises(ValueError, match=r"is out of reach in float32.*allows 4e-06.*polish"):
        solver.hypergradient(task.lower, task.probe)
    exact = plugins()[name].get_instance(tol=1e-12)
    posed = task.to(device=torch.device("cpu"), dtype=torch.float64)
    found = exact.hypergradient(task.lower, task.probe)
    assert found.state.dtype == found.loss.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in found.gradient)
    wanted = exact.hypergradient(posed.lower, posed.probe).gradient
    assert gradient_error(flat(found.gradient), flat(wanted)) < 1e-6


def test_not_even_float64_reaches_everything():
    task = small_task(**SLOW)
    problem = EquilibriumLoss.of_lower_level(task.lower, task.probe)
    search = ToTolerance("fista", 1e-16, 10)
    with pytest.raises(ValueError, match="1e-16 is out of reach in float64, whose rounding allows"):
        promote(problem, start(task), tol=1e-16, polish=True, search=search)


@pytest.mark.parametrize("solver", ["picard", "anderson(depth=5)"])
def test_polishing_starts_where_float32_ended_by_the_solver_asked_for(solver):
    task = in_float32(small_task(**SLOW))
    counted = CountedProblem(task.lower)
    problem = EquilibriumLoss.of_lower_level(counted, task.probe)
    search = ToTolerance(solver, 1e-9, 1000)
    promoted = promote(problem, start(task), tol=1e-9, polish=True, search=search)
    image = promoted.problem.T(promoted.x0)
    assert promoted.x0.dtype == image.dtype == torch.float64
    assert (image - promoted.x0).norm() < 2e-4 * image.norm()
    theta = task.lower.theta().values()
    assert all(a is not b for a, b in zip(promoted.problem.parameters, theta, strict=True))
    alone = CountedProblem(task.lower)
    ToTolerance(solver, 1e-4, 1000)(alone.layer(task.probe.observation), start(task))
    assert counted.counts.by_dtype[torch.float32]["layers"] == alone.layer_evals


@pytest.mark.parametrize("parameters", [{"max_layers": 3}, {"max_layers": 3, "gradient_tol": 1e-6}])
def test_a_solve_that_stops_short_is_reported(parameters):
    task = small_task(**SLOW)
    with pytest.warns(NotConverged, match="less exact than asked for"):
        plugins()["DEQ"].get_instance(**parameters).hypergradient(task.lower, task.probe)


@pytest.mark.parametrize(
    ("stood", "tols", "expected"),
    [
        ((1e-3, 1e-3), (1e-5, 1e-4), 10.0),
        ((1e-5, 1e-4), (2e-6, 2e-6), (1e-5 / 4e-6) ** 0.5),
        ((1e-3, 6e-6), (1e-5, 2e-6), 1.5),
        ((1e-6, 1e-6), (1e-7, 1e-7), 1.0),
        ((0.0, 1e-2), (2e-6, 1e-3), 10.0),
        ((0.0, 0.0), (2e-6, 2e-6), 1.0),
    ],
)
def test_an_error_falls_by_what_the_residuals_fall(stood, tols, expected):
    """With 4e-6 as what the dtype reaches, whatever smaller tolerance was asked for."""
    assert reduction(stood, tols, floor=4e-6) == pytest.approx(expected)


def test_the_estimate_knows_of_a_tolerance_that_was_out_of_reach(monkeypatch):
    """In float32 the second level falls by less than the factor of ten that is aimed at."""
    monkeypatch.setattr("benchmark.gradients.refined.relative_change", lambda new, old: 1.0)
    task = small_task(lower=LOWER[1], degradation="inpainting(keep=0.5)")
    task = task.to(device=torch.device("cpu"), dtype=torch.float32)
    found = refined_gradient(
        EquilibriumLoss.of_lower_level(task.lower, task.probe),
        task.lower.init(task.probe.observation),
        gradient_tol=1e-8,
        polish=False,
        search=ToTolerance("anderson", 1e-5, 1000),
        rule=Implicit("gmres", tol=1e-5, max_steps=1000),
    )
    assert 1.05 * 10**-0.5 < found.error <= 1
