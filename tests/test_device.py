"""Everything stays on the device it is given, forward and backward: shown on a pretend device."""

from __future__ import annotations

import pytest
import torch
from conftest import DEGRADATION_SPECS, LOWER_SPECS, small_task
from pretend_device import DEVICE, MixedDevices, PretendTensor, pretend_device, unwrap

from benchmark import metering
from benchmark.problem import upper_loss
from benchmark.reference import reference_hypergradient, true_equilibrium

CPU = torch.device("cpu")


def moved(task, dtype):
    return task.to(device=DEVICE, dtype=dtype)


#: few layers: each operation is dear there, and the CPU's run stops at the same one
COARSE = {
    "tol": 0.1,
    "adjoint_tol": 0.1,
    "max_layers": 4,
    "layers": 2,
    "restarts": 2,
    "terms": 2,
    "inner_steps": 2,
    "memory": 2,
    "directions": 1,
}
#: methods that do as much for each parameter: the lower levels with the fewest
SLOW = ("Finite-Differences", "Forward-Mode")
#: torchdeq's implicit differentiation keeps residuals in tensors that it makes on the CPU
ELSEWHERE = ("torchdeq-IFT",)


def skip_elsewhere(plugin: type) -> None:
    if plugin.name in ELSEWHERE:
        pytest.skip("the library makes tensors of its own outside the device")


@pytest.mark.filterwarnings("ignore::benchmark.convergence.NotConverged")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lower", LOWER_SPECS)
def test_every_method_stays_on_its_device(plugin, lower, dtype):
    """Two outer steps on mini-batches: the numbers are those of the CPU."""
    skip_elsewhere(plugin)
    if plugin.name in SLOW and lower not in (LOWER_SPECS[0], LOWER_SPECS[4]):
        pytest.skip("shown on two lower levels")
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    coarse = {name: value for name, value in COARSE.items() if name in plugin.parameters}
    solver = plugin.get_instance(steps=2, batch_size=1, **coarse)

    def trained(task):
        solver.set_objective(task)
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


@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_the_reference_stays_on_its_device(degradation):
    task = small_task(lower=LOWER_SPECS[2], degradation=degradation, size=8)
    expected = reference_hypergradient(task.lower, task.probe)
    with pretend_device():
        there = moved(task, torch.float64)
        found = reference_hypergradient(there.lower, there.probe)
        equilibrium = true_equilibrium(there.lower, there.test.observation, tol=1e-8)
    assert isinstance(found.gradient, PretendTensor)
    assert isinstance(equilibrium.x, PretendTensor)
    assert torch.allclose(unwrap(found.gradient), expected.gradient, rtol=1e-8)
    assert found.contraction == pytest.approx(expected.contraction, rel=1e-6)


def test_metering_stays_on_its_device(gradient_method):
    skip_elsewhere(gradient_method)
    task = small_task(lower=LOWER_SPECS[0], size=8)
    with pretend_device():
        there = moved(task, torch.float32)
        few = {"directions": 1} if gradient_method.name == "SPSA" else {}
        solver = gradient_method.get_instance(**few)
        counted = metering.CountedProblem(there.lower)

        def call():
            return solver.hypergradient(counted, there.probe)

        timings = metering.seconds({"gradient": call}, DEVICE, rounds=1)
        assert timings["gradient"].seconds > 0
        assert metering.live_memory(call) > 0
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
            upper_loss(there.lower, there.lower.step(there.lower.init(y), y), there.probe.truth)
