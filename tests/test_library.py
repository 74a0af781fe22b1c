"""The entries that a training loop of one's own calls, against closed forms and differences."""

from __future__ import annotations

import warnings
from itertools import product

import pytest
import torch
from conftest import small_task
from oracles import AffineLayer, relative_error, tanh_layer
from torch import nn

import benchmark
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
from benchmark.gradients.named import GRADIENT_RULES, gradient_rule
from benchmark.measure.reference import reference_hypergradient
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS
from benchmark.solve.linear import ADJOINT_SOLVERS

WAVELETS = "wavelet_l1(wavelet='db2',levels=2)"
TIGHT = {"tol": 1e-12, "max_layers": 5000}


def gradient(oracle: AffineLayer, **options) -> torch.Tensor:
    found = equilibrium(oracle.layer(), torch.zeros_like(oracle.y), **TIGHT | options)
    return torch.autograd.grad(oracle.loss(found.x), oracle.theta)[0]


# --- any solver with any rule -----------------------------------------------------------------


@pytest.mark.parametrize("solver", [*EQUILIBRIUM_SOLVERS, "anderson(depth=3)"])
def test_any_solver_with_any_rule_gives_the_rules_gradient(solver):
    oracle = AffineLayer.make(kappa=0.8)
    g = (oracle.equilibrium() - oracle.target).flatten(1).T
    damped = 0.5 * torch.eye(len(g), dtype=g.dtype) + 0.5 * oracle.matrix.T
    phantom = sum(0.5 * torch.linalg.matrix_power(damped, k) @ g for k in range(3))
    expected = {
        LastLayers(1): oracle.gradient(terms=1),
        LastLayers(4): oracle.gradient(terms=4),
        Series(4): oracle.gradient(terms=4),
        Phantom(3, 0.5): (oracle.injection.T @ phantom).sum(1),
        Implicit("gmres", tol=1e-12): oracle.gradient(),
        Implicit("bicgstab", tol=1e-12): oracle.gradient(),
    }
    for rule, exact in expected.items():
        assert relative_error(gradient(oracle, solver=solver, gradient=rule), exact) < 1e-9, rule


@pytest.mark.parametrize("adjoint", sorted(ADJOINT_SOLVERS.keys() - {"cg"}))
def test_any_adjoint_solver_gives_the_implicit_gradient(adjoint):
    oracle = AffineLayer.make(kappa=0.8)
    rule = Implicit(adjoint, tol=1e-11)
    assert relative_error(gradient(oracle, gradient=rule), oracle.gradient()) < 1e-9


def test_conjugate_gradients_take_a_layer_with_two_halves():
    task = small_task(
        lower="wavelet_l1(wavelet='db2',levels=2)", degradation="inpainting(keep=0.5)"
    )
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    theta = list(task.lower.theta().values())
    found = equilibrium(T, x0, gradient=Implicit("cg", tol=1e-12), **TIGHT)
    loss = nn.functional.mse_loss(found.x, task.probe.truth)
    flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, theta)])
    exact = reference_hypergradient(task.lower, task.probe).gradient
    assert relative_error(flat, exact) < 1e-6
    oracle = AffineLayer.make(kappa=0.5)
    with pytest.raises(ValueError, match="cg needs a layer that is a gradient step followed by"):
        gradient(oracle, gradient=Implicit("cg"))


def test_the_shared_inverse_is_closer_than_one_layer():
    oracle = AffineLayer.make(kappa=0.9, shape=(4,))
    errors = [
        relative_error(gradient(oracle, solver="anderson", gradient=rule), oracle.gradient())
        for rule in (InverseEstimate(memory=30), LastLayers(1))
    ]
    assert errors[0] < 1e-6 < errors[1]


def test_functions_of_ones_own_are_solvers():
    oracle = AffineLayer.make(kappa=0.5)
    called = []

    def solver(T, x0, *, tol, max_layers):
        called.append("equilibrium")
        return EQUILIBRIUM_SOLVERS["picard"](T, x0, tol=tol, max_layers=max_layers)

    def adjoint(matvec, b, *, tol, max_steps, x0=None):
        called.append("adjoint")
        return ADJOINT_SOLVERS["gmres"](matvec, b, tol=tol, max_steps=max_steps, x0=x0)

    found = gradient(oracle, solver=solver, gradient=Implicit(adjoint, tol=1e-12))
    assert relative_error(found, oracle.gradient()) < 1e-9
    assert called == ["equilibrium", "adjoint"]


# --- what is said -------------------------------------------------------------------------------


def test_the_record_of_the_adjoint_is_filled_by_the_backward_pass():
    oracle = AffineLayer.make(kappa=0.8)
    found = equilibrium(oracle.layer(), torch.zeros_like(oracle.y), **TIGHT)
    assert found.adjoint.solution is None
    assert found.converged.all() and (found.residual <= 1e-12).all() and (found.steps > 1).all()
    oracle.loss(found.x).backward()
    solution = found.adjoint.solution
    mt = torch.eye(len(oracle.matrix), dtype=torch.float64) - oracle.matrix.T
    w = torch.linalg.solve(mt, oracle.loss_gradient().flatten(1).T).T
    assert relative_error(solution.x.flatten(1), w) < 1e-4
    assert solution.converged.all() and solution.residual.shape == (3,)


@pytest.mark.parametrize("short", ["state", "adjoint"])
def test_failure_is_told_as_asked(short):
    oracle = AffineLayer.make(kappa=0.99)
    x0 = torch.zeros_like(oracle.y)
    rule = Implicit(max_steps=3) if short == "adjoint" else Implicit()
    options = {"max_layers": 5} if short == "state" else {"max_layers": 5000}

    def run(**more):
        oracle.loss(equilibrium(oracle.layer(), x0, gradient=rule, **options, **more).x).backward()

    what = "the equilibrium" if short == "state" else "the adjoint system"
    with pytest.warns(NotConverged, match=rf"{what} did not converge for 3 of 3 samples"):
        run()
    with pytest.raises(NotConvergedError, match=what):
        run(on_failure="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(on_failure="ignore")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gradient_tol": 1e-4}, r"gradient_tol needs the loss .* use hypergradient\(T, x0, loss"),
        ({"solver": "newton"}, "unknown equilibrium solver 'newton': expected one of anderson"),
        ({"solver": "anderson(dpth=3)"}, "has no option 'dpth'"),
        ({"gradient": "exact"}, "unknown gradient rule 'exact': expected one of implicit"),
        ({"gradient": "series(terms=0)"}, "terms must be an integer of at least 1, got 0"),
        ({"tol": 0}, "tol must be a positive number, got 0"),
        ({"tol": 1e-20}, "1e-20 is out of reach in float64"),
        ({"max_layers": 1.5}, "max_layers must be an integer of at least 1, got 1.5"),
        ({"on_failure": "shout", "max_layers": 1}, "on_failure must be 'warn', 'raise' or"),
    ],
)
def test_bad_input_is_named(options, expected):
    oracle = AffineLayer.make(kappa=0.9)
    with pytest.raises(ValueError, match=expected):
        equilibrium(oracle.layer(), torch.zeros_like(oracle.y), **options)


@pytest.mark.parametrize("name", GRADIENT_RULES)
def test_rules_have_names_with_options(name):
    assert gradient_rule(name) == GRADIENT_RULES[name]()
    assert hash(gradient_rule(name)) == hash(GRADIENT_RULES[name]())
    assert gradient_rule("implicit(solver='gmres(restart=5)',tol=1e-8)") == Implicit(
        "gmres(restart=5)", 1e-8
    )


# --- warm starts, tolerances on the gradient, float64 --------------------------------------------


def test_a_start_from_what_was_found_before_costs_little():
    oracle = AffineLayer.make(kappa=0.95)
    rule = Implicit("neumann", tol=1e-9)
    start = torch.zeros_like(oracle.y)
    spent = []
    for _ in range(2):
        start = equilibrium(oracle.layer(), start, gradient=rule, tol=1e-9)
        oracle.loss(start.x).backward()
        spent.append((int(start.steps.max()), int(start.adjoint.solution.steps.max())))
    assert spent[1][0] < spent[0][0] / 5
    assert spent[1][1] < spent[0][1] / 5


@pytest.mark.parametrize("gradient_tol", [1e-2, 1e-6])
def test_a_tolerance_on_the_gradient(gradient_tol):
    oracle = AffineLayer.make(kappa=0.95)
    arguments = (oracle.layer(), torch.zeros_like(oracle.y), oracle.loss, [oracle.theta])
    found = hypergradient(*arguments, gradient_tol=gradient_tol)
    assert found.converged and found.error <= gradient_tol
    assert relative_error(found.gradient[0], oracle.gradient()) < gradient_tol
    again = hypergradient(arguments[0], found, *arguments[2:], gradient_tol=gradient_tol)
    assert relative_error(again.gradient[0], oracle.gradient()) < gradient_tol
    with pytest.raises(ValueError, match=r"gradient_tol=0.01 needs .* the gradient rule Implicit"):
        hypergradient(*arguments, gradient="series", gradient_tol=1e-2)


def test_the_direct_term_is_added():
    """ℓ(x) = ½‖x − t‖² + ½‖θ‖²."""
    oracle = AffineLayer.make(kappa=0.8)

    def loss(x):
        return oracle.loss(x) + 0.5 * oracle.theta.square().sum()

    for rule in (Implicit(tol=1e-12), LastLayers(60)):
        found = hypergradient(
            oracle.layer(), torch.zeros_like(oracle.y), loss, [oracle.theta], gradient=rule, **TIGHT
        )
        exact = oracle.gradient() + oracle.theta.detach()
        assert relative_error(found.gradient[0], exact) < 1e-6


class Linear(nn.Module):
    """T(x) = Mx/2 + θ, M a rotation by one place: x* = (I − M/2)⁻¹θ."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(0.1, 1, 6))
        self.register_buffer("factor", torch.tensor(0.5))

    def forward(self, x):
        return self.factor * x.roll(1, dims=1) + self.theta

    def exact(self) -> torch.Tensor:
        """∇ Σ x*²/2 in float64."""
        m = 0.5 * torch.eye(6, dtype=torch.float64).roll(1, dims=0)
        inverse = torch.linalg.inv(torch.eye(6, dtype=torch.float64) - m)
        return inverse.T @ inverse @ self.theta.detach().double()


def test_polishing_a_module_reaches_what_float32_does_not():
    T, x0 = Linear(), torch.zeros(1, 6)
    with pytest.raises(ValueError, match=r"1e-10 is out of reach in float32.*polish=True"):
        equilibrium(T, x0, tol=1e-10)
    rule = Implicit("gmres", tol=1e-10)
    found = equilibrium(T, x0, tol=1e-10, gradient=rule, polish=True)
    assert found.x.dtype == torch.float32 and (found.residual <= 1e-10).all()
    (0.5 * found.x.square().sum()).backward()
    assert T.theta.grad.dtype == torch.float32
    assert relative_error(T.theta.grad.double(), T.exact()) < 1e-6
    refined = hypergradient(
        T, x0, lambda x: 0.5 * x.square().sum(), [T.theta], gradient_tol=1e-8, polish=True
    )
    assert refined.converged
    assert relative_error(refined.gradient[0].double(), T.exact()) < 1e-6


def test_a_start_in_another_precision_is_taken():
    """What was found in float64, polished or not, is where float32 starts, and the other way."""
    T, rule = Linear(), Implicit("neumann", tol=1e-5)
    x0 = torch.zeros(1, 6)
    for polish in (True, False):
        tol = 1e-9 if polish else 1e-5
        start = equilibrium(T, x0, gradient=Implicit("neumann", tol=tol), tol=tol, polish=polish)
        start.x.sum().backward()
        for again in (False, True):
            found = equilibrium(T, start, gradient=rule, tol=1e-5, polish=again)
            found.x.sum().backward()
            assert found.adjoint.solution.x.dtype == torch.float32
            assert found.adjoint.solution.steps.max() <= 3


def test_what_cannot_be_polished_says_so():
    x0 = torch.zeros(1, 6)
    T, theta = Linear(), torch.ones((), requires_grad=True)
    with pytest.raises(ValueError, match=r"needs T to be a torch\.nn\.Module, whose"):
        equilibrium(lambda x: T(x), x0, tol=1e-10, polish=True)
    with pytest.raises(ValueError, match=r"parameters\[0\] is no parameter of T"):
        hypergradient(T, x0, lambda x: x.sum(), [theta], gradient_tol=1e-8, polish=True)
    with pytest.raises(ValueError, match=r"the loss depends on parameters\[0\] itself"):
        hypergradient(
            T, x0, lambda x: x.sum() * T.theta.sum(), [T.theta], gradient_tol=1e-8, polish=True
        )
    with pytest.raises(ValueError, match="parameters is empty"):
        hypergradient(T, x0, lambda x: x.sum(), [])


# --- second derivatives ---------------------------------------------------------------------------


def smooth(theta):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    matrix *= 0.8 / torch.linalg.matrix_norm(matrix, 2)
    y = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return tanh_layer(theta, matrix, y), torch.zeros_like(y)


def test_implicit_second_derivatives_agree_with_differences():
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()
    rule = Implicit("gmres", tol=1e-13)

    def value(theta):
        T, x0 = smooth(theta)
        return equilibrium(T, x0, gradient=rule, tol=1e-14, max_layers=2000).x.pow(3).sum()

    assert torch.autograd.gradcheck(value, theta, atol=1e-7)
    assert torch.autograd.gradgradcheck(value, theta, atol=1e-6)


def test_unrolling_has_second_derivatives_and_the_others_say_that_they_have_none():
    from benchmark.gradients.rule import AdjointRecord
    from benchmark.solve.search import Steps

    theta = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()

    def unrolled(theta):
        T, x0 = smooth(theta)
        return LastLayers(4).through(T, x0, Steps(0), AdjointRecord()).x.pow(3).sum()

    assert torch.autograd.gradgradcheck(unrolled, theta, atol=1e-6)
    T, x0 = smooth(theta)
    for rule in (LastLayers(2), Series(3), Phantom(2), InverseEstimate()):
        found = equilibrium(T, x0, gradient=rule, **TIGHT)
        with pytest.raises(RuntimeError, match=r"there is no second derivative: .* Implicit has"):
            (first,) = torch.autograd.grad(found.x.pow(3).sum(), theta, create_graph=True)
            torch.autograd.grad(first.sum(), theta)


# --- the package ----------------------------------------------------------------------------------


def test_the_face_names_what_it_has():
    """It imports nothing before that is asked for: test_report.py looks for torch."""
    for name in benchmark.__all__:
        assert getattr(benchmark, name).__doc__, name
    assert {"equilibrium", "Implicit"} <= set(dir(benchmark))
    with pytest.raises(AttributeError, match="has no attribute 'Exact'"):
        benchmark.Exact  # noqa: B018


def test_samples_and_their_order_do_not_matter():
    oracle = AffineLayer.make(kappa=0.9, samples=4)
    together = equilibrium(oracle.layer(), torch.zeros_like(oracle.y), **TIGHT)
    for i, rule in product(range(4), (Implicit(tol=1e-12),)):
        y = oracle.y[[i]]
        alone = equilibrium(oracle(y), torch.zeros_like(y), gradient=rule, **TIGHT)
        assert relative_error(together.x[[i]].detach(), alone.x.detach()) < 1e-10
