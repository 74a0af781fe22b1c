"""Every method that trains lowers F, as far as steps along the exact gradient would.

F is the upper loss at the true equilibrium, whatever the method's own state; the exact gradient is
the central difference of F. That the comparison notices faults of the outer loop, a flipped sign
among them, is tested with the faults.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from conftest import gradient_methods, plugins, small_task
from oracles import central_difference
from test_methods import iter_callback

from benchmark.measure.reference import true_equilibrium
from benchmark.problems.lower_level import set_theta, upper_loss

#: three bands and the approximation, each with a weight of its own
LOWER = "tikhonov(wavelet='haar',levels=1,penalise_approximation=True,stepsize=1.2)"
DEGRADATION = "inpainting(keep=0.7,sigma=0.3)"
#: log weights to start from: the bands' far too low and the approximation's far too high, so that
#: the gradient's entries have both signs and none can stand for another
START = {"log_weights": -2.0, "log_approximation_weight": 0.5}
STEPS = 4
RATES = {"adam": 0.3, "gradient_descent": 40.0}
#: what the optimizers of the plugins are to be
OPTIMIZERS = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}
#: of the decrease by exact gradients that a method is to reach
SHARE = 0.3

METHODS = sorted(gradient_methods())
SEARCHES = sorted(plugins().keys() - gradient_methods().keys())


def fresh_task():
    task = small_task(lower=LOWER, degradation=DEGRADATION, size=8)
    with torch.no_grad():
        for name, parameter in task.lower.theta().items():
            parameter.fill_(START[name])
    return task


def value(task) -> float:
    """F at the θ of ``task``."""
    x = true_equilibrium(task.lower, task.train.observation, tol=1e-11).x
    with torch.no_grad():
        return upper_loss(task.lower, x, task.train.truth).item()


def value_at(theta) -> float:
    task = fresh_task()
    set_theta(task.lower, theta)
    return value(task)


def exact_gradient(task) -> list[torch.Tensor]:
    """∇F by central differences, entry by entry."""
    theta = list(task.lower.theta().values())
    gradient = [torch.zeros_like(p) for p in theta]
    for g in gradient:
        for i in range(g.numel()):
            direction = [torch.zeros_like(p) for p in theta]
            direction[[h is g for h in gradient].index(True)].view(-1)[i] = 1
            slope = central_difference(lambda: value(task), theta, direction, step=1e-4)
            g.view(-1)[i] = slope
    return gradient


@cache
def exact_decrease(optimizer: str) -> float:
    """How much lower F is after ``STEPS`` steps along the exact gradient."""
    task = fresh_task()
    theta = list(task.lower.theta().values())
    descent = OPTIMIZERS[optimizer](theta, lr=RATES[optimizer])
    start = value(task)
    for _ in range(STEPS):
        for parameter, gradient in zip(theta, exact_gradient(task), strict=True):
            parameter.grad = gradient
        descent.step()
    return start - value(task)


def trained(name: str, **parameters):
    """The plugin, not run yet, on the task."""
    solver = plugins()[name].get_instance(**parameters)
    solver.set_objective(task=fresh_task())
    return solver


def decrease(solver) -> float:
    """How much lower F is where the run of ``solver`` ends than where it starts."""
    found, remaining = [], iter_callback(solver.steps + 1)

    def callback():
        found.append(solver.get_result()["theta"])
        return remaining()

    solver.run(callback)
    return value_at(found[0]) - value_at(found[-1])
