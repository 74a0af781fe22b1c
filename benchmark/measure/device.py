"""What a computation runs on: the device, its name, its threads, when it is done or full."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from benchmark.options import checks
from benchmark.options.brought import text_of

#: where Linux tells a process about itself and its processor
PROC = Path("/proc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out; torch's CPU allocator says so in words only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(w in text_of(error) for w in words)


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is CUDA where there is one, else the CPU.

    Raises ValueError for another name, and for a CUDA device that is not there.
    """
    checks.device("device", name)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"device {name!r} was asked for, but torch finds {found} CUDA devices")
    return device


def threads() -> int:
    """The number of threads that one CPU operation of torch may use."""
    return torch.get_num_threads()


def processes() -> int:
    """How many torchrun has started to train one θ together: one where it has not."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def device_name(device: torch.device) -> str:
    """What the device calls itself: the GPU, or the model of the processor; of several processes
    that train together, how many times.
    """
    together = f" × {processes()}" if processes() > 1 else ""
    return _name(device) + together


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        models = re.search(r"^model name\s*:\s*(.+)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        models = None
    return models.group(1).strip() if models else platform.processor() or platform.machine()


def full_precision() -> None:
    """No product is rounded as TF32 has it, by default that of convolutions on recent GPUs: ten
    bits, with which relative residuals of float32 stall at 1e-4 and solvers use up their budget.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def numerics() -> dict[str, bool]:
    """What the numbers of a row depend on beside its code: ``tf32``, whether products may be
    rounded so; ``deterministic``, whether torch allows deterministic algorithms alone;
    ``cudnn_benchmark``, whether cuDNN chooses its algorithms by timing them.
    """
    return {
        "tf32": torch.get_float32_matmul_precision() != "highest"
        or torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def synchronize(device: torch.device) -> None:
    """Wait until all work queued on ``device`` is done; nothing to wait for except on CUDA."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
