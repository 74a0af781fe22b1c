"""Memory of one computation, in MiB (2²⁰ bytes): live tensors, and what the system shows."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from math import nan

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.measure.resident import MIB, rise_in_child

#: how long the call may run, twice, in the child in which its resident memory is measured
CHILD_SECONDS = 120.0


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
        for tensor in _tensors(tensors):
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


def _tensors(values: object) -> Iterator[Tensor]:
    """Those among an operation's arguments or results: torch's own ``tree_leaves`` takes longer
    than small operations do.
    """
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


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

    CUDA: the allocator's peak minus what was allocated before. CPU on Linux: the peak of resident
    memory minus that before, in a forked child (``rise_in_child``); unlike ``live_memory`` it holds
    what kernels use internally. A process that has worked before reuses its heap, and its resident
    memory need not rise at all: the child's allocator is set so that under glibc each larger block
    comes from the system anew, while this process and its allocator stay as they were.

    Where the child gives no figure, as elsewhere than on Linux, after ``CHILD_SECONDS`` and where
    the call fails in it, the call runs here: see ``_sampled_rise``, a lower bound. An exception of
    the call passes. Raises MemoryError where the system killed the child.
    """
    if device.type == "cuda":
        return _cuda_rise(call, device)
    rise = rise_in_child(call, limit=CHILD_SECONDS)
    return _sampled_rise(call) if rise is None else rise


def _cuda_rise(call: Callable[[], object], device: torch.device) -> float:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def _sampled_rise(call: Callable[[], object]) -> float:
    """The rise of resident memory in samples 1 ms apart: a lower bound, blind to short peaks.

    NaN where the process that takes the samples cannot be made.
    """
    from memory_profiler import memory_usage

    failures: list[Exception] = []

    def guarded() -> None:
        # memory_profiler would answer an exception by killing every child of this process
        try:
            call()
        except Exception as error:
            failures.append(error)

    try:
        # one iteration: a short call would be repeated otherwise
        samples = memory_usage((guarded, (), {}), interval=1e-3, max_iterations=1)
    except OSError:
        return nan
    if failures:
        raise failures[0]
    return max(samples) - samples[0]
