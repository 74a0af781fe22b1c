"""Every method that trains lowers F, as far as steps along the exact gradient would.

F is the upper loss at the true equilibrium, whatever the method's own state; the exact gradient is
the central difference of F. That the comparison notices faults of the outer loop, a flipped sign
among them, is tested with the faults.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from itertools import product

import pytest
import torch
from conftest import gradient_methods, plugins, small_task
from oracles import central_difference

from benchmark.measure.reference import true_equilibrium
from benchmark.plugins import descent
from benchmark.problems.bilevel import upper_loss
from benchmark.problems.lower_level import set_theta

#: three bands and the approximation, each with a weight of its own
LOWER = "tikhonov(wavelet='haar',levels=1,penalise_approximation=True,stepsize=1.2)"
DEGRADATION = "inpainting(keep=0.7,sigma=0.3)"
#: log weights to start from: the bands' far too low and the approximation's far too high, so that
#: the gradient's entries have both signs and none can stand for another
START = {"log_weights": -2.0, "log_approximation_weight": 0.5}
STEPS = 4
RATES = {"adam": 0.3, "gradient_descent": 10.0}
#: what the optimizers of the plugins are to be
OPTIMIZERS = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}
#: of the decrease by exact gradients that a method is to reach: JFB's gradient is the first term of
#: a series and shorter than the exact one, which Adam, unlike gradient descent, does not notice
SHARES = {"adam": 0.9, "gradient_descent": 0.7}
#: and that it is not to exceed
TOO_MUCH = 1.05

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
        return upper_loss(task.lower, x, task.train).item()


@cache
def value_at_start() -> float:
    return value(fresh_task())


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


def trained(name: str, optimizer: str | None = None):
    """The plugin, not run yet, on the task; with ``optimizer`` at its rate, where given one."""
    descent = {"optimizer": optimizer, "learning_rate": RATES[optimizer]} if optimizer else {}
    solver = plugins()[name].get_instance(steps=STEPS, **descent)
    solver.set_objective(task=fresh_task())
    return solver


def decrease(solver) -> float:
    """How much lower F is where the run of ``solver`` ends than where it starts."""
    found = []

    def callback():
        found.append(solver.get_result())
        return len(found) <= STEPS

    solver.run(callback)
    assert [result["outer_step"] for result in found] == list(range(STEPS + 1))
    start = fresh_task().lower.theta()
    assert all(torch.equal(found[0]["theta"][name], start[name]) for name in start)
    return value_at_start() - value_at(found[-1]["theta"])


def share(solver) -> float:
    """``decrease`` as a share of the exact gradient's."""
    return decrease(solver) / exact_decrease(solver.optimizer)


def as_exact(solver) -> bool:
    return SHARES[solver.optimizer] <= share(solver) <= TOO_MUCH


@pytest.mark.parametrize("optimizer", RATES)
def test_exact_gradients_lower_f_by_much(optimizer):
    """What the methods are compared with is itself no small thing."""
    assert exact_decrease(optimizer) > value(fresh_task()) / 2


@pytest.mark.parametrize(
    ("name", "optimizer"),
    # a gradient that is too short is noticed where steps are in proportion to it
    [*((name, "gradient_descent") for name in METHODS), ("DEQ", "adam"), ("JFB", "adam")],
)
def test_a_method_lowers_f_as_exact_gradients_do(name, optimizer):
    assert as_exact(trained(name, optimizer))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_lowers_f(name):
    assert decrease(trained(name)) > 0


# --- faults, which the comparison must notice -------------------------------------------------


def with_gradients(solver, wrong) -> None:
    """``wrong`` of the flat gradient, in place of each gradient that ``solver`` estimates."""
    right = solver.hypergradient

    def hypergradient(lower, batch):
        found = right(lower, batch)
        entries = wrong(torch.cat([g.flatten() for g in found.gradient]))
        parts = entries.split([g.numel() for g in found.gradient])
        shaped = [part.view_as(g) for part, g in zip(parts, found.gradient, strict=True)]
        return replace(found, gradient=shaped)

    solver.hypergradient = hypergradient


GRADIENT_FAULTS = {
    "sign flipped": torch.neg,
    "in the reversed order": lambda entries: entries.flip(0),
    "in another order": lambda entries: entries.roll(1),
    "one for all": lambda entries: entries.mean().expand_as(entries),
    "the approximation's left out": lambda entries: entries * (entries < 0),
    "the bands' left out": lambda entries: entries * (entries > 0),
}
#: by gradient descent the approximation's weight does nearly all of the work
SEEN_BY_ADAM_ALONE = ("the bands' left out", "gradient_descent")


def test_gradients_that_are_put_back_as_they_are_pass():
    """The faults below are noticed for what they are, not for how they are planted."""
    solver = trained("DEQ", "adam")
    with_gradients(solver, torch.clone)
    assert as_exact(solver)


@pytest.mark.parametrize(
    ("fault", "optimizer"),
    [case for case in product(GRADIENT_FAULTS, RATES) if case != SEEN_BY_ADAM_ALONE],
)
def test_a_wrong_gradient_is_noticed(fault, optimizer):
    solver = trained({"adam": "DEQ", "gradient_descent": "JFB"}[optimizer], optimizer)
    with_gradients(solver, GRADIENT_FAULTS[fault])
    assert not as_exact(solver)


OPTIMIZER_FAULTS = {
    "its own learning rate": lambda right, params, lr: right(params),
    "a third of the learning rate": lambda right, params, lr: right(params, lr=lr / 3),
    "ascent": lambda right, params, lr: right(params, lr=lr, maximize=True),
    "the first parameter alone": lambda right, params, lr: right(params[:1], lr=lr),
    "the other optimizer": lambda right, params, lr: (
        torch.optim.SGD if right is torch.optim.Adam else torch.optim.Adam
    )(params, lr=lr),
}


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("fault", OPTIMIZER_FAULTS)
def test_a_wrong_optimizer_is_noticed(fault, optimizer, monkeypatch):
    right = OPTIMIZERS[optimizer]
    planted = partial(OPTIMIZER_FAULTS[fault], right)
    monkeypatch.setitem(descent.OPTIMIZERS, optimizer, planted)
    assert not as_exact(trained("DEQ", optimizer))
