"""The rise of resident memory during a computation, in MiB (2²⁰ bytes), as Linux shows it.

Taken in a forked child: the allocator has to be set for it, and what is set in glibc's cannot be
set back (there is no asking for its thresholds, and once one is set they adapt no more), so that
every later timing of the process would be that of another allocator.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

import torch

from benchmark.measure.device import PROC
from benchmark.options.forked import forked

MIB = 2**20


def rise_in_child(call: Callable[[], object], *, limit: float) -> float | None:
    """The MiB by which the resident memory of a forked child rises, at most, during ``call()``.

    The call runs twice there: first to bring in what the libraries load as they are used (without
    it the figures of the table read 9 to 20 MiB more), then with the allocator set as by
    ``map_each_block``. The child has one thread, also where this process has more, so that what
    kernels keep for each thread counts once. It ends after ``limit`` seconds by itself; what it
    prints and changes is lost. Cost: two calls and some 50 ms of processor time.

    None where there is no figure: where there can be no child, where it took too long, and where
    the call failed in it. Raises MemoryError where the system killed the child, as Linux does with
    a process for which memory has run out.

    Found for 8×3×64×64 in float32 in a process that had worked a lot (K: steps differentiated
    through; four figures each with one thread and with two; "in place": the allocator set in the
    process itself; the last column: a process started for each figure, its allocator set before):

    ====================================  ====  ===========  ===========  ===========
    MiB                                   live  here         in place     fresh
    ====================================  ====  ===========  ===========  ===========
    wavelet soft-thresholding, K = 1      2.7   2.9 – 3.0    2.8 – 2.9    2.8 – 3.0
    wavelet soft-thresholding, K = 10     9.4   10.4 – 10.5  10.2 – 10.4  10.3 – 10.5
    wavelet soft-thresholding, K = 50     38.9  44.5 – 44.8  44.1 – 45.1  43.9 – 44.4
    sine (no internal memory), K = 50     19.9  20.0 – 20.2  20.0 – 20.1  19.9
    ====================================  ====  ===========  ===========  ===========
    """
    if sys.platform != "linux":
        return None
    gc.collect()
    figure = mmap.mmap(-1, 8)  # shared with the child
    try:
        child = forked(lambda: _measure(call, figure, limit))
    except OSError:
        return None
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        raise MemoryError("the system killed the process in which memory was measured")
    return struct.unpack("d", figure)[0] if status == 0 else None


def _measure(call: Callable[[], object], figure: mmap.mmap, limit: float) -> None:
    """The child's part."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit)
    with suppress(OSError):
        # where memory runs out, the child is the one to be killed: proc_pid_oom_score_adj(5)
        (PROC / "self" / "oom_score_adj").write_text("1000")
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)  # OpenMP would wait for threads that the child does not have
    gc.freeze()
    call()
    gc.collect()
    map_each_block()
    figure[:] = struct.pack("d", _rise(call))


def _rise(call: Callable[[], object]) -> float:
    """The peak of this process's resident memory during ``call()`` minus that before, in MiB."""
    # lowers VmHWM to VmRSS: proc_pid_clear_refs(5)
    (PROC / "self" / "clear_refs").write_text("5")
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, MiB; see proc_pid_status(5)."""
    status = (PROC / "self" / "status").read_text()
    found = re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise OSError(f"no {field} in {PROC / 'self' / 'status'}")
    return int(found[1]) / 1024


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``; ``hblks`` counts the blocks with a mapping of their own."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")),
        ("unused", ctypes.c_size_t * 6),
    ]


def glibc() -> ctypes.CDLL | None:
    """The C library where it is glibc 2.33 or newer, else None."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _Mallinfo
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc


def map_each_block() -> None:
    """From now on, for good, glibc serves each block of 64 KiB or more by a mapping of its own,
    which ends when the block is freed.

    It does so once its threshold is set and its heap has no such block to offer: the free ones are
    taken, untouched, until one comes from a mapping, and kept. Smaller gaps stay in use, but the
    pages that lie in them are given back first (``malloc_trim``): a rise in blocks of 16 KiB reads
    up to 25 % low. Takes milliseconds, and applies to the calling thread. Nothing happens under
    other C libraries.
    """
    libc = glibc()
    if libc is None:
        return
    mmap_threshold = -3  # its name in mallopt(3), from malloc.h
    libc.mallopt(mmap_threshold, 64 * 1024)
    libc.malloc_trim(0)
    for size in (2**k for k in range(32, 15, -1)):
        mapped = libc.mallinfo2().hblks
        while (block := libc.malloc(size)) is not None:
            if libc.mallinfo2().hblks > mapped:
                libc.free(block)
                break
