"""Training as one would write it without this project: deepinv's own prior and a plain torch loop.

The bilevel problem is that of ``wavelet_l1``: the same images, operator, loss and θ, log λ of each
band. deepinv's ``WaveletPrior`` pads images, so that its transform is the orthonormal periodised
one for the Haar wavelet alone; with it, a layer agrees with ours to rounding, and F at the same θ
to the tolerance of the equilibria (``tests/test_time_to_train.py`` holds both). What deepinv does
beside the layer and need not is switched off: the cost of each iterate. Layers and products are
counted by a hook, at the cost of one view a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count
from time import process_time

import torch
from deepinv.optim import (
    L2,
    AndersonAccelerationConfig,
    BaseOptim,
    DEQConfig,
    WaveletPrior,
)
from deepinv.optim.optim_iterators import PGDIteration
from torch import Tensor

from benchmark import Implicit, equilibrium
from benchmark.measure.counting import CountedLayer
from benchmark.measure.timing import Stopwatch
from benchmark.measure.truth import at_theta
from benchmark.problems.bilevel import LearningTask
from benchmark.problems.wavelet_l1 import WaveletL1


@dataclass(frozen=True)
class Moment:
    """After an outer step: the seconds of training so far, by the clock and of the processor,
    layers and products, and θ.
    """

    seconds: float
    busy: float
    layers: int
    products: int
    theta: Tensor


class BothClocks(Stopwatch):
    """Seconds of the processor beside those of the clock: where others run, they tell more."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = process_time()
        try:
            with super().running():
                yield
        finally:
            self.busy += process_time() - start


class LogWavelets(WaveletPrior):
    """deepinv's prior with one threshold for each band, given as its logarithm."""

    def prox(self, x: Tensor, log_weights: Tensor, *args, gamma: float = 1.0, **kwargs) -> Tensor:
        return super().prox(x, ths=log_weights.exp(), gamma=gamma)


class RidgedL2(L2):
    """½‖Ax − y‖² + ε/2‖x‖²: deepinv has no sum of a data term and a second penalty."""

    def __init__(self, ridge: float) -> None:
        super().__init__()
        self.ridge = ridge

    def grad(self, x: Tensor, y: Tensor, physics: object, *args, **kwargs) -> Tensor:
        return super().grad(x, y, physics, *args, **kwargs) + self.ridge * x


def bands(levels: int) -> list[int]:
    """The level of ours, 0 the finest, at each place of deepinv's thresholds: deepinv reads level
    k = 1 … n, the coarsest first, at place k − 2, so that the coarsest comes last.

    Examples
    --------
    >>> bands(3)
    [1, 0, 2]
    """
    return [levels - 2 - place if place < levels - 1 else place for place in range(levels)]


def as_native(log_weights: Tensor) -> Tensor:
    """Our θ (levels, 3, 1) as deepinv's (1, levels, 3)."""
    return log_weights.detach()[bands(len(log_weights)), :, 0][None].clone()


def as_ours(log_weights: Tensor) -> Tensor:
    """The inverse of ``as_native``."""
    found = torch.empty_like(log_weights[0])
    found[bands(len(found))] = log_weights.detach()[0]
    return found[..., None]


def model(
    lower: WaveletL1,
    *,
    thres_conv: float,
    anderson: AndersonAccelerationConfig | None,
    jacobian_free: bool = False,
    max_iter: int = 1000,
) -> BaseOptim:
    """deepinv's deep equilibrium model for the θ and the operator of ``lower``."""
    backward = {"jacobian_free": jacobian_free, "max_iter_backward": max_iter}
    if anderson is not None:
        size, beta, eps = anderson.history_size, anderson.beta, anderson.eps
        backward |= {"anderson_acceleration_backward": True, "history_size_backward": size}
        backward |= {"beta_backward": beta, "eps_backward": eps}
    transform = lower.transform
    made = BaseOptim(
        PGDIteration(has_cost=False),
        params_algo={
            "stepsize": float(lower.stepsize().detach()),
            "lambda": 1.0,
            "g_param": [as_native(lower.log_weights)],
        },
        data_fidelity=RidgedL2(lower.ridge),
        prior=LogWavelets(level=transform.levels, wv="haar"),
        max_iter=max_iter,
        thres_conv=thres_conv,
        early_stop=True,
        trainable_params=["g_param"],
        DEQ=DEQConfig(**backward),
        anderson_acceleration=anderson,
    )
    return made.to(lower.log_weights.dtype)


def deepinv_loop(
    task: LearningTask,
    *,
    learning_rate: float,
    thres_conv: float = 1e-4,
    eps: float | None = None,
    jacobian_free: bool = False,
    warm_start: bool = False,
) -> Iterator[Moment]:
    """deepinv alone; ``eps`` is the regularisation of its Anderson acceleration, None: there is
    none. ``warm_start`` hands the last reconstruction to the model as ``init``.
    """
    anderson = None if eps is None else AndersonAccelerationConfig(5, 1.0, eps)
    options = {"thres_conv": thres_conv, "anderson": anderson, "jacobian_free": jacobian_free}
    made = model(task.lower, **options)
    tick = CountedLayer(lambda x: x)

    def counted(_: object, __: object, out: dict) -> dict:
        return {**out, "est": (tick(out["est"][0]), *out["est"][1:])}

    made.fixed_point.iterator.register_forward_hook(counted)

    def reconstructed(last: Tensor | None) -> Tensor:
        return made(task.train.observation, task.lower.physics, init=last)

    theta = made.params_algo["g_param"][0]
    return _descent(task, theta, reconstructed, tick, learning_rate, warm_start)


#: x* with its graph, from a layer, where to start, and whether that is where the last one was
Solve = Callable[[Callable[[Tensor], Tensor], Tensor, bool], Tensor]


def layer_loop(
    task: LearningTask, solve: Solve, *, learning_rate: float, warm_start: bool
) -> Iterator[Moment]:
    """deepinv's own layer, its equilibrium found and differentiated by ``solve``."""
    y = task.train.observation
    layer, theta = own_layer(task.lower, y)
    T = CountedLayer(layer)

    def reconstructed(last: Tensor | None) -> Tensor:
        x0 = task.lower.physics.A_adjoint(y) if last is None else last
        return solve(T, x0, last is not None)

    return _descent(task, theta, reconstructed, T, learning_rate, warm_start)


def own_layer(lower: WaveletL1, y: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """deepinv's own layer for the θ and the operator of ``lower``, and its θ."""
    made = model(lower, thres_conv=0.0, anderson=None)
    iterator, of_this = made.fixed_point.iterator, (made.data_fidelity[0], made.prior[0])
    of_this += (made.update_params_fn(0), y, lower.physics)
    return lambda x: iterator({"est": (x,)}, *of_this)["est"][0], made.params_algo["g_param"][0]


def torchdeq_loop(
    task: LearningTask,
    *,
    learning_rate: float,
    solver: str = "anderson",
    tol: float = 1e-4,
    lam: float = 1e-4,
    warm_start: bool = False,
) -> Iterator[Moment]:
    """torchdeq around deepinv's own layer; ``lam`` is the regularisation of its Anderson, which
    ``get_deq`` does not hand on to the adjoint's: its table of solvers does.
    """
    from torchdeq import get_deq
    from torchdeq.solver import register_solver
    from torchdeq.solver.anderson import anderson_solver

    register_solver("anderson", partial(anderson_solver, lam=lam))
    forward = {"f_solver": solver, "f_tol": tol, "f_max_iter": 1000, "f_stop_mode": "rel"}
    backward = {"b_solver": solver, "b_tol": tol, "b_max_iter": 1000, "b_stop_mode": "rel"}
    deq = get_deq(ift=True, **forward, **backward)

    def solve(T: Callable[[Tensor], Tensor], x0: Tensor, again: bool) -> Tensor:
        found, _ = deq(T, x0)
        return found[-1]

    return layer_loop(task, solve, learning_rate=learning_rate, warm_start=warm_start)


def library_loop(
    task: LearningTask,
    *,
    learning_rate: float,
    tol: float = 1e-3,
    adjoint_tol: float = 1e-2,
    warm_start: bool = False,
) -> Iterator[Moment]:
    """deepinv's own layer with this library's ``equilibrium``: what the layer costs, and what the
    solvers.
    """
    rule, found = Implicit("gmres", tol=adjoint_tol), None

    def solve(T: Callable[[Tensor], Tensor], x0: Tensor, again: bool) -> Tensor:
        nonlocal found  # its adjoint is a start too
        found = equilibrium(T, found if again else x0, solver="anderson", gradient=rule, tol=tol)
        return found.x

    return layer_loop(task, solve, learning_rate=learning_rate, warm_start=warm_start)


def available(name: str) -> bool:
    """Whether the libraries of a loop are installed: ptwt, and torchdeq for that of torchdeq."""
    needed = ["ptwt"] + ["torchdeq"] * ("torchdeq" in name)
    return all(find_spec(module) for module in needed)


def loss(task: LearningTask, theta: Tensor) -> float:
    """F at ``theta`` (levels, 3, 1) on the training set by deepinv's own model, in the dtype of the
    task; 4000 of its iterations.
    """
    with torch.no_grad():
        lower = at_theta(task.lower, {"log_weights": theta})
        made = model(lower, thres_conv=1e-9, anderson=None, max_iter=4000)
        x = made(task.train.observation, lower.physics)
        return float((x - task.train.truth).square().mean())


def _descent(
    task: LearningTask,
    theta: Tensor,
    reconstructed: Callable[[Tensor | None], Tensor],
    counted: CountedLayer,
    learning_rate: float,
    warm_start: bool,
) -> Iterator[Moment]:
    """Adam on the mean squared error, without end; one step that changes nothing goes before."""
    truth, clock, last = task.train.truth, BothClocks(), None
    optimizer = torch.optim.Adam([theta], lr=learning_rate)
    (reconstructed(None) - truth).square().mean().backward()
    before = counted.layer_evals, counted.vjp_evals
    for _ in count():
        evals = (counted.layer_evals - before[0], counted.vjp_evals - before[1])
        yield Moment(clock.seconds, clock.busy, *evals, as_ours(theta))
        with clock.running():
            optimizer.zero_grad()
            x = reconstructed(last)
            (x - truth).square().mean().backward()
            optimizer.step()
            last = x.detach() if warm_start else None
