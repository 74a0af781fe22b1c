"""The child in which resident memory is measured leaves the process that it comes from alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from math import isnan
from pathlib import Path

import psutil
import pytest
import torch

from benchmark.measure import memory, resident
from benchmark.measure.failure import DivergedError
from benchmark.measure.memory import device_memory
from benchmark.measure.resident import rise_in_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
CPU = torch.device("cpu")


def hold(mib: int) -> None:
    torch.ones(mib * 2**18)


@pytest.fixture
def two_threads():
    """Threads of OpenMP that have worked in this process: a forked child lacks them."""
    torch.set_num_threads(2)
    torch.rand(2**22).exp_()
    yield
    torch.set_num_threads(1)


def test_parallel_work_before_and_in_the_child(two_threads):
    """Elementwise, in a product of matrices and backward: each would wait for threads for ever."""

    def call() -> None:
        x = torch.ones(2**11, 2**10, requires_grad=True)
        (x.exp() @ x.T).sum().backward()

    call()
    rise = rise_in_child(call, limit=20)
    assert rise is not None
    # of 8 MiB: x, exp(x), the gradients of both; of 16: the product and its gradient
    assert 24 < rise < 64
    assert torch.get_num_threads() == 2


def mapped_blocks(size: int, number: int = 20) -> int:
    """How many of so many blocks glibc serves by mappings of their own."""
    libc = resident.glibc()
    if libc is None:
        pytest.skip("another C library, which is left alone")
    before = libc.mallinfo2().hblks
    blocks = [libc.malloc(size) for _ in range(number)]
    after = libc.mallinfo2().hblks
    for block in blocks:
        libc.free(block)
    return after - before


def test_the_allocator_of_this_process_stays_as_it_was():
    """The child's serves 96 KiB by mappings, this one's neither before nor after."""
    hold(8)  # glibc's own threshold rises to the largest mapping that was freed
    small, large = 96 * 2**10, 2**20
    before = [mapped_blocks(size) for size in (small, large)]
    assert before == [0, 0]
    assert rise_in_child(partial(hold, 8), limit=20) == pytest.approx(8, abs=1)
    assert [mapped_blocks(size) for size in (small, large)] == before


def test_the_allocator_of_the_child_is_set():
    """By the exit of a child of its own, since what happens there is lost here."""
    mapped_blocks(1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resident.map_each_block()
            code = 0 if mapped_blocks(96 * 2**10) == 20 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_what_the_call_changes_is_lost_but_for_its_memory():
    calls: list[int] = []
    x = torch.zeros(3)

    def call() -> None:
        calls.append(1)
        x.add_(1)
        print("from the child")
        os.write(1, b"from the child")
        hold(4)

    assert rise_in_child(call, limit=20) == pytest.approx(4, abs=1)
    assert calls == []
    assert not x.any()


def test_nothing_is_printed(capfd):
    rise_in_child(lambda: os.write(1, b"x") and os.write(2, b"y") and print("z"), limit=20)
    assert capfd.readouterr() == ("", "")


def test_neither_processes_nor_handles_are_left():
    me = psutil.Process()
    before = me.num_fds(), me.children()
    for call in (partial(hold, 1), lambda: 1 / 0, partial(time.sleep, 60)):
        rise_in_child(call, limit=0.5)
    assert (me.num_fds(), me.children()) == before


def test_a_child_that_hangs_ends_and_samples_remain(monkeypatch):
    """A lock that is taken in this process and nobody opens in the child."""
    parent, calls = os.getpid(), []

    def call() -> None:
        if os.getpid() != parent:
            time.sleep(60)
        calls.append(1)
        hold(4)

    start = time.monotonic()
    assert rise_in_child(call, limit=0.3) is None
    monkeypatch.setattr(memory, "CHILD_SECONDS", 0.3)
    assert device_memory(call, CPU) >= 0
    assert time.monotonic() - start < 10
    assert calls == [1]


def test_an_interrupted_wait_ends_the_child(monkeypatch, tmp_path):
    wait, mark = os.waitpid, tmp_path / "child"
    interruptions = [KeyboardInterrupt]

    def waitpid(child: int, options: int):
        if interruptions:
            mark.write_text(str(child))
            raise interruptions.pop()
        return wait(child, options)

    monkeypatch.setattr(os, "waitpid", waitpid)
    with pytest.raises(KeyboardInterrupt):
        rise_in_child(partial(time.sleep, 60), limit=60)
    assert not Path("/proc", mark.read_text()).exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        DivergedError("too far"),
        ZeroDivisionError(),
    ],
)
def test_an_error_of_the_call_passes_as_it_is(error):
    def call() -> None:
        raise error

    assert rise_in_child(call, limit=20) is None
    with pytest.raises(type(error)) as caught:
        device_memory(call, CPU)
    assert caught.value is error


def test_a_child_that_the_system_kills_has_run_out_of_memory():
    def call() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(MemoryError, match="killed"):
        rise_in_child(call, limit=20)


def test_where_there_can_be_no_child_nothing_is_known(monkeypatch):
    """Sampling takes a process too."""

    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    assert rise_in_child(partial(hold, 1), limit=20) is None
    assert isnan(device_memory(partial(hold, 1), CPU))
