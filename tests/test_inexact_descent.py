"""Descent whose tolerances adapt: where it gets, what it costs, and that it is not misled."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import inf

import pytest
import torch
from conftest import plugins
from oracles import AffineLayer, relative_error

from benchmark.plugins.inexact_descent import InexactDescent
from benchmark.problems.bilevel import BilevelTask
from benchmark.problems.lower_level import set_theta

ORACLE = AffineLayer.make(kappa=0.97)
#: beside the best of them, and one that is too loose to get to the minimum
BY_HAND = (1e-2, 1e-3, 1e-4, 1e-5)


def method(**parameters) -> InexactDescent:
    return plugins()["MAID"].get_instance(**parameters)


def exact_value(theta: torch.Tensor) -> float:
    """F(θ) in closed form."""
    x = replace(ORACLE, theta=theta).equilibrium()
    return float((x - ORACLE.target).square().mean())


@cache
def minimiser() -> torch.Tensor:
    """F is quadratic in θ: least squares, by the slope of x*."""
    origin = replace(ORACLE, theta=torch.zeros(5, dtype=torch.float64))
    eye = torch.eye(len(ORACLE.matrix), dtype=torch.float64)
    slope = torch.linalg.solve(eye - ORACLE.matrix, ORACLE.injection)
    missing = (ORACLE.target - origin.equilibrium()).flatten(1).mean(0)
    return torch.linalg.lstsq(slope, missing).solution


@cache
def least() -> float:
    return exact_value(minimiser())


@cache
def course(**parameters) -> list[tuple[int, float]]:
    """Layers and products so far, and F, at the start and after each outer step."""
    batch = ORACLE.batch(index=(0, 1, 2))
    solver = method(steps=30, evaluate_every=1, **parameters)
    solver.set_objective(
        BilevelTask(ORACLE.problem(), train=batch, probe=batch, test=batch, seed=0)
    )
    found = []
    for _ in solver.course():
        work = solver.counted.layer_evals + solver.counted.vjp_evals
        found.append((work, exact_value(solver.lower.weight.detach())))
    assert solver.outcome.ok, solver.outcome.message
    return found


def by_hand(tol: float) -> list[tuple[int, float]]:
    return course(adaptive=False, first_tol=tol)


def test_it_comes_to_the_minimum_which_a_loose_tolerance_does_not():
    start = course()[0][1]
    rest, loose = (steps[-1][1] - least() for steps in (course(), by_hand(BY_HAND[0])))
    assert 0 <= rest < 1e-6 * (start - least())
    assert loose > 10 * rest


def test_its_work_is_near_that_of_the_best_tolerance_picked_by_hand():
    """On the way to the minimum beside those that get there: at most; and in the end, half more."""
    start = course()[0][1]

    def work(steps, share):
        value = least() + share * (start - least())
        return next((work for work, found in steps if found <= value), inf)

    reaching = [tol for tol in BY_HAND if work(by_hand(tol), 1e-6) < inf]
    assert 0 < len(reaching) < len(BY_HAND)
    for share, most in ((1e-2, 1), (1e-4, 1), (1e-6, 1.5)):
        best = min(work(by_hand(tol), share) for tol in reaching)
        assert work(course(), share) <= most * best, share


def test_no_step_that_it_takes_raises_f():
    values = [value for _, value in course()]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))


def test_its_gradient_is_the_closed_form_at_small_tolerances():
    (found,) = method(first_tol=1e-12).hypergradient(ORACLE.problem(), ORACLE.batch()).gradient
    assert relative_error(found / ORACLE.scale(), ORACLE.gradient()) < 1e-8


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3])
def test_its_estimate_of_the_error_of_the_gradient_is_above_it(tol):
    solver = method()
    solver.pace = replace(solver.pace, tol=1e-12, adjoint_tol=tol)
    found = solver.hypergradient(ORACLE.problem(), ORACLE.batch())
    true = relative_error(found.gradient[0] / ORACLE.scale(), ORACLE.gradient())
    assert true < found.error < 100 * true


@pytest.mark.parametrize("first_move", [1e-3, 1e3])
def test_a_first_step_of_any_length_is_mended(first_move):
    steps = course(first_move=first_move)
    assert steps[-1][1] - least() < 1e-3 * (steps[0][1] - least())


def test_at_the_minimum_it_stays():
    batch = ORACLE.batch(index=(0, 1, 2))
    solver = method(steps=2)
    task = BilevelTask(ORACLE.problem(), train=batch, probe=batch, test=batch, seed=0)
    set_theta(task.lower, {"weight": minimiser()})
    solver.set_objective(task)
    solver.run(lambda: True)
    assert solver.outcome.ok, solver.outcome.message
    assert exact_value(solver.lower.weight.detach()) <= least() + 1e-10
