"""deepinv's deep equilibrium mode."""

import warnings

from deepinv.optim import AndersonAccelerationConfig, BaseOptim, DEQConfig, OptimIterator

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import NotConverged


class Solver(HypergradientEstimator):
    """``BaseOptim(DEQ=DEQConfig(…))``: solve x = T(x), then w = Jᵀw + ∇ℓ in a backward hook.

    The loops, Anderson's acceleration, the stopping rule and the hook are deepinv's; ours is
    ``Iterator``, which makes T an iterator of theirs. Both solves share the threshold
    ``thres_conv`` on the relative change, averaged over the batch; each has its own limit,
    ``max_iter`` and ``max_iter_backward``. ``anderson`` accelerates both, with ``history_size``
    iterates and the absolute regularisation ``eps``. Cost: the equilibrium, two layers, the
    products of the adjoint; memory: two graphs. Reference: Tachella et al., "DeepInverse" (2025),
    arXiv 2505.20160.
    """

    name = "deepinv-DEQ"
    requirements = ["pip::deepinv"]
    # literals: benchopt reads them from the source where this part of deepinv is absent
    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        "steps": [20],
        "batch_size": [0],
        "evaluate_every": [5],
        "warm_start": [False],
        "thres_conv": [1e-5],
        "max_iter": [500],
        "max_iter_backward": [500],
        "anderson": [False],
        "history_size": [5],
        "eps": [1e-4],
    }

    def equilibrium(self, T, x0):
        class Iterator(OptimIterator):
            def forward(self, X, *problem):
                return {"est": (T(X["est"][0]),)}

        options = (self.history_size, 1.0, self.eps)
        config = DEQConfig(False, self.anderson, *options, self.max_iter_backward)
        model = BaseOptim(
            Iterator(has_cost=False),
            max_iter=self.max_iter,
            thres_conv=self.thres_conv,
            early_stop=True,
            DEQ=config,
            trainable_params=[],
            anderson_acceleration=self.anderson and AndersonAccelerationConfig(*options),
        )

        def report(what):
            if not model.has_converged:
                warnings.warn(f"{what} did not converge in deepinv", NotConverged, stacklevel=2)
            model.has_converged = False

        x = model(None, None, init=x0.detach())
        report("the equilibrium")
        if x.requires_grad:
            # hooks run in the order of their registration: this one after deepinv's
            x.register_hook(lambda _: report("the adjoint system"))
        return x
