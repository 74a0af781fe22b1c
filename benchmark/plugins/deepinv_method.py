"""What the methods of deepinv's deep equilibrium mode share."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from deepinv.optim import AndersonAccelerationConfig, BaseOptim, DEQConfig, OptimIterator
from torch import Tensor

from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.solve.convergence import NotConverged
from benchmark.solve.fixed_point import Layer


@dataclass(eq=False)
class _Held:
    """T, as long as someone holds this."""

    T: Layer


class _Iterator(OptimIterator):
    """T as one of deepinv's iterators, without holding it: models of deepinv are cyclic, and
    T with its images would be kept until a collector comes by.
    """

    def __init__(self, held: _Held) -> None:
        super().__init__(has_cost=False)
        self.held = weakref.ref(held)

    def forward(self, X: dict, *problem: object) -> dict:
        return {"est": (self.held().T(X["est"][0]),)}


class DeepinvMethod(StateMethod):
    """``BaseOptim(DEQ=DEQConfig(…))`` on any layer.

    The loops, Anderson's acceleration and the stopping rule are deepinv's; ours is the iterator
    that makes T one of theirs. The solve stops where the relative change, averaged over the batch,
    is below ``thres_conv``, or after ``max_iter`` layers; ``anderson`` accelerates it, with
    ``history_size`` iterates and the absolute regularisation ``eps``. Tachella et al.,
    "DeepInverse" (2025), arXiv 2505.20160.
    """

    parameters = {
        **StateMethod.parameters,
        "thres_conv": [1e-5],
        "max_iter": [500],
        "anderson": [False],
        "history_size": [5],
        "eps": [1e-4],
    }

    @final
    def solved(
        self, T: Layer, x0: Tensor, config: DEQConfig
    ) -> tuple[Tensor, Callable[[str], None]]:
        """The state, and what warns, by the name of a solve, where deepinv's last fell short."""

        held = _Held(T)
        options = AndersonAccelerationConfig(self.history_size, 1.0, self.eps)
        model = BaseOptim(
            _Iterator(held),
            max_iter=self.max_iter,
            thres_conv=self.thres_conv,
            early_stop=True,
            DEQ=config,
            trainable_params=[],
            anderson_acceleration=self.anderson and options,
        )

        def report(what: str) -> None:
            # in the hook of a backward pass, this is what keeps the layer that it needs
            assert held.T is T
            if not model.has_converged:
                warnings.warn(f"{what} did not converge in deepinv", NotConverged, stacklevel=2)
            model.has_converged = False

        x = model(None, None, init=x0.detach())
        report("the equilibrium")
        return x, report
