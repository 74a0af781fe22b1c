"""deepinv's deep equilibrium mode."""

from deepinv.optim import DEQConfig

from benchmark.plugins.deepinv_method import DeepinvMethod


class Solver(DeepinvMethod):
    """``DEQConfig()``: solve x = T(x), then w = Jᵀw + ∇ℓ in a backward hook.

    ``DeepinvMethod`` says how the equilibrium is found; the adjoint likewise, to the same
    threshold, within ``max_iter_backward`` products. Cost: the equilibrium, two layers, the
    products of the adjoint; memory: two graphs. Reference: Tachella et al., "DeepInverse" (2025),
    arXiv 2505.20160.

    Use it to compare with what a model trained by deepinv gets.
    """

    name = "deepinv-DEQ"
    requirements = ["pip::deepinv"]
    parameters = {**DeepinvMethod.parameters, "max_iter_backward": [500]}

    def equilibrium(self, T, x0):
        options = (self.history_size, 1.0, self.eps, self.max_iter_backward)
        x, report = self.solved(T, x0, DEQConfig(False, self.anderson, *options))
        if x.requires_grad:
            # hooks run in the order of their registration: this one after deepinv's
            x.register_hook(lambda _: report("the adjoint system"))
        return x
