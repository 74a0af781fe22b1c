"""Layers through torch.compile: the same hypergradients; what cannot use them says so."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from conftest import plugins, small_task
from oracles import relative_error

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat
from benchmark.imaging.metrics import gradient_error
from benchmark.measure.counting import CountedProblem
from benchmark.problems.compiled import compiled

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")),
    reason="torch.compile needs a C++ compiler",
)


def compiled_pair(lower: str):
    pair = [small_task(lower=lower, degradation="inpainting(keep=0.5)") for _ in range(2)]
    pair[1].lower.compiled = True
    return pair


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet():
    compiled.cache_clear()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    compiled.cache_clear()


@pytest.fixture
def traced(monkeypatch):
    """Layers are traced, forward and backward, and those graphs run: without kernels of C++."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.mark.parametrize(
    ("lower", "method", "options"),
    [
        ("pnp(denoiser='wavelet(levels=1)',stepsize=1.5)", "DEQ", {"tol": 1e-6}),
        ("wavelet_l1(wavelet='db2',levels=1,ridge=0.1)", "Restarted-JFB", {"layers": 3}),
    ],
)
def test_the_graphs_that_are_compiled_give_the_same_gradient(traced, lower, method, options):
    """By an adjoint of many products on one graph, and by a graph of several layers."""
    found, counts = [], []
    for task in compiled_pair(lower):
        counted = CountedProblem(task.lower)
        solver = plugins()[method].get_instance(**options)
        found.append(flat(solver.hypergradient(counted, task.probe).gradient))
        counts.append((counted.layer_evals, counted.vjp_evals))
    assert gradient_error(*found) < 1e-9
    assert counts[0] == counts[1]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_it_is_the_compiled_function_that_runs(traced):
    """Nothing is compiled unless asked for, and copies in other precisions are."""
    plain, task = compiled_pair("tikhonov(wavelet='db2',levels=2)")
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
    # what a backward pass of kernels gives away is not there for the next product on its graph
    assert not torch._functorch.config.donated_buffer


@needs_compiler
@torch._inductor.config.patch({"cpp.vec_isa_ok": False})
def test_both_halves_of_a_layer_are_compiled_and_so_are_their_products():
    """By kernels of C++, many products on one graph. Vector instructions would first be tried out,
    which takes as long again.
    """
    plain, fast = (
        Linearization(EquilibriumLoss.of_lower_level(task.lower, task.probe), task.probe.truth)
        for task in compiled_pair("wavelet_l1(wavelet='db2',levels=1)")
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    for seed in range(3):
        v = torch.randn(plain.g.shape, generator=torch.manual_seed(seed), dtype=plain.g.dtype)
        assert relative_error(fast.jt(v), plain.jt(v)) < 1e-12
    for found, expected in zip(fast.gradient(v), plain.gradient(v), strict=True):
        assert relative_error(found, expected) < 1e-12


def test_a_method_that_differentiates_twice_is_skipped():
    plain, task = compiled_pair("tikhonov(wavelet='db2',levels=2)")
    forward = plugins()["Forward-Mode"].get_instance()
    skipped, why = forward.skip(task)
    assert skipped
    assert "torch.compile" in why
    assert forward.skip(plain) == (False, None)
