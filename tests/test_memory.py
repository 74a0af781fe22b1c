"""Memory of graphs and blocks whose bytes can be counted by hand."""

from __future__ import annotations

import gc
import os
import sys
import time
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.measure import resident
from benchmark.measure.counting import CountedLayer
from benchmark.measure.memory import device_memory, live_memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MIB = 2**20
#: a float32 tensor of 1 MiB
ONE_MIB = torch.ones(2**18)


# Live tensor bytes


def unrolled(steps: int, x: torch.Tensor = ONE_MIB):
    """A call that differentiates through ``steps`` exponentials, each saving its output."""

    def call() -> None:
        z = x.clone().requires_grad_()
        for _ in range(steps):
            z = z.exp()
        z.backward(x)

    return call


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_unrolling_holds_one_state_per_step(steps):
    # the clone, the saved states, and the gradient of the last; from the second on a gradient
    # comes in as another goes out, and the last state is held by its name
    expected = 1 + steps + (1 if steps == 1 else 2)
    assert live_memory(unrolled(steps)) == expected


def test_no_grad_is_constant():
    @torch.no_grad()
    def call(steps):
        z = ONE_MIB.clone()
        for _ in range(steps):
            z = z.exp()

    assert {live_memory(partial(call, steps)) for steps in (1, 10, 50)} == {2.0}


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda: ONE_MIB.view(2, -1).T[0], 0),
        (lambda: ONE_MIB.clone().view(2, -1).T[0], 1),
        (lambda: ONE_MIB.clone().mul_(2).add_(1), 1),
        (lambda: ONE_MIB + ONE_MIB, 1),
        (lambda: (ONE_MIB + 1) + 1, 2),
        (lambda: ((ONE_MIB + 1) + 1) + 1, 2),
        (lambda: ONE_MIB.double(), 2),
        (lambda: [ONE_MIB + k for k in range(5)], 5),
        (lambda: [ONE_MIB + 1 + k for k in range(5)], 6),
        (lambda: torch.empty(3, 2**18), 3),
        (lambda: torch.tensor([0.0] * 2**18), 1),
        (lambda: ONE_MIB.view(512, 512).unfold(0, 2, 1), 0),
        (lambda: torch.ones(1).expand(2**18), 4 / MIB),
        (lambda: ONE_MIB.view(512, 512).sort(), 3),  # values, and indices in int64
        (lambda: None, 0),
    ],
)
def test_bytes_of_small_graphs(call, expected):
    assert live_memory(call) == expected


def test_backward_alone_is_seen():
    x = ONE_MIB.clone().requires_grad_()
    z = x.exp()
    # z existed before; the product with it is new, and becomes x's gradient
    assert live_memory(lambda: z.backward(ONE_MIB)) == 1


def test_what_is_returned_and_what_is_kept_dies_or_lives():
    kept: list[torch.Tensor] = []

    def call() -> torch.Tensor:
        kept.append(ONE_MIB + 1)
        result = ONE_MIB + 2
        watched.append(weakref.ref(result))
        return result

    watched: list[weakref.ref] = []
    assert live_memory(call) == 2
    assert watched[0]() is None
    assert torch.equal(kept.pop(), ONE_MIB + 1)  # and may die after the meter is gone


def test_nothing_is_left_behind():
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    call = unrolled(5)
    call()
    before = tensors()
    assert live_memory(call) == live_memory(call)
    assert tensors() == before
    with pytest.raises(ZeroDivisionError):
        live_memory(lambda: ONE_MIB.exp() / 0 + 1 / 0)
    assert live_memory(call) == 8


def test_fake_tensors_are_counted_without_computing():
    with FakeTensorMode():
        fake = torch.ones(2**18)
        assert live_memory(unrolled(10, fake)) == live_memory(unrolled(10, torch.ones(2**18)))
        huge = torch.empty(2**30, 2**10)
        assert live_memory(lambda: huge + 1) == 2**22
    assert live_memory(unrolled(10)) == 13


def test_the_count_wrapper_adds_no_memory():
    def call(T) -> None:
        z = ONE_MIB.clone().requires_grad_()
        for _ in range(4):
            z = T(z)
        z.backward(ONE_MIB)

    assert live_memory(partial(call, CountedLayer(torch.exp))) == live_memory(
        partial(call, torch.exp)
    )


# What the system shows


def hold(mib: int, block: int = MIB):
    """A call that fills ``mib`` MiB in tensors of ``block`` bytes and lets them go."""

    def call() -> None:
        held = [torch.ones(block // 4) for _ in range(mib * MIB // block)]
        held.clear()

    return call


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux_only
@pytest.mark.parametrize("block", [2**14, 2**20, 2**23])
def test_resident_memory_rises_by_what_is_held(block):
    device_memory(hold(8), CPU)
    # a heap with room to reuse, at its end and between what is still in use
    held = [torch.ones(block // 4) for _ in range(64 * MIB // block)]
    del held[::2]
    hold(50, block)()
    # the ends of a gap too small for a mapping of its own share their pages with its neighbours
    tolerance = 0.3 if block < 2**16 else 0.1
    for mib in (24, 56):
        figures = [device_memory(hold(mib, block), CPU) for _ in range(2)]
        assert figures == pytest.approx([mib] * 2, rel=tolerance)


@linux_only
def test_resident_memory_agrees_with_live_bytes_in_a_process_that_has_worked():
    generator = torch.Generator().manual_seed(0)
    keep = []
    for size in torch.randint(2**12, 2**19, (60,), generator=generator).tolist():
        keep.append(torch.ones(size))
        unrolled(3, torch.ones(size))()
        if len(keep) > 10:
            del keep[::3]
    for steps in (30, 60):
        call = unrolled(steps)
        assert device_memory(call, CPU) == pytest.approx(live_memory(call), rel=0.05)


@linux_only
def test_a_failing_call_leaves_the_meter_working():
    with pytest.raises(ZeroDivisionError):
        device_memory(lambda: 1 / 0, CPU)
    assert device_memory(hold(40), CPU) == pytest.approx(40, rel=0.1)


@linux_only
def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(resident.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert device_memory(hold(10), CPU) >= 0


def test_without_proc_memory_is_sampled(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "PROC", tmp_path)
    calls = []

    def call() -> None:
        calls.append(1)
        block = bytearray(os.urandom(1)) * (60 * MIB)
        time.sleep(0.2)
        del block

    assert device_memory(call, CPU) == pytest.approx(60, abs=10)
    assert calls == [1]
    device_memory(partial(calls.append, 2), CPU)
    assert calls == [1, 2]
    with pytest.raises(ZeroDivisionError):
        device_memory(lambda: 1 / 0, CPU)


def test_cuda_memory_is_the_allocators_peak_over_what_was_there(monkeypatch):
    log = []
    answers = {"memory_allocated": 5 * MIB, "max_memory_allocated": 12 * MIB}
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", *answers):

        def stand_in(*args, name=name):
            log.append((name, *args))
            return answers.get(name)

        monkeypatch.setattr(torch.cuda, name, stand_in)
    assert device_memory(lambda: log.append("call"), CUDA) == 7
    assert log == [
        ("synchronize", CUDA),
        ("empty_cache",),
        ("reset_peak_memory_stats", CUDA),
        ("memory_allocated", CUDA),
        "call",
        ("synchronize", CUDA),
        ("max_memory_allocated", CUDA),
    ]
