"""Layers through torch.compile: the same hypergradients; what cannot use them says so."""

from __future__ import annotations

import shutil

import pytest
import torch
from conftest import plugins, small_task

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat
from benchmark.imaging.metrics import gradient_error
from benchmark.measure.counting import CountedProblem

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")),
    reason="torch.compile needs a C++ compiler",
)


def compiled_pair(lower: str, **options: object):
    pair = [
        small_task(lower=lower, degradation="inpainting(keep=0.5)", **options) for _ in range(2)
    ]
    pair[1].lower.compiled = True
    return pair


@needs_compiler
@pytest.mark.parametrize(
    "lower",
    [
        "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)",
        "pnp(stepsize=1.5)",
    ],
)
def test_compiled_layers_give_the_same_gradient(lower):
    """By an adjoint of many products on one graph, and by a graph of several layers."""
    for name, options in (("DEQ", {"gradient_tol": 1e-4}), ("Restarted-JFB", {"layers": 3})):
        found, counts = [], []
        for task in compiled_pair(lower, size=32):
            counted = CountedProblem(task.lower)
            solver = plugins()[name].get_instance(**options)
            found.append(flat(solver.hypergradient(counted, task.probe).gradient))
            counts.append((counted.layer_evals, counted.vjp_evals))
        assert gradient_error(*found) < 1e-9
        assert counts[0] == counts[1]


@needs_compiler
def test_it_is_the_compiled_function_that_runs():
    """Nothing is compiled unless asked for, and copies in other precisions are."""
    plain, task = compiled_pair("tikhonov(wavelet='db2',levels=2)")
    torch._dynamo.utils.counters.clear()
    plain.lower.layer(plain.probe.observation)(plain.probe.truth)
    assert not torch._dynamo.utils.counters["stats"]
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    for lower in (
        single.lower,
        single.lower.copied(torch.float64),
        CountedProblem(single.lower).lower,
    ):
        assert lower.compiled
    image = single.lower.layer(single.probe.observation)(single.probe.truth)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    expected = plain.lower.step(plain.probe.truth, plain.probe.observation)
    assert torch.allclose(image.double(), expected, atol=1e-5)


@needs_compiler
def test_both_halves_of_a_layer_are_compiled():
    _, task = compiled_pair("wavelet_l1(wavelet='db2',levels=2)")
    torch._dynamo.utils.counters.clear()
    at = Linearization(EquilibriumLoss.of_lower_level(task.lower, task.probe), task.probe.truth)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert at.adjoint_system()(at.g).isfinite().all()


def test_a_method_that_differentiates_twice_is_skipped():
    plain, task = compiled_pair("tikhonov(wavelet='db2',levels=2)")
    forward = plugins()["Forward-Mode"].get_instance()
    skipped, why = forward.skip(task)
    assert skipped
    assert "torch.compile" in why
    assert forward.skip(plain) == (False, None)
