"""One Newton step on x = T(x) after a rough solution: it squares the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from benchmark.options.checks import positive_number
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.krylov import gmres
from benchmark.solve.named import EquilibriumSolver, equilibrium_solver
from benchmark.solve.vectors import MatVec, expand, norm


@final
@dataclass(frozen=True)
class NewtonCorrected:
    """x + d with (I − J)d = T(x) − x, x what ``solver`` finds, J the Jacobian of T there.

    Where T is smooth, ‖x + d − x*‖ = O(‖x − x*‖²); where it is affine on pieces, x + d is x* as
    soon as x is on its piece. A sample whose residual would be larger has T(x) instead. The system
    is solved by GMRES to the relative residual ``tol``. Cost beside the solver's: two layers, and a
    derivative of a product with Jᵀ for each product with J, which counts as a layer; memory: the
    graphs of a layer and of a product, and GMRES's basis. T must have second derivatives.

    Raises ValueError for a solver or a tolerance that is not known or out of its range.

    Examples
    --------
    >>> T, x0 = torch.cos, torch.zeros(1, 1).double()
    >>> rough = equilibrium_solver("picard")(T, x0, tol=1e-3, max_layers=99)
    >>> fine = NewtonCorrected("picard", tol=1e-10)(T, x0, tol=1e-3, max_layers=99)
    >>> [f"{(found.x - 0.7390851332151607).abs().item():.0e}" for found in (rough, fine)]
    ['2e-04', '7e-09']
    """

    solver: str | EquilibriumSolver
    tol: float

    def __post_init__(self) -> None:
        equilibrium_solver(self.solver)
        positive_number("tol", self.tol)

    def __call__(self, T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
        found = equilibrium_solver(self.solver)(T, x0, tol=tol, max_layers=max_layers)
        image, matvec = _linearized(T, found.x)
        d = gmres(matvec, image - found.x, tol=self.tol, max_steps=max_layers)
        with torch.no_grad():
            moved = found.x + d.x
            onward = T(moved)
        before, after = (
            norm(there - here) / norm(there).clamp_min(torch.finfo(there.dtype).tiny)
            for there, here in ((image, found.x), (onward, moved))
        )
        # false for what is no number
        better = after < before
        residual = torch.where(better, after, before)
        return Equilibrium(
            torch.where(expand(better, image), onward, image),
            residual=residual,
            steps=found.steps + d.steps + 2,
            converged=residual <= tol,
        )


def _linearized(T: Layer, x: Tensor) -> tuple[Tensor, MatVec]:
    """T(x), and v ↦ (I − J)v: Jv is the derivative along v of u ↦ Jᵀu, which is linear."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        image = T(x)
        u = torch.zeros_like(image, requires_grad=True)
        options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
        (jt,) = torch.autograd.grad(image, x, u, **options) if image.requires_grad else (None,)

    def matvec(v: Tensor) -> Tensor:
        if jt is None or not jt.requires_grad:
            return v
        (jv,) = torch.autograd.grad(jt, u, v, retain_graph=True)
        return v - jv

    return image.detach(), matvec
