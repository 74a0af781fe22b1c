"""torchdeq's phantom gradient."""

from benchmark.plugins.torchdeq_method import TorchDEQMethod


class Solver(TorchDEQMethod):
    """``get_deq(grad=K, tau=τ)``: differentiate K steps x ← (1−τ)x + τT(x) at the equilibrium.

    ĝ = Σ_{k<K} τBᵀ((1−τ)I + τJᵀ)ᵏ∇ℓ, the truncated Neumann series where τ = 1. The equilibrium is
    found by the ``f_solver`` of torchdeq's table ("fixed_point_iter", "anderson", "broyden"),
    stopped at the *relative* residual ``f_tol`` or after ``f_max_iter`` iterations; ``m`` and
    ``lam`` are the depth and the absolute regularisation of its Anderson. A batch stops when its
    last sample does. Cost: the equilibrium, K layers and K vector-Jacobian products; memory: K
    graphs. References: Geng et al., "On training implicit models" (2021), arXiv 2111.05177; Geng
    and Kolter, "TorchDEQ" (2023), arXiv 2310.18605.

    Use it to compare with what a model trained by torchdeq gets.
    """

    name = "torchdeq-Phantom"
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
        "f_tol": [1e-5],
        "f_max_iter": [500],
        "grad": [5],
        "tau": [1.0],
        "m": [6],
        "lam": [1e-4],
    }

    def equilibrium(self, T, x0):
        return self.solved(T, x0, grad=self.grad, tau=self.tau)
