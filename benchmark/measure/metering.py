"""Time, memory and evaluations of one computation: the only code that times or asks CUDA anything.

Each meter disturbs the others, so each figure is taken in a call of its own. Seconds are wall-clock
seconds, memory is in MiB (2²⁰ bytes).
"""

from __future__ import annotations

import ctypes
import gc
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.problems.lower_level import LowerLevelProblem

MIB = 2**20
Name = TypeVar("Name", bound=Hashable)
#: where Linux tells a process about itself and its processor
PROC = Path("/proc")


class Counts:
    """Applications of T, those of them that kept a graph, and products with its Jacobian
    transposed, so far: ``by_dtype[dtype]["layers" | "graphs" | "products"]``.
    """

    def __init__(self) -> None:
        self.by_dtype: defaultdict[torch.dtype, Counter[str]] = defaultdict(Counter)

    def add(self, what: str, x: Tensor) -> None:
        """One more, in the dtype of ``x``."""
        self.by_dtype[x.dtype][what] += 1

    def total(self, what: str) -> int:
        """Over all dtypes."""
        return sum(counter[what] for counter in self.by_dtype.values())


class _Tick(torch.autograd.Function):
    """The identity, whose backward pass counts as a product."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Counts) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.counts = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts.add("products", gradient)
        # where the backward pass is differentiated in turn: a product with J
        return _TickOfTick.apply(gradient, ctx.counts), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        return tangent.view_as(tangent)


class _TickOfTick(torch.autograd.Function):
    """The identity, whose backward pass counts as a layer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Counts) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.counts = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts.add("layers", gradient)
        return gradient, None


class CountedLayer:
    """T, counting its applications and the vector-Jacobian products taken through them.

    ``layer_evals`` grows by one as T is entered, ``vjp_evals`` by one for each backward pass
    through an output of T, under ``autograd.grad`` as under ``torch.func``: the machine-free cost
    of a method. A vectorised pass (``vmap``, ``is_grads_batched``) counts once, however wide; a
    Jacobian-vector product counts as a layer only, in forward mode and as the derivative of a
    backward pass. Further arguments are handed to T as they are.

    Where gradients are enabled the output is a view, which autograd forbids to change in place.
    """

    def __init__(self, T: Callable[..., Tensor], *, counts: Counts | None = None) -> None:
        self.T = T
        self.counts = Counts() if counts is None else counts

    @property
    def layer_evals(self) -> int:
        """Applications of T so far."""
        return self.counts.total("layers")

    @property
    def vjp_evals(self) -> int:
        """Vector-Jacobian products through T so far."""
        return self.counts.total("products")

    def __call__(self, x: Tensor, *fixed: Tensor, **named: Tensor) -> Tensor:
        self.counts.add("layers", x)
        image = self.T(x, *fixed, **named)
        if not torch.is_grad_enabled():
            return image
        # not image.requires_grad: inside vmap it is False although an outer level differentiates
        self.counts.add("graphs", x)
        return _Tick.apply(image, self.counts)


class CountedProblem(LowerLevelProblem):
    """``lower`` itself, same θ, with its layers counted as ``CountedLayer`` does.

    Its copy in float64 counts with the original. Of a splitting the gradient step counts as the
    layer, so that one product through each half counts as one.
    """

    def __init__(self, lower: LowerLevelProblem, *, counts: Counts | None = None) -> None:
        super().__init__()
        self.lower = lower
        self.splits = lower.splits
        self._counted_step = CountedLayer(lower.faster("step"), counts=counts)
        if lower.splits:
            gradient_step = lower.faster("gradient_step")
            self.gradient_step = CountedLayer(gradient_step, counts=self.counts)
            self.proximity = lower.faster("proximity")

    def copied(self, dtype: torch.dtype) -> CountedProblem:
        return CountedProblem(self.lower.copied(dtype), counts=self.counts)

    @property
    def counts(self) -> Counts:
        """All that was counted so far."""
        return self._counted_step.counts

    @property
    def layer_evals(self) -> int:
        """Applications of T so far."""
        return self._counted_step.layer_evals

    @property
    def vjp_evals(self) -> int:
        """Vector-Jacobian products through T so far."""
        return self._counted_step.vjp_evals

    def init(self, y: Tensor) -> Tensor:
        return self.lower.init(y)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self._counted_step(x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.lower.reconstruct(x)


@dataclass(frozen=True)
class Timing:
    """What one call took, in seconds.

    seconds : the median of ``samples``; spread : their interquartile range, NaN for a single one;
    rounds : how many; contended : whether the processor was taken away for more than 5 % of the
    time, None where that cannot be told (several threads, or CUDA); samples : one for each round.
    """

    seconds: float
    spread: float
    rounds: int
    contended: bool | None
    samples: tuple[float, ...]


def synchronize(device: torch.device) -> None:
    """Wait until all work queued on ``device`` is done; nothing to wait for except on CUDA."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    calls: Mapping[Name, Callable[[], object]],
    device: torch.device,
    rounds: int = 7,
    budget: float = inf,
) -> dict[Name, Timing]:
    """Times the calls against each other: in each round every call once, in shuffled order.

    A drift of the machine's speed then meets all calls alike, and ``ratio`` cancels it. Each call
    is warmed up once, and timed after a garbage collection, between two synchronisations. No round
    begins once ``budget`` seconds of wall time are spent, warm-up included, but one always runs.
    Cost: (rounds + 1) times all calls. An exception of a call passes.

    Raises ValueError for ``rounds`` below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    start = perf_counter()
    shuffled = random.Random(0).sample
    samples: dict[Name, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    gc.freeze()  # each collection then looks at what the calls made, not at all that is imported
    try:
        for done in range(rounds):
            if done and perf_counter() - start >= budget:
                break
            for name in shuffled(list(calls), len(calls)):
                samples[name].append(_stopwatch(calls[name], device))
    finally:
        gc.unfreeze()
    measurable = device.type != "cuda" and threads() == 1
    return {name: _timing(pairs, measurable) for name, pairs in samples.items()}


def ratio(a: Timing, b: Timing) -> float:
    """The median of the per-round ratios a/b of two timings from the same ``seconds``.

    Raises ValueError where the numbers of rounds differ.
    """
    return ratio_to_sum(a, (1, b))


def ratio_to_sum(a: Timing, *parts: tuple[float, Timing]) -> float:
    """The median of the per-round ratios of a to Σ n·b, over the pairs (n, b) of ``parts``.

    Raises ValueError where the numbers of rounds differ.
    """
    rounds = zip(a.samples, *(part.samples for _, part in parts), strict=True)
    times = [n for n, _ in parts]
    return median(
        whole / sum(n * piece for n, piece in zip(times, pieces, strict=True))
        for whole, *pieces in rounds
    )


def _stopwatch(call: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """(wall, processor) seconds of one call."""
    gc.collect()
    synchronize(device)
    busy, wall = process_time(), perf_counter()
    call()
    synchronize(device)
    wall, busy = perf_counter() - wall, process_time() - busy
    return wall, busy


def _timing(pairs: Sequence[tuple[float, float]], measurable: bool) -> Timing:
    walls, busy = zip(*pairs, strict=True)
    low, _, high = quantiles(walls, n=4, method="inclusive") if len(walls) > 1 else (nan,) * 3
    return Timing(
        seconds=median(walls),
        spread=high - low,
        rounds=len(walls),
        contended=sum(walls) > 1.05 * sum(busy) if measurable else None,
        samples=walls,
    )


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


def now() -> float:
    """Seconds on the clock of ``memory_curve``, the same for all processes of the machine."""
    return time.time()


def memory_curve(
    command: Sequence[str], interval: float = 0.02, env: Mapping[str, str] | None = None
) -> list[tuple[float, float]]:
    """Runs ``command`` and samples its resident memory from outside, by memory_profiler.

    Returns (moment as by ``now``, MiB) about every ``interval`` seconds; ``env`` replaces the
    environment. The command's children are not counted, its output is thrown away.

    Raises RuntimeError with the command and the end of its error output where it fails.
    """
    from memory_profiler import memory_usage

    quiet = subprocess.DEVNULL
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=errors)
        samples = memory_usage(process, interval=interval, timestamps=True)
        if process.wait():
            errors.seek(0)
            tail = errors.read()[-2000:].decode(errors="replace").strip()
            raise RuntimeError(f"{list(command)} ended with {process.returncode}: {tail}")
    return [(moment, mib) for mib, moment in samples]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out; torch's CPU allocator says so in words only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(w in str(error) for w in words)


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is CUDA where there is one, else the CPU.

    Raises ValueError for another name, and for a CUDA device that is not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if found else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise ValueError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:i")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"device {name!r} was asked for, but torch finds {found} CUDA devices")
    return device


def threads() -> int:
    """The number of threads that one CPU operation of torch may use."""
    return torch.get_num_threads()


def device_name(device: torch.device) -> str:
    """What the device calls itself: the GPU, or the model of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        models = re.search(r"^model name\s*:\s*(.+)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        models = None
    return models.group(1).strip() if models else platform.processor() or platform.machine()
