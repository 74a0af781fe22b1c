"""deepinv's Jacobian-free mode."""

from deepinv.optim import DEQConfig

from benchmark.plugins.deepinv_method import DeepinvMethod


class Solver(DeepinvMethod):
    """``DEQConfig(jacobian_free=True)``: differentiate one layer at the equilibrium, ĝ = Bᵀ∇ℓ.

    ``DeepinvMethod`` says how the equilibrium is found. Cost: the equilibrium, one layer, one
    vector-Jacobian product; memory: one graph. Reference: Tachella et al., "DeepInverse" (2025),
    arXiv 2505.20160.

    Use it to compare with what a model trained by deepinv gets.
    """

    name = "deepinv-JFB"
    requirements = ["pip::deepinv"]

    def equilibrium(self, T, x0):
        x, _ = self.solved(T, x0, DEQConfig(jacobian_free=True))
        return x
