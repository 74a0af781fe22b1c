"""The refinement of a hypergradient, tolerance by tolerance, on solvers that follow a script."""

from __future__ import annotations

from functools import partial
from math import inf, sqrt
from types import SimpleNamespace

import pytest
import torch
from oracles import Halving

from benchmark import Implicit
from benchmark.gradients.refined import flat, refined_gradient, relative_change
from benchmark.gradients.result import Hypergradient
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.fixed_point import Equilibrium
from benchmark.solve.search import ToTolerance
from benchmark.solve.system import LinearSolution

near = partial(pytest.approx, rel=1e-9, abs=0)


class Scripted:
    """Solvers that return these states with these residuals, and w = 2g, and keep what was asked.

    On ``Halving`` the gradient is then twice the state.
    """

    def __init__(self, states, residuals=None, *, converged=True) -> None:
        self.states, self.converged = list(states), converged
        self.residuals = list(residuals or [inf] * len(self.states))
        self.asked = SimpleNamespace(state=[], adjoint=[], starts=[])

    def state(self, T, x0, *, tol, max_layers):
        self.asked.state.append(tol)
        self.asked.starts.append(x0.item())
        n = len(self.asked.state) - 1
        x, residual = torch.full_like(x0, self.states[n]), x0.new_tensor([self.residuals[n]])
        return Equilibrium(x, residual, torch.ones(1), torch.tensor([self.converged]))

    def adjoint(self, matvec, b, *, tol, max_steps, x0):
        self.asked.adjoint.append(tol)
        self.asked.starts.append(None if x0 is None else x0.item())
        residual = b.new_tensor([self.residuals[len(self.asked.adjoint) - 1]])
        return LinearSolution(2 * b, residual, torch.ones(1), torch.tensor([True]))

    def refined(self, gradient_tol: float, w0=None) -> Hypergradient:
        search = ToTolerance(self.state, 1.0, 5)
        return refined_gradient(
            Halving().problem(),
            torch.full((1, 1), 7.0, dtype=torch.float64),
            w0,
            gradient_tol=gradient_tol,
            polish=False,
            search=search,
            rule=Implicit(self.adjoint),
        )


def test_each_refinement_divides_by_what_the_last_change_calls_for():
    """Errors 0.2/√10, then 0.8/√f, f the first in units of 0.3·gradient_tol, then 0."""
    script = Scripted([2.0, 2.5, 12.5, 12.5])
    found = script.refined(1e-3)
    f = 0.2 / sqrt(10) / 3e-4
    f2 = 0.8 / sqrt(f) / 3e-4
    assert 10 < f < 1000 and 10 < f2 < 1000
    assert script.asked.state == near([1e-6, 1e-7, 1e-7 / f, 1e-7 / f / f2])
    adjoint = [5e-4 / sqrt(d) for d in (1, 10, 10 * f, 10 * f * f2)]
    assert script.asked.adjoint == near(adjoint)
    # each goes on from where state and adjoint stand
    assert script.asked.starts == [7.0, None, 2.0, 4.0, 2.5, 5.0, 12.5, 25.0]
    assert found.error == 0 and found.converged
    assert found.gradient[0].item() == 25 and found.state.item() == 12.5
    started = Scripted([2.0, 2.0])
    started.refined(1e-3, torch.full((1, 1), 9.0, dtype=torch.float64))
    assert started.asked.starts == [7.0, 9.0, 2.0, 4.0]


def test_a_refinement_is_by_ten_at_least_and_a_thousand_at_most():
    far = Scripted([1.0, -1.0, -1.0])  # 2/√10 in units of 3e-5 is 21 thousand
    far.refined(1e-4)
    assert far.asked.state == near([5e-7, 5e-8, 5e-11])
    close = Scripted([1.0, 1.0006, 1.0006])  # 1.9e-4 in units of 3e-5 is 6
    close.refined(1e-4)
    assert close.asked.state == near([5e-7, 5e-8, 5e-9])


def test_a_residual_below_what_was_asked_for_is_what_is_divided():
    script = Scripted([1.0, -1.0, -1.0], [1e-9, 0.0, 0.0])
    script.refined(1e-4)
    floor = reachable_tolerance(torch.float64)
    assert script.asked.state == near([5e-7, 1e-10, floor / 2])
    assert script.asked.adjoint == near([5e-5, 1e-9 / sqrt(10), floor / 2])


def test_a_change_of_the_tolerance_itself_is_enough():
    tol = 0.2 / sqrt(10)
    script = Scripted([2.0, 2.5])
    found = script.refined(tol)
    assert found.error == tol and found.converged
    assert script.asked.state == near([1e-6, 1e-7])


def test_a_refinement_ends_where_rounding_does_or_a_solver_stops_short():
    floor = reachable_tolerance(torch.float64)
    script = Scripted([2.0, 2.5, 2.5])
    found = script.refined(1e-14)
    assert script.asked.state == near([10 * floor, floor])
    assert script.asked.adjoint == near([sqrt(10) * floor, floor])
    assert not found.converged and found.error == near(0.2 / sqrt(10))
    agreed = Scripted([2.0, 2.0]).refined(1e-14)
    assert agreed.converged and agreed.error == 0
    short = Scripted([2.0], converged=False)
    found = short.refined(1e-3)
    assert not found.converged and found.error == inf and len(short.asked.state) == 1


def test_the_relative_change_of_gradients():
    now, before = (torch.tensor(v, dtype=torch.float64) for v in ([3.0, 4.0], [3.0, 2.0]))
    assert relative_change(now, before) == 2 / 5
    assert relative_change(now, now) == relative_change(0 * now, 0 * now) == 0
    assert relative_change(0 * now, now) == inf
    joined = flat([torch.ones(2, 2), torch.zeros(1)])
    assert joined.tolist() == [1, 1, 1, 1, 0] and joined.dtype == torch.float64
