"""The plain baseline: the optimum of one number, nothing else touched, and when it is skipped."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import LOWER_SPECS, small_task
from pretend_device import DEVICE, pretend_device, unwrap
from scipy.optimize import minimize_scalar
from shared import iter_callback, method

from benchmark.measure.reference import true_equilibrium
from benchmark.problems import LOWER_LEVELS
from benchmark.problems.bilevel import upper_loss
from benchmark.problems.lower_level import set_theta

TIKHONOV = "tikhonov(wavelet='db2',levels=2,weight=1.0)"
TIGHT = {"tol": 1e-9, "max_layers": 2000}


def searched(task, **parameters):
    """The search after its ``steps``, and the results of its rows."""
    solver = method("Grid-Search", **parameters)
    solver.set_objective(task)
    rows, remaining = [], iter_callback(solver.steps + 1)

    def callback():
        rows.append(solver.get_result())
        return remaining()

    solver.run(callback)
    return solver, rows


def value_at(task, theta) -> float:
    """F at the true equilibrium."""
    problem = task.to(device=torch.device("cpu"), dtype=torch.float64).lower
    set_theta(problem, theta)
    x = true_equilibrium(problem, task.train.observation, tol=1e-11).x
    return float(upper_loss(problem, x, task.train))


def shifted(task, shift: float) -> dict:
    """θ₀ with everything that is the strength moved by ``shift``."""
    held = task.lower.strength
    theta = {name: p.detach().clone() for name, p in task.lower.theta().items()}
    return {name: p + shift if name in held else p for name, p in theta.items()}


@pytest.mark.parametrize("degradation", ["denoising(sigma=0.3)", "inpainting(keep=0.5,sigma=0.3)"])
def test_it_finds_the_best_number(degradation):
    """F by another solver: the search is within its own spacing of the minimum."""
    task = small_task(lower=TIKHONOV, degradation=degradation)
    _, rows = searched(task, steps=31, factor=10.0, **TIGHT)
    around = {"bounds": (-math.log(10), math.log(10)), "options": {"xatol": 1e-2}}
    least = minimize_scalar(
        lambda s: value_at(task, shifted(task, float(s))), method="bounded", **around
    )
    best = float(least.x)
    assert abs(best) < 2.2, "the optimum is to lie inside the grid"
    found = rows[-1]["theta"]["log_weights"] - task.lower.log_weights.detach()
    assert torch.allclose(found, found.flatten()[0], atol=1e-12), "all of them alike"
    assert abs(float(found.flatten()[0]) - best) <= math.log(10) / 16 + 0.01
    assert value_at(task, rows[-1]["theta"]) <= least.fun * 1.01


def test_where_no_equilibrium_is_reached_f_is_infinite():
    """With few layers none is, and θ stays at θ₀, which is tried first."""
    task = small_task(lower=TIKHONOV, degradation="inpainting(keep=0.5,sigma=0.3)")
    limits = {"tol": 1e-9, "equilibrium_solver": "picard"}
    known = {}
    for layers in (1, 100, 2000):
        solver, rows = searched(task, steps=7, max_layers=layers, **limits)
        known[layers] = [math.isfinite(trial.value) for trial in solver.tried]
        best = min(solver.tried, key=lambda trial: trial.value)
        assert torch.equal(rows[-1]["theta"]["log_weights"], best.theta["log_weights"])
    assert not any(known[1])
    assert 0 < sum(known[100]) < 7
    assert all(known[2000])


def test_the_grid_is_even_and_each_point_is_tried_once():
    task = small_task(lower=TIKHONOV)
    solver, _ = searched(task, steps=15, factor=math.e)
    start = task.lower.log_weights.flatten()[0].item()
    tried = [t.theta["log_weights"].flatten()[0].item() - start for t in solver.tried]
    assert tried[0] == 0
    assert tried[1:3] == pytest.approx([-0.5, 0.5])
    assert sorted(tried) == pytest.approx([k / 8 for k in range(-7, 8)])


def test_rows_hold_the_best_so_far_and_repeat_themselves():
    task = small_task(lower=TIKHONOV, degradation="denoising(sigma=0.3)")
    solver, rows = searched(task, steps=7, **TIGHT)
    values = [value_at(task, row["theta"]) for row in rows]
    assert values[-1] < values[0]
    assert all(later <= earlier for earlier, later in pairwise(values))
    assert min(t.value for t in solver.tried) == pytest.approx(values[-1], rel=1e-6)
    assert [row["outer_step"] for row in rows] == list(range(8))
    assert rows[-1]["last"]
    assert rows[-1]["training_layer_evals"] > 0
    again, _ = searched(task, steps=7, **TIGHT)
    for a, b in zip(solver.tried, again.tried, strict=True):
        assert a.value == b.value
        assert all(torch.equal(a.theta[name], b.theta[name]) for name in a.theta)


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(
    "lower",
    [
        *LOWER_SPECS,
        "tikhonov(penalise_approximation=True,learn_stepsize=True,levels=2)",
        "pnp",
        "drunet(learn_noise_level=True)",
    ],
)
def test_nothing_but_the_strength_is_moved(lower):
    task = small_task(lower=lower)
    before = {name: p.detach().clone() for name, p in task.lower.state_dict().items()}
    solver, rows = searched(task, steps=3, max_layers=50)
    assert rows[-1]["training"].ok
    last = solver.tried[-1].theta
    for name, value in task.lower.theta().items():
        assert torch.equal(value, before[name]), "the shared task has changed"
        moved = math.log(10) / 2 if name in task.lower.strength else 0
        assert torch.allclose(last[name] - value, torch.full_like(value, moved), atol=1e-12), name


def test_the_strength_of_every_lower_level_is_among_its_parameters():
    for name in LOWER_LEVELS:
        lower = small_task(lower=name, size=24).lower
        if name == "prescribed":  # nothing there regularises
            assert not lower.strength
            continue
        assert lower.strength[0] in dict(lower.named_parameters())


def test_it_is_skipped_where_there_is_nothing_to_shift():
    task = small_task(lower="drunet")
    skipped, reason = method("Grid-Search").skip(task)
    assert skipped
    assert "expected one of log_noise_level to be learned" in reason
    assert method("Grid-Search").skip(small_task(lower="drunet(learn_noise_level=True)")) == (
        False,
        None,
    )


def test_a_value_that_is_not_finite_is_never_the_best(monkeypatch):
    """The lower level breaks down at every second trial."""
    task = small_task(lower=TIKHONOV, degradation="denoising(sigma=0.3)")
    solver = method("Grid-Search", steps=7)
    loss = solver._loss
    calls = iter(range(100))

    def broken(lower, batch):
        value = loss(lower, batch)
        return value * math.nan if next(calls) % 2 else value

    monkeypatch.setattr(solver, "_loss", broken)
    solver.set_objective(task)
    solver.run(iter_callback(8))
    assert [math.isinf(t.value) for t in solver.tried] == [False, True] * 3 + [False]
    best = min(solver.tried, key=lambda t: t.value)
    assert torch.equal(solver.get_result()["theta"]["log_weights"], best.theta["log_weights"])


def test_it_stays_on_its_device():
    task = small_task(lower=LOWER_SPECS[2], degradation="inpainting(keep=0.5)", size=8)
    expected = searched(task, steps=3)[1][-1]["theta"]
    with pretend_device():
        there = task.to(device=DEVICE, dtype=torch.float64)
        found = searched(there, steps=3)[1][-1]["theta"]
    for name, value in found.items():
        assert torch.allclose(unwrap(value), expected[name], rtol=1e-9)


@pytest.mark.parametrize("factor", [1, 0.5, "10"])
def test_bad_factors_are_named(factor):
    with pytest.raises(ValueError, match=r"factor must lie strictly between 1 and 1e\+06"):
        method("Grid-Search", factor=factor)


def test_values_of_f_are_of_the_same_images():
    """Mini-batches come in an order of the seed: F of one would be compared with another's."""
    task = small_task(lower=TIKHONOV, degradation="denoising(sigma=0.3)")
    values = []
    for seed in (0, 1, 2):
        solver, _ = searched(replace(task, seed=seed), steps=3, batch_size=1, **TIGHT)
        values.append([trial.value for trial in solver.tried])
    assert values[0] == values[1] == values[2]
    whole, _ = searched(task, steps=3, **TIGHT)
    assert [trial.value for trial in whole.tried] != values[0]
