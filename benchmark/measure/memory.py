"""Memory of one computation, in MiB (2²⁰ bytes): live tensors, and what the system shows."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.measure.device import PROC

MIB = 2**20


class _LiveBytes(TorchDispatchMode):
    """Adds a storage's bytes when an operation first returns it, subtracts them when it dies."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        # by the storage's address: a storage leaves the table before its address is used again
        self.known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # torch.tensor(…) makes its tensor out of sight and shows it here first
        if func is not torch.ops.aten.lift_fresh.default:
            self._meet((args, kwargs), new=False)
        out = func(*args, **kwargs)
        self._meet(out, new=True)
        return out

    def _meet(self, tensors: object, *, new: bool) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), new)

    def _count(self, storage: torch.UntypedStorage, new: bool) -> None:
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes() if new else 0

        def forget(_: weakref.ref) -> None:
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def live_memory(call: Callable[[], object]) -> float:
    """The most MiB of tensors made by ``call()`` that were alive at once. Deterministic.

    Sums the storages (views share theirs) of every tensor that an operation of the call returns,
    forward, backward or in ``no_grad``; tensors that existed before do not count. What kernels use
    internally is not seen, nor is a later resize. Sparse tensors have no storage: they raise. The
    same figure on every machine and device; also under ``FakeTensorMode``. Cost: about twice the
    call's time. What the call returns is dropped.
    """
    gc.collect()  # so that the collector's own rhythm starts the same each time
    with _LiveBytes() as meter:
        call()
    return meter.peak / MIB


def device_memory(call: Callable[[], object], device: torch.device) -> float:
    """The MiB by which the memory held on ``device`` rises, at most, during ``call()``.

    CUDA: the allocator's peak minus what was allocated before. CPU on Linux: the peak of the
    process's resident memory (``VmHWM``, reset through ``clear_refs``) minus that before; unlike
    ``live_memory`` it holds what kernels use internally. Elsewhere on the CPU: see
    ``_sampled_rise``, a lower bound.

    A process that has worked before reuses its heap, and its resident memory need not rise at all.
    Under glibc the heap is therefore set aside during the call (``_own_mappings``). Found for
    8×3×64×64 in float32 in a process that had worked a lot, four calls each, one thread (K: steps
    differentiated through; the last column: a fresh process for each figure):

    ====================================  ====  ============  ==============  =====  =====
    MiB                                   live  heap in use   only trimmed    here   fresh
    ====================================  ====  ============  ==============  =====  =====
    wavelet soft-thresholding, K = 1      6.2   0             13 – 18         10.0   10.4
    wavelet soft-thresholding, K = 10     47.6  0             58 – 62         52.9   55.0
    wavelet soft-thresholding, K = 50     232   0 – 18        257 – 267       242    253
    sine (no internal memory), K = 50     19.9                22 – 25         20.0
    ====================================  ====  ============  ==============  =====  =====
    """
    if device.type == "cuda":
        return _cuda_rise(call, device)
    gc.collect()
    with _own_mappings():
        try:
            # lowers VmHWM to VmRSS: proc_pid_clear_refs(5)
            (PROC / "self" / "clear_refs").write_text("5")
            before = _resident("VmRSS")
        except OSError:
            return _sampled_rise(call)
        call()
        return _resident("VmHWM") - before


def _cuda_rise(call: Callable[[], object], device: torch.device) -> float:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def _resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, MiB; see proc_pid_status(5)."""
    status = (PROC / "self" / "status").read_text()
    return int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE).group(1)) / 1024


def _sampled_rise(call: Callable[[], object]) -> float:
    """The rise of resident memory in samples 1 ms apart: a lower bound, blind to short peaks."""
    from memory_profiler import memory_usage

    failures: list[Exception] = []

    def guarded() -> None:
        # memory_profiler would answer an exception by killing every child of this process
        try:
            call()
        except Exception as error:
            failures.append(error)

    # one iteration: a short call would be repeated otherwise
    samples = memory_usage((guarded, (), {}), interval=1e-3, max_iterations=1)
    if failures:
        raise failures[0]
    return max(samples) - samples[0]


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``; ``hblks`` counts the blocks with a mapping of their own."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")),
        ("unused", ctypes.c_size_t * 6),
    ]


def _glibc() -> ctypes.CDLL | None:
    """The C library where it is glibc 2.33 or newer, else None."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _Mallinfo
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc


@contextmanager
def _own_mappings() -> Iterator[None]:
    """Inside, glibc serves each block of 64 KiB or more by a mapping that ends when it is freed.

    It does so once its threshold is set and its heap has no such block to offer: the free ones are
    taken, untouched, until one comes from a mapping. Smaller gaps stay in use, but the pages that
    lie in them are given back first (``malloc_trim``): a rise in blocks of 16 KiB reads up to 25 %
    low. Takes milliseconds, and applies to the calling thread.

    Afterwards the thresholds are where glibc's own adaptation ends in a process that works (32 and
    64 MiB): calls were as fast after as before. Nothing happens under other C libraries.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    trim_threshold, mmap_threshold = -1, -3  # the names of mallopt(3), from malloc.h
    taken = []
    libc.mallopt(mmap_threshold, 64 * 1024)
    libc.malloc_trim(0)
    try:
        for size in (2**k for k in range(32, 15, -1)):
            mapped = libc.mallinfo2().hblks
            while (block := libc.malloc(size)) is not None:
                taken.append(block)
                if libc.mallinfo2().hblks > mapped:
                    libc.free(taken.pop())
                    break
        yield
    finally:
        for block in taken:
            libc.free(block)
        libc.mallopt(mmap_threshold, 32 * MIB)
        libc.mallopt(trim_threshold, 64 * MIB)
