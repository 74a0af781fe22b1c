"""TorchOpt's implicit differentiation of a root."""

from torchopt import linear_solve
from torchopt.diff.implicit import custom_root

from benchmark.plugins.bilevel_solver import StateMethod


class Solver(StateMethod):
    """``custom_root`` of z − T(z) − c at c = T(x*) − x* = 0, the adjoint by ``solve_normal_cg``.

    TorchOpt differentiates by the arguments of a root, and T closes over θ: c has T's graph and the
    value zero, and ∂z/∂c = (I − J)⁻¹. It brings no solver of fixed points: x* is found by one of
    ours, to the relative residual ``tol`` within ``max_layers`` layers. Its conjugate gradients are
    on the normal equations, for J is not symmetric: products with J and Jᵀ, the condition number
    squared; they stop at ``b_tol`` relative to their right-hand side or after ``b_max_iter`` steps,
    for the batch as one, without saying which. Cost: the equilibrium, two layers, of each step two
    products, and two layers more for what TorchOpt builds anew; memory: two graphs, four states.
    T must have second derivatives. Reference: Ren et al., "TorchOpt: an efficient library for
    differentiable optimization" (2023), JMLR 24, arXiv 2211.06934.

    Use it to compare with what implicit differentiation in TorchOpt gets.
    """

    name = "TorchOpt"
    requirements = ["pip::torchopt"]
    # literals: benchopt reads them from the source where torchopt is absent
    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        "schedule": [None],
        "groups": [None],
        "projection": [None],
        "chunk": [0],
        "steps": [20],
        "batch_size": [0],
        "evaluate_every": [5],
        "warm_start": [False],
        "tol": [1e-6],
        "max_layers": [5000],
        "equilibrium_solver": ["fista"],
        "b_tol": [1e-5],
        "b_max_iter": [500],
    }

    def equilibrium(self, T, x0):
        x = self.search(T, x0).x
        image = T(x)
        solve = linear_solve.solve_normal_cg(rtol=self.b_tol, maxiter=self.b_max_iter)
        root = custom_root(lambda z, c: z - T(z) - c, argnums=1, solve=solve)
        return root(lambda z, c: image.detach())(x, image - image.detach())
