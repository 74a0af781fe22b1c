"""What a hypergradient costs: a share of the time, an overhead over what it calls, memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from conftest import small_task
from evaluated import INPAINTING, RIDGE, row_of
from shared import method

from benchmark.measure import cost, counting, memory, timing
from benchmark.measure.truth import Truth
from benchmark.problems.bilevel import BilevelTask
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS
from benchmark.solve.linear import ADJOINT_SOLVERS


@pytest.fixture(scope="module")
def task() -> BilevelTask:
    """A layer that contracts, by 0.9 at worst."""
    return small_task(lower=RIDGE, degradation=INPAINTING)


@pytest.fixture(scope="module")
def truth(task) -> Truth:
    return Truth(task)


@pytest.mark.parametrize(("training", "allowed"), [(0, 5.0), (1, 0.5), (20, 2.0), (1e4, 5.0)])
def test_timing_takes_a_share_of_what_training_took(training, allowed, monkeypatch):
    monkeypatch.setattr(cost, "TIMING_BUDGET", 5.0)  # the tests' own is none
    assert cost.budget(training) == allowed


def timings(seconds: dict[object, float]) -> dict[object, timing.Timing]:
    """As if each call had been timed once."""
    return {call: timing.Timing(s, 0.0, 1, False, (s,)) for call, s in seconds.items()}


def without_memory(monkeypatch) -> None:
    """No call is run for its memory."""
    monkeypatch.setattr(memory, "live_memory", lambda call: 0.0)
    monkeypatch.setattr(memory, "device_memory", lambda call, device: 0.0)


def test_overhead_is_over_the_sum_of_what_is_called(task, truth, monkeypatch):
    seconds = {"gradient": 30.0, "layer": 1.0, "graph": 2.0, "product": 3.0}

    def timed(calls, device, budget):
        assert set(calls) == {(name, torch.float64) for name in seconds}
        return timings({call: seconds[call[0]] for call in calls})

    without_memory(monkeypatch)
    monkeypatch.setattr(timing, "seconds", timed)
    row = row_of(method("Restarted-JFB", layers=2, restarts=5), task, truth=truth, last=True)
    # ten layers without a graph, two with one, two products
    assert row["overhead"] == 30 / (10 * 1 + 2 * 2 + 2 * 3)
    assert row["gradient_cost"] == 30
    assert row["vjp_seconds"] == 3


def test_overhead_counts_each_call_in_its_precision(task, truth, monkeypatch):
    """Float32 polished in float64: layers of both are timed."""
    speed = {torch.float32: 1.0, torch.float64: 10.0}

    def timed(calls, device, budget):
        return timings({call: speed[call[1]] for call in calls})

    without_memory(monkeypatch)
    monkeypatch.setattr(timing, "seconds", timed)
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    counted = counting.CountedProblem(single.lower)
    method("DEQ").hypergradient_on_probe(counted, single.probe)
    found = cost.cost(method("DEQ").hypergradient_on_probe, single, counted, budget=1.0)
    spent = {
        dtype: count["layers"] + count["products"]
        for dtype, count in counted.counts.by_dtype.items()
    }
    assert set(spent) == {torch.float32, torch.float64}
    assert found.overhead == pytest.approx(1 / sum(speed[d] * n for d, n in spent.items()))


# --- memory -----------------------------------------------------------------------------------


def cost_of(task: BilevelTask, name: str, **parameters: object) -> tuple[float, float]:
    """Layers run and MiB of one hypergradient; counting takes no memory (``test_counting``)."""
    solver, counted = method(name, **parameters), counting.CountedProblem(task.lower)
    mib = memory.live_memory(lambda: solver.hypergradient(counted, task.probe))
    return counted.layer_evals, mib


@pytest.mark.parametrize(
    ("name", "loose", "tight"),
    [
        # before FISTA first starts anew it holds three states less
        ("JFB", {"tol": 1e-8}, {"tol": 1e-13}),
        ("DEQ", {"tol": 1e-2}, {"tol": 1e-5}),
    ],
)
def test_memory_does_not_grow_with_the_layers_of_the_solve(task, name, loose, tight):
    if name == "DEQ":
        # the adjoint by a Neumann series: the basis of GMRES grows with the products it takes
        fixed = {"equilibrium_solver": "picard", "adjoint_solver": "neumann", "adjoint_tol": 0.1}
        loose, tight = loose | fixed, tight | fixed
    (few, little), (many, much) = (cost_of(task, name, **p) for p in (loose, tight))
    assert many > 1.5 * few
    assert much == pytest.approx(little, rel=0.05)


def test_memory_of_unrolling_grows_linearly(task):
    memory = [cost_of(task, "Unrolling", layers=k)[1] for k in (5, 10, 15, 20)]
    steps = np.diff(memory)
    assert steps == pytest.approx(steps[0], rel=0.05)
    assert steps[0] > 0


def test_memory_of_restarted_jfb_does_not_depend_on_the_restarts(task):
    costs = [cost_of(task, "Restarted-JFB", layers=5, restarts=r) for r in (1, 4, 40)]
    assert [layers for layers, _ in costs] == [10, 25, 205]
    assert len({memory for _, memory in costs}) == 1


@pytest.mark.parametrize(
    ("lower", "adjoint_solver"),
    [
        ("wavelet_l1", "auto"),
        ("wavelet_l1", "gmres(restart=2)"),
        ("wavelet_l12", "gmres(restart=2)"),
        ("pnp", "gmres(restart=5)"),
        ("drunet", "gmres(restart=5)"),
    ],
)
def test_memory_of_deq_is_close_to_that_of_jfb(lower, adjoint_solver):
    """Without a basis, or with a short one."""
    task = small_task(lower=lower, degradation=INPAINTING, size=8)
    short = {"tol": 1e-4}
    _, jfb = cost_of(task, "JFB", **short)
    _, deq = cost_of(task, "DEQ", adjoint_solver=adjoint_solver, adjoint_tol=1e-2, **short)
    assert deq <= 1.4 * jfb


@pytest.mark.parametrize("name", ["anderson", "gmres"])
def test_memory_of_a_few_steps_is_that_of_a_few_vectors(name):
    """A basis of a thousand vectors, five of which are used."""
    solve = (EQUILIBRIUM_SOLVERS if name == "anderson" else ADJOINT_SOLVERS)[name]
    b = torch.linspace(0.1, 0.9, 30_000, dtype=torch.float64)[None]

    def five(vectors: int) -> float:
        options = {"restart": vectors} if name == "gmres" else {"depth": vectors}
        steps = {"max_steps": 6} if name == "gmres" else {"max_layers": 6}
        call = partial(solve, lambda x: b * x + 1, b, tol=1e-14, **options, **steps)
        return memory.live_memory(call)

    assert five(1000) == pytest.approx(five(5), rel=0.1)


def test_memory_of_deq_is_a_graph_and_the_basis(task):
    """A vector of the basis is a state, whose size is that of the images."""
    state = task.lower.init(task.probe.observation).nbytes / 2**20
    loose = {"tol": 1e-4, "adjoint_tol": 1e-8}
    memory = [
        cost_of(task, "DEQ", adjoint_solver=f"gmres(restart={r})", **loose)[1] for r in (5, 10, 15)
    ]
    assert np.diff(memory) == pytest.approx(5 * state, rel=0.05)
