"""Everything stays on the device it is given, forward and backward: shown on a pretend device."""

from __future__ import annotations

from itertools import product

import pretend_device as pretended
import pytest
import torch
from benchopt import BaseSolver
from conftest import LOWER_SPECS, plugins, small_task
from pretend_device import DEVICE, MixedDevices, PretendTensor, pretend_device, unwrap

from benchmark.measure import counting, memory, timing
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.problems.bilevel import upper_loss
from benchmark.solve import linear
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS

CPU = torch.device("cpu")


def moved(task, dtype):
    return task.to(device=DEVICE, dtype=dtype)


#: few layers: each operation is dear there, and the CPU's run stops at the same one
COARSE = {
    "tol": 0.1,
    "adjoint_tol": 0.1,
    "max_layers": 3,
    "layers": 2,
    "restarts": 2,
    "terms": 2,
    "inner_steps": 2,
    "memory": 2,
    "directions": 1,
    # as torchdeq and deepinv call theirs
    "f_max_iter": 4,
    "b_max_iter": 4,
    "max_iter": 4,
    "max_iter_backward": 4,
    "grad": 2,
    "gradient": "implicit(tol=0.1,max_steps=3)",
}
#: torchdeq's implicit differentiation keeps residuals in tensors that it makes on the CPU
ELSEWHERE = ("torchdeq-IFT",)


def coarse(plugin: type, **parameters: object) -> BaseSolver:
    """The plugin with as little to do as it can be asked for."""
    known = {name: value for name, value in COARSE.items() if name in plugin.parameters}
    return plugin.get_instance(**known, **parameters)


def skip_elsewhere(plugin: type) -> None:
    if plugin.name in ELSEWHERE:
        pytest.skip("the library makes tensors of its own outside the device")


#: methods that do as much for each parameter: on the lower levels with the fewest
SLOW = ("Finite-Differences", "Forward-Mode")


def cases() -> list[tuple[str, str, torch.dtype]]:
    """(method, lower level, dtype): every method once, every lower level in both precisions."""
    found, n = [], len(LOWER_SPECS)
    fast = [name for name in sorted(plugins()) if name not in (*SLOW, *ELSEWHERE)]
    for k, name in enumerate([*fast, *SLOW]):
        lower = LOWER_SPECS[0 if name in SLOW else k % n]
        found.append((name, lower, (torch.float32, torch.float64)[k // n % 2]))
    return found


def test_the_cases_cover_what_they_say():
    assert sorted(name for name, *_ in cases()) == sorted(plugins().keys() - {*ELSEWHERE})
    met = {(lower, dtype) for _, lower, dtype in cases()}
    assert met == set(product(LOWER_SPECS, (torch.float32, torch.float64)))


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(("name", "lower", "dtype"), cases())
def test_every_method_stays_on_its_device(name, lower, dtype):
    """Two outer steps on mini-batches: the numbers are those of the CPU."""
    plugin = plugins()[name]
    skip_elsewhere(plugin)
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    solver = coarse(plugin, steps=2, batch_size=1)

    def trained(task):
        solver.set_objective(task)
        if dtype == torch.float32:  # the call before the clock starts is the same whatever is in it
            solver.warm_up()
        remaining = iter(range(3))
        solver.run(lambda: next(remaining, None) is not None)
        result = solver.get_result()
        assert result["training"].ok, result["training"].message
        return result["theta"]

    expected = trained(task.to(device=CPU, dtype=dtype))
    with pretend_device():
        theta = trained(moved(task, dtype))
    for name, value in theta.items():
        assert isinstance(value, PretendTensor)
        tolerance = 1e-3 if dtype == torch.float32 else 1e-9
        assert torch.allclose(unwrap(value), expected[name], rtol=tolerance, atol=tolerance)


def test_the_reference_stays_on_its_device():
    # a ridge with which little is left to solve
    spec = "wavelet_l1(wavelet='db2',levels=2,ridge=1)"
    task = small_task(lower=spec, degradation="deblurring(width=0.8)", size=8)
    expected = reference_hypergradient(task.lower, task.probe)
    with pretend_device():
        there = moved(task, torch.float64)
        found = reference_hypergradient(there.lower, there.probe)
        equilibrium = true_equilibrium(there.lower, there.test.observation, tol=1e-8)
    assert isinstance(found.gradient, PretendTensor)
    assert isinstance(equilibrium.x, PretendTensor)
    assert torch.allclose(unwrap(found.gradient), expected.gradient, rtol=1e-8)
    assert found.contraction == pytest.approx(expected.contraction, rel=1e-6)


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """Grows by an entry whenever values of the device are read: each such look waits for it."""
    seen = []
    compute, tolist = pretended._compute, PretendTensor.tolist

    def watched(func, args, kwargs):
        if func == torch.ops.aten._local_scalar_dense.default:
            seen.append("item")
        return compute(func, args, kwargs)

    monkeypatch.setattr(pretended, "_compute", watched)
    monkeypatch.setattr(PretendTensor, "tolist", lambda t: (seen.append("tolist"), tolist(t))[1])
    return seen


@pytest.mark.parametrize("name", sorted(EQUILIBRIUM_SOLVERS))
def test_equilibrium_solvers_look_at_the_device_once_a_layer(name, looks):
    task = small_task(lower=LOWER_SPECS[2], degradation="inpainting(keep=0.5)", size=8)
    with pretend_device():
        there = moved(task, torch.float64)
        y = there.probe.observation
        T, x0 = counting.CountedLayer(there.lower.layer(y)), there.lower.init(y)
        before = len(looks)
        found = EQUILIBRIUM_SOLVERS[name](T, x0, tol=1e-6, max_layers=30)
        assert isinstance(found.x, PretendTensor)
    assert T.layer_evals > 3
    assert len(looks) - before == T.layer_evals


@pytest.mark.parametrize(
    ("name", "each", "once"),
    # GMRES looks once more where it orthogonalises again
    [("neumann", 1, 1), ("anderson", 1, 1), ("bicgstab", 1.5, 4), ("cg", 2, 4), ("gmres", 1, 4)],
)
def test_adjoint_solvers_look_at_the_device_a_few_times_a_product(name, each, once, looks):
    """``each`` time for a product, and ``once`` more for what is around them."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 40, generator=generator, dtype=torch.float64)
    with pretend_device():
        a, products = a.to(DEVICE), []

        def G(w):
            products.append(1)
            return 0.9 * a * w

        matvec = linear.ProjectedSystem(P=lambda w: w, G=G)
        found = linear.ADJOINT_SOLVERS[name](matvec, torch.ones_like(a), tol=1e-3, max_steps=90)
        assert found.converged.all()
    assert len(products) > 8
    assert len(looks) - 1 <= each * len(products) + once


@pytest.mark.parametrize("name", ["DEQ", "Restarted-JFB", "SHINE"])
def test_measuring_stays_on_its_device(name):
    gradient_method = plugins()[name]
    task = small_task(lower="tikhonov(wavelet='haar',levels=1)", size=8)
    with pretend_device():
        there = moved(task, torch.float32)
        solver = coarse(gradient_method)
        counted = counting.CountedProblem(there.lower)

        def call():
            return solver.hypergradient(counted, there.probe)

        timings = timing.seconds({"gradient": call}, DEVICE, rounds=1)
        assert timings["gradient"].seconds > 0
        assert memory.live_memory(call) > 0
        assert isinstance(call().state, PretendTensor)
    assert counted.layer_evals > 0


def test_a_planted_mix_is_caught():
    task = small_task(lower=LOWER_SPECS[2], degradation="inpainting(keep=0.5)")
    with pretend_device():
        there = moved(task, torch.float64)
        y = there.probe.observation
        with pytest.raises(MixedDevices):
            there.lower.step(there.probe.truth, task.probe.observation)
        there.lower.log_weights = torch.nn.Parameter(task.lower.log_weights.detach())
        with pytest.raises(MixedDevices):
            upper_loss(there.lower, there.lower.step(there.lower.init(y), y), there.probe)
