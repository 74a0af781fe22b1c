"""deepinv's Jacobian-free mode."""

import warnings

from deepinv.optim import AndersonAccelerationConfig, BaseOptim, DEQConfig, OptimIterator

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import NotConverged


class Solver(HypergradientEstimator):
    """``DEQConfig(jacobian_free=True)``: differentiate one layer at the equilibrium, ĝ = Bᵀ∇ℓ.

    The loop, Anderson's acceleration and the stopping rule are deepinv's; ours is ``Iterator``,
    which makes T an iterator of theirs. The solve stops where the relative change, averaged over
    the batch, is below ``thres_conv``, or after ``max_iter`` layers; ``anderson`` accelerates it,
    with ``history_size`` iterates and the absolute regularisation ``eps``. Cost: the equilibrium,
    one layer, one vector-Jacobian product; memory: one graph. Reference: Tachella et al.,
    "DeepInverse" (2025), arXiv 2505.20160.
    """

    name = "deepinv-JFB"
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
        "anderson": [False],
        "history_size": [5],
        "eps": [1e-4],
    }

    def equilibrium(self, T, x0):
        class Iterator(OptimIterator):
            def forward(self, X, *problem):
                return {"est": (T(X["est"][0]),)}

        options = AndersonAccelerationConfig(self.history_size, 1.0, self.eps)
        model = BaseOptim(
            Iterator(has_cost=False),
            max_iter=self.max_iter,
            thres_conv=self.thres_conv,
            early_stop=True,
            DEQ=DEQConfig(jacobian_free=True),
            trainable_params=[],
            anderson_acceleration=self.anderson and options,
        )
        x = model(None, None, init=x0.detach())
        if not model.has_converged:
            warnings.warn("the equilibrium did not converge in deepinv", NotConverged, stacklevel=2)
        return x
