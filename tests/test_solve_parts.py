"""What the solvers share: arithmetic per sample, Anderson's mixing, results and warnings."""

from __future__ import annotations

import warnings
from dataclasses import is_dataclass
from importlib import import_module

import numpy as np
import plain_solvers
import pytest
import torch
from conftest import ROOT

from benchmark.solve.convergence import (
    NotConverged,
    NotConvergedError,
    reachable_tolerance,
    require_converged,
)
from benchmark.solve.fixed_point import picard
from benchmark.solve.linear import auto
from benchmark.solve.mixing import AndersonMixing
from benchmark.solve.named import adjoint_solver, equilibrium_solver
from benchmark.solve.system import ProjectedSystem, checked_tolerance, scale_of, solution, start
from benchmark.solve.vectors import (
    combination,
    dot,
    expand,
    expand_from_host,
    norm,
    on_device,
    on_host,
    products,
    rows,
    select,
)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_arithmetic_per_sample():
    a, b = random(3, 2, 4), random(3, 2, 4, seed=1)
    for i in range(3):
        flat, other = a[i].flatten().numpy(), b[i].flatten().numpy()
        assert dot(a, b)[i].item() == pytest.approx(flat @ other)
        assert norm(a)[i].item() == pytest.approx(np.linalg.norm(flat))
    vectors, w, c = random(3, 5, 8), random(3, 8, seed=2), random(3, 5, seed=3)
    inner, outer = products(vectors, w), combination(c, vectors)
    assert torch.allclose(inner, torch.einsum("nkd,nd->nk", vectors, w))
    assert torch.allclose(outer, torch.einsum("nk,nkd->nd", c, vectors))
    # a sample of a single number is one too
    assert rows(torch.ones(3)).shape == (3, 1)
    assert norm(-torch.ones(3)).tolist() == [1, 1, 1]


def test_numbers_go_to_the_host_and_back():
    one, table = random(3), random(3, 2)
    found = on_host(one, table, one)
    for tensor, array in zip((one, table, one), found, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    like = torch.zeros(3, 2, 2, dtype=torch.float32)
    assert on_device(found[0], like).dtype == torch.float32
    flags = np.array([True, False, True])
    assert on_device(flags, like).dtype == torch.bool
    assert expand(one, like).shape == expand_from_host(flags, like).shape == (3, 1, 1)


def test_selecting_copies_only_where_it_has_to():
    a, b = random(2, 3), random(2, 3, seed=1)
    assert select(np.array([True, True]), a, b) is a
    assert select(np.array([False, False]), a, b) is b
    assert torch.equal(select(np.array([True, False]), a, b), torch.stack([a[0], b[1]]))


def test_mixing_step_by_step_and_from_the_start_where_it_is_to_forget():
    """Two samples: the second forgets at the fifth step, the first never does."""
    matrix = 0.9 * torch.linalg.qr(random(6, 6))[0]
    mixing, x = AndersonMixing(depth=3), torch.zeros(2, 6).double()
    plain = [plain_solvers.mixing(3) for _ in range(2)]
    for step in range(9):
        image = x @ matrix.T + 1
        forget = np.array([False, step == 4])
        measured = on_host(*found) if (found := mixing.measure(image, image - x)) else []
        new = mixing.propose(image, *measured, forget=forget)
        for i in range(2):
            exact = plain[i](image[i].numpy(), (image - x)[i].numpy(), failed=forget[i])
            np.testing.assert_allclose(new[i], exact, rtol=1e-6, atol=1e-8)
        x = new
    # not even a difference that is no number outlives that
    mixing.measure(image * torch.inf, image * torch.inf)
    mixing.propose(image, *(np.full(n, np.nan) for n in ((2, 3), 2)), forget=np.ones(2, bool))
    for _ in range(2):
        measured = on_host(*mixing.measure(image, image - x))
        assert mixing.propose(image, *measured, forget=np.ones(2, bool)).isfinite().all()


def test_the_tolerance_that_a_dtype_can_reach():
    assert reachable_tolerance(torch.float64) == 32 * 2.0**-52
    assert reachable_tolerance(torch.float32) == 32 * 2.0**-23
    assert checked_tolerance(1e-9, 5, torch.float64) == 1e-9
    assert checked_tolerance(1e-9, 5, torch.float32) == 32 * 2.0**-23


def test_what_did_not_converge_is_told_with_how_many_and_how_far():
    found = solution(random(3, 2), np.array([1e-9, 0.25, 0.125]), np.array([3, 70, 80]), tol=1e-6)
    said = "the solve did not converge for 2 of 3 samples: relative residual 2.5e-01 after 80 steps"
    with pytest.warns(NotConverged) as caught:
        assert require_converged(found, what="the solve") is found
    assert str(caught[0].message) == said
    with pytest.raises(NotConvergedError) as raised:
        require_converged(found, what="the solve", on_failure="raise")
    assert str(raised.value) == said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert require_converged(found, what="the solve", on_failure="ignore") is found
        converged = picard(lambda x: 0.5 * x + 1, torch.ones(1, 1), tol=0.1, max_layers=9)
        for on_failure in ("warn", "raise", "ignore"):
            assert require_converged(converged, what="it", on_failure=on_failure) is converged
    with pytest.raises(ValueError, match=r"on_failure must be .* got 'fail'"):
        require_converged(found, what="the solve", on_failure="fail")


def test_parts_of_linear_systems():
    b = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert scale_of(b.detach()).tolist() == [5, torch.finfo(torch.float32).tiny]
    begun = start(torch.ones(2, 2, requires_grad=True), b.detach())
    assert begun.tolist() == [[1, 1], [0, 0]]
    assert not begun.requires_grad
    found = solution(begun, np.array([0.5, 0.25]), np.array([1, 2]), tol=0.25)
    assert found.converged.tolist() == [False, True]
    assert found.residual.dtype == torch.float32
    assert found.steps.tolist() == [1, 2]
    system = ProjectedSystem(P=lambda x: x * torch.tensor([1.0, 0.0]), G=lambda x: 3 * x)
    assert system(torch.ones(1, 2)).tolist() == [[-2, 1]]


def test_what_a_brought_solver_returns_is_measured():
    """x alone: residuals of each sample, and one more application for the batch."""
    rates, x0 = torch.tensor([[0.5], [0.75]]).double(), torch.zeros(2, 1).double()

    def three(T, x0, *, tol, max_layers):
        return T(T(T(x0)))

    # 7/4 and 37/16 are moved by 1/8 and 27/64
    for tol, converged in ((1 / 15, [True, False]), (0.066, [False, False])):
        found = equilibrium_solver(three)(lambda x: rates * x + 1, x0, tol=tol, max_layers=9)
        assert found.x[:, 0].tolist() == [15 / 8, 1 + 0.75 * 37 / 16]
        assert found.residual.tolist() == pytest.approx([1 / 15, 27 / 64 / (1 + 0.75 * 37 / 16)])
        assert found.steps.tolist() == [4, 4] and found.converged.tolist() == converged
    for named, own in ((equilibrium_solver, picard), (adjoint_solver, auto)):
        assert named(own) is own, "those of the package are not measured again"
        assert named(checked := named(three)) is checked
    solve = adjoint_solver(lambda matvec, b, *, tol, max_steps, x0: matvec(matvec(b)))
    solution = solve(lambda w: w - rates * w, 1 + x0, tol=0.9, max_steps=9)
    assert solution.x[:, 0].tolist() == [1 / 4, 1 / 16] and solution.steps.tolist() == [3, 3]
    assert solution.residual.tolist() == pytest.approx([7 / 8, 63 / 64])
    assert solution.converged.tolist() == [True, False]


def test_auto_uses_what_it_is_told_of_the_system():
    """Of A = diag(2, −3), told as I − G I: not positive, which conjugate gradients alone minds."""
    rates, b = torch.tensor([[2.0, -3.0]]).double(), torch.ones(1, 2).double()
    system = ProjectedSystem(P=lambda x: x, G=lambda x: x - rates * x)
    assert not auto(system, b, tol=1e-9, max_steps=20).converged.any()
    assert auto(lambda x: rates * x, b, tol=1e-9, max_steps=20).converged.all()


@pytest.mark.parametrize("wing", ["solve", "gradients"])
def test_results_and_rules_are_frozen(wing):
    modules = [
        import_module(f"benchmark.{wing}.{f.stem}")
        for f in (ROOT / "benchmark" / wing).glob("*.py")
    ]
    found = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    thawed = {c.__name__ for c in found if is_dataclass(c) and not c.__dataclass_params__.frozen}
    # the backward pass fills it
    assert thawed == ({"AdjointRecord"} if wing == "gradients" else set())
