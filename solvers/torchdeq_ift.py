"""torchdeq's implicit differentiation."""

from benchmark.plugins.torchdeq_method import TorchDEQMethod


class Solver(TorchDEQMethod):
    """``get_deq(ift=True)``: solve x = T(x), then w = Jᵀw + ∇ℓ, both by torchdeq's own solvers.

    ``f_solver`` and ``b_solver`` are names of torchdeq's table ("fixed_point_iter", "anderson",
    "broyden"), stopped at the *relative* residuals ``f_tol`` and ``b_tol`` or after ``f_max_iter``
    and ``b_max_iter`` iterations; ``m`` and ``lam`` are the depth and the absolute regularisation
    of its Anderson (1e-4 hides an adjoint that is small), other settings are the library's. A batch
    stops when its last sample does; the adjoint starts from zero each time. Cost: the equilibrium,
    two layers, the products of the adjoint solver; memory: one graph, and for Broyden two states an
    iteration.
    Reference: Geng and Kolter, "TorchDEQ: a library for deep equilibrium models" (2023),
    arXiv 2310.18605.

    Use it to compare with what a model trained by torchdeq gets.
    """

    name = "torchdeq-IFT"
    requirements = ["pip::torchdeq"]
    # literals: benchopt reads them from the source where torchdeq is absent
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
        "f_solver": ["fixed_point_iter"],
        "b_solver": ["fixed_point_iter"],
        "f_tol": [1e-5],
        "b_tol": [1e-5],
        "f_max_iter": [500],
        "b_max_iter": [500],
        "m": [6],
        "lam": [1e-4],
    }

    def equilibrium(self, T, x0):
        backward = {"b_tol": self.b_tol, "b_max_iter": self.b_max_iter, "b_stop_mode": "rel"}
        options = {"ift": True, "b_solver": self.b_solver, **backward}
        return self.solved(T, x0, adjoint_tol=self.b_tol, **options)
