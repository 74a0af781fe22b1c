"""What the gradient rules are made of, piece by piece, against closed forms."""

from __future__ import annotations

import inspect
from math import inf, isnan

import pytest
import torch
from oracles import AffineLayer, Halving, relative_error

from benchmark import (
    Implicit,
    InverseEstimate,
    LastLayers,
    NotConverged,
    NotConvergedError,
    Phantom,
    Series,
    equilibrium,
    hypergradient,
)
from benchmark.gradients import inverse_estimate
from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.implicit import adjoint_layer
from benchmark.gradients.pair import Pair
from benchmark.gradients.precision import led_up, needs_float64, promote
from benchmark.gradients.result import Hypergradient, require_exact
from benchmark.gradients.rule import AdjointRecord, once_only
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.fixed_point import Equilibrium, picard
from benchmark.solve.krylov import cg, gmres
from benchmark.solve.search import Steps, ToTolerance
from benchmark.solve.secants import Secants
from benchmark.solve.system import LinearSolution

ORACLE = AffineLayer.make(kappa=0.8)
X0 = torch.zeros_like(ORACLE.y)
TIGHT = ToTolerance("anderson", 1e-13, 1000)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem_of(oracle: AffineLayer) -> EquilibriumLoss:
    return EquilibriumLoss.of_callables(oracle.layer(), oracle.loss, [oracle.theta])


# --- defaults are part of what is promised ------------------------------------------------------


def test_defaults():
    assert Implicit() == Implicit(solver="auto", tol=1e-5, max_steps=1000)
    assert InverseEstimate() == InverseEstimate(memory=30, fallback=None)
    assert (LastLayers(), Series()) == (LastLayers(layers=1), Series(terms=10))
    assert Phantom() == Phantom(layers=10, damping=0.5)
    assert Pair(Steps(1), Series()) == Pair(Steps(1), Series(), gradient_tol=None, polish=False)
    for entry in (equilibrium, hypergradient):
        given = inspect.signature(entry).parameters
        assert {name: p.default for name, p in given.items() if p.kind is p.KEYWORD_ONLY} == {
            "solver": "fista",
            "gradient": "implicit",
            "tol": 1e-5,
            "max_layers": 1000,
            "polish": False,
            "on_failure": "warn",
            "gradient_tol": None,
        }


# --- rules --------------------------------------------------------------------------------------


def found_with(residual, converged, *, steps=1):
    """A search that finds the equilibrium of ORACLE and says this of it."""

    def search(T, x0, *, on_failure="warn"):
        flags = torch.tensor(converged)
        return Equilibrium(
            ORACLE.equilibrium(),
            torch.tensor(residual),
            torch.full_like(flags, steps).long(),
            flags,
        )

    return search


@pytest.mark.parametrize("rule", [LastLayers(60), Implicit("gmres", tol=1e-12)])
@pytest.mark.parametrize("converged", [(True, True, True), (True, False, True)])
def test_the_worst_of_the_batch_is_what_is_told(rule, converged):
    search = found_with([0.1, 0.3, 0.2], converged)
    found = rule.hypergradient(problem_of(ORACLE), X0, search, AdjointRecord())
    assert found.state_residual == pytest.approx(0.3)
    assert found.converged == all(converged)
    assert isnan(found.error)
    assert relative_error(found.gradient[0], ORACLE.gradient()) < 1e-5
    assert torch.allclose(found.loss, ORACLE.loss(found.state))


@pytest.mark.parametrize("converged", [(True, True, True), (True, False, True)])
def test_so_it_is_with_the_adjoint(converged):
    asked = {}

    def solve(matvec, b, **options):
        asked.update(options)
        residual = torch.tensor([0.5, 0.25, 0.125])
        return LinearSolution(b, residual, torch.ones(3), torch.tensor(converged))

    start = random(*X0.shape)
    search = found_with([0.0, 0.0, 0.0], (True, True, True))
    rule = Implicit(solve, tol=0.2, max_steps=7)
    record = AdjointRecord(start, "ignore")
    found = rule.hypergradient(problem_of(ORACLE), X0, search, record)
    assert found.adjoint_residual == 0.5 and found.converged == all(converged)
    assert asked.pop("x0") is start and asked == {"tol": 0.2, "max_steps": 7}
    assert torch.equal(found.adjoint, ORACLE.loss_gradient())
    x = rule.through(ORACLE.layer(), X0, search, record).x
    asked.clear()
    ORACLE.loss(x).backward(inputs=[ORACLE.theta])
    assert asked.pop("x0") is start and asked == {"tol": 0.2, "max_steps": 7}
    ORACLE.theta.grad = None


def test_conjugate_gradients_are_what_needs_two_halves():
    assert [Implicit(solver).needs_splitting for solver in ("cg", cg)] == [True, True]
    others = ("auto", "gmres", "gmres(restart=3)", gmres)
    assert not any(Implicit(solver).needs_splitting for solver in others)
    assert not Series().needs_splitting


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_the_series_says_what_its_last_term_was(terms):
    record, rule = AdjointRecord(), Series(terms)
    x = rule.through(ORACLE.layer(), X0, TIGHT, record).x
    assert record.solution is None
    g = ORACLE.loss_gradient()
    g[1] = 0
    torch.autograd.grad(x, ORACLE.theta, g)
    last = (g.flatten(1) @ torch.linalg.matrix_power(ORACLE.matrix, terms - 1)).norm(dim=1)
    size = g.flatten(1).norm(dim=1).clamp_min(1e-30)
    assert torch.allclose(record.solution.residual, last / size, rtol=1e-9)
    assert record.solution.steps.tolist() == [terms - 1] * 3 and record.solution.converged.all()


@pytest.mark.parametrize(
    ("fallback", "expected"), [(None, [2, 10]), (5.0, [2, 1]), (2.0, [2, 1]), (1.9, [1, 1])]
)
def test_the_shared_inverse_falls_back_where_it_is_large(fallback, expected):
    """Two samples whose inverses are 2 and 10; at a bound of 2 itself the first keeps its own."""
    rates = torch.tensor([[0.5], [0.9]], dtype=torch.float64, requires_grad=True)
    record, rule = AdjointRecord(), InverseEstimate(memory=3, fallback=fallback)
    x0 = torch.zeros(2, 1, dtype=torch.float64)
    search = ToTolerance("picard", 1e-3, 500)
    found = rule.through(
        lambda x: rates * (x - x.detach().sign()) + x.sign(), x0 + 4, search, record
    )
    torch.autograd.grad(found.x, rates, torch.ones_like(x0))
    solution = record.solution
    assert solution.x[:, 0].tolist() == pytest.approx(expected, rel=1e-9)
    assert solution.steps.tolist() == [0, 0]
    assert solution.residual.isnan().all() and solution.converged.all()


def test_the_bound_of_the_fallback_itself_is_within_the_bound(monkeypatch):
    class Doubled(Secants):
        def adjoint(self, g):
            return 2 * g

    monkeypatch.setattr(inverse_estimate, "Secants", Doubled)
    g = ORACLE.loss_gradient()
    for fallback, times in ((2.0, 2), (1.999, 1)):
        record = AdjointRecord()
        x = InverseEstimate(fallback=fallback).through(ORACLE.layer(), X0, TIGHT, record).x
        torch.autograd.grad(x, ORACLE.theta, g)
        assert torch.equal(record.solution.x, times * g)


def test_a_layer_without_a_graph_is_applied_and_no_more():
    x, theta = torch.ones(1, 2), torch.ones(2, requires_grad=True)

    def never(matvec, g):
        raise AssertionError("nothing is to be solved")

    for T, enabled in ((lambda x: 2 * theta + x, False), (lambda x: 3 * torch.ones(1, 2), True)):
        with torch.set_grad_enabled(enabled):
            image = adjoint_layer(T, x, solve=never, record=AdjointRecord())
        assert image.tolist() == [[3, 3]] and not image.requires_grad


def test_second_derivatives_of_a_layer_that_is_constant_in_x():
    """T(x) = θ³: x* = θ³, F = x*, F'' = 6θ."""
    theta = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    x = equilibrium(lambda x: theta.pow(3)[None], torch.zeros(1, 1).double()).x
    (first,) = torch.autograd.grad(x.sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta)
    assert (x.item(), first.item(), second.item()) == (8, 12, 12)


def test_once_only_is_the_identity():
    x = torch.ones(2, requires_grad=True)
    image = once_only(2 * x, why="")
    assert image.tolist() == [2, 2]
    assert torch.autograd.grad(image.sum(), x)[0].tolist() == [2, 2]
    plain = torch.ones(2)
    assert once_only(plain, why="") is plain


# --- precision ----------------------------------------------------------------------------------


def test_float64_is_for_what_float32_does_not_reach():
    single, double = (reachable_tolerance(dtype) for dtype in (torch.float32, torch.float64))
    for polish in (False, True):
        assert not needs_float64(torch.float32, tol=single, polish=polish)
        assert not needs_float64(torch.float64, tol=double, polish=polish)
    assert needs_float64(torch.float32, tol=single * 0.999, polish=True)
    assert needs_float64(torch.float32, tol=double, polish=True)
    for dtype, tol, polish, said in (
        (torch.float32, single * 0.999, False, r"in float32, .* allows 4e-06 .*; polish=True goes"),
        (torch.float32, double * 0.999, True, r"out of reach in float64, .* allows 7e-15 at best$"),
        (torch.float64, double * 0.999, False, r"in float64, .* at best$"),
    ):
        with pytest.raises(ValueError, match=said):
            needs_float64(dtype, tol=tol, polish=polish)


def test_what_leads_up_to_float64_is_solved_to_one_in_ten_thousand():
    T, x0 = Halving(torch.float32), torch.zeros(1, 1)
    search = ToTolerance("picard", 1e-12, 1000)
    state = picard(T, x0, tol=1e-4, max_layers=1000).x
    found = led_up(T, x0, search)
    assert found.dtype == torch.float64 and found.item() == state.item() != 2
    assert led_up(T, x0, Steps(3)).item() == 1.75
    problem = T.problem()
    same = promote(problem, x0, tol=1e-3, polish=True, search=search)
    assert same.problem is problem and same.x0 is x0
    wide = promote(problem, x0, tol=1e-12, polish=True, search=search)
    assert wide.x0.item() == state.item()
    assert wide.problem.parameters[0].dtype == torch.float64 and wide.problem.T(wide.x0) > 1
    narrow = Pair(search, Implicit(tol=1e-12), polish=True)
    found = narrow.hypergradient(problem, x0, AdjointRecord())
    assert found.gradient[0].dtype == torch.float64
    assert found.gradient[0].item() == pytest.approx(4, rel=1e-11)


def test_a_pair_asks_for_the_smallest_of_its_tolerances():
    search = ToTolerance("picard", 1e-3, 9)
    assert Pair(search, Implicit(tol=1e-6)).tightest == 1e-6
    assert Pair(search, Implicit(tol=0.1)).tightest == 1e-3
    assert Pair(search, Series()).tightest == 1e-3
    assert Pair(Steps(2), LastLayers()).tightest == inf
    with pytest.raises(ValueError, match="gradient_tol must be a positive number, got 0"):
        Pair(search, Implicit(), gradient_tol=0.0)
    with pytest.raises(ValueError, match=r"gradient_tol=0.1 needs a state solved to a tolerance"):
        Pair(Steps(2), Implicit(), gradient_tol=0.1)
    x = Pair(Steps(2), LastLayers(3)).reconstruction(Halving(), torch.zeros(1, 1).double())
    assert x.item() == 2 - 2**-4 and not x.requires_grad


@pytest.mark.parametrize("rule", [Implicit(max_steps=1, tol=1e-9, solver="neumann"), Series(1)])
def test_a_pair_tells_what_an_exact_rule_did_not_meet(rule):
    pair, x0 = Pair(ToTolerance("picard", 1e-9, 100), rule), torch.zeros(1, 1).double()
    record = AdjointRecord(on_failure="raise")
    if isinstance(rule, Series):  # it is no exact rule, and cut off on purpose
        assert pair.hypergradient(Halving().problem(), x0, record).converged
    else:
        with pytest.raises(NotConvergedError, match=r"the hypergradient is less exact than asked"):
            pair.hypergradient(Halving().problem(), x0, record)


# --- results ------------------------------------------------------------------------------------


def test_a_hypergradient_changes_its_dtype_and_says_how_exact_it_is():
    one = torch.ones(1, dtype=torch.float64)
    found = Hypergradient(one[0], (one, 2 * one), 3 * one, one, 0.1, 0.01, 0.25, converged=False)
    single = found.to(torch.float32)
    tensors = (single.loss, *single.gradient, single.state)
    assert [t.item() for t in tensors] == [1, 1, 2, 3]
    assert {t.dtype for t in tensors} == {torch.float32}
    assert single.adjoint is one and single.state_residual == 0.1 and not single.converged
    said = "less exact than asked for: relative residuals of state and adjoint 1.0e-01 and 1.0e-02"
    with pytest.warns(NotConverged, match=rf"{said}, estimated gradient error 2.5e-01$"):
        assert require_exact(found) is found
    unknown = Hypergradient(one[0], (one,), one, one, 0.1, 0.01, converged=False)
    assert isnan(unknown.error)
    with pytest.raises(NotConvergedError, match=rf"{said}$"):
        require_exact(unknown, on_failure="raise")
    plain = Hypergradient(one[0], (one,), one)
    assert plain.converged and isnan(plain.state_residual) and isnan(plain.adjoint_residual)
    assert plain.adjoint is None and require_exact(plain, on_failure="raise") is plain


def test_an_adjoint_that_was_not_found_is_no_gradient_of_zero():
    """GMRES has one product, and comes to w = 0: the estimate is Bᵀ∇ℓ then, and says how good."""
    rule, options = (
        Implicit("gmres", tol=1e-10, max_steps=1),
        {"tol": 1e-12, "on_failure": "ignore"},
    )
    found = equilibrium(ORACLE.layer(), X0, solver="anderson", gradient=rule, **options)
    (estimate,) = torch.autograd.grad(ORACLE.loss(found.x), ORACLE.theta)
    direct = hypergradient(
        ORACLE.layer(), X0, ORACLE.loss, [ORACLE.theta], solver="anderson", gradient=rule, **options
    )
    for gradient in (estimate, direct.gradient[0]):
        assert relative_error(gradient, ORACLE.gradient(terms=1)) < 1e-6
    assert not direct.converged and direct.adjoint_residual == 1
