"""What a computation runs on, and how it is told that its memory has run out."""

from __future__ import annotations

import pytest
import torch

from benchmark.measure import device as device_module
from benchmark.measure.device import (
    device_name,
    full_precision,
    is_out_of_memory,
    numerics,
    resolve_device,
    synchronize,
    threads,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as caught:
        bytearray(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error, expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_synchronize_only_touches_cuda(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(CPU)
    synchronize(torch.device("meta"))
    assert waited == []
    synchronize(CUDA)
    assert waited == [CUDA]


@pytest.mark.parametrize("present, automatic", [(2, "cuda"), (0, "cpu")])
def test_resolve_device(monkeypatch, present, automatic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    assert resolve_device("auto") == torch.device(automatic)
    assert resolve_device("cpu") == CPU
    if present:
        assert resolve_device("cuda:0") == CUDA
    with pytest.raises(ValueError, match=f"finds {present} CUDA devices"):
        resolve_device("cuda:2")
    for name in ("abacus", "meta", ""):
        with pytest.raises(ValueError, match="unknown device"):
            resolve_device(name)


def test_names(monkeypatch, tmp_path):
    assert threads() == torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name(CUDA) == "GPU 0"
    monkeypatch.setattr(device_module, "PROC", tmp_path)
    monkeypatch.setattr(device_module.platform, "processor", lambda: "")
    monkeypatch.setattr(device_module.platform, "machine", lambda: "abacus")
    assert device_name(CPU) == "abacus"
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Abacus 3000 \nmodel name\t: b")
    assert device_name(CPU) == "Abacus 3000"


def test_products_are_not_rounded_and_rows_say_so(monkeypatch):
    """TF32 is what convolutions have by default on recent GPUs."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert numerics()["tf32"]
    full_precision()
    before = torch.get_float32_matmul_precision()
    assert numerics() == {"tf32": False, "deterministic": False, "cudnn_benchmark": False}
    torch.set_float32_matmul_precision("high")
    assert numerics()["tf32"]
    full_precision()
    assert before == torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 is False
