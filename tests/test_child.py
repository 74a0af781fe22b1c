"""A run in a process of its own, and each way in which it can end."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
import torch

from benchmark.running.child import ChildEnded, interrupt_all, streamed


def numbers(n, then=lambda: None):
    for i in range(n):
        yield torch.tensor(float(i))
    then()


def taken(work, **options):
    values = []
    with pytest.raises(ChildEnded) as ended:
        for value in streamed(work, **options):
            values.append(float(value))
    return values, ended.value


def test_values_come_in_order_and_the_process_is_another():
    assert [float(v) for v in streamed(lambda: numbers(3))] == [0, 1, 2]
    (pid,) = streamed(one(os.getpid))
    assert pid != os.getpid()


def test_a_daemon_may_have_one(monkeypatch):
    """Workers of dask's are daemons, to which multiprocessing gives no children."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert [float(v) for v in streamed(lambda: numbers(2))] == [0, 1]
    assert multiprocessing.current_process().daemon


def test_it_waits_until_it_is_asked_and_ends_when_no_one_does(tmp_path):
    def work():
        for i in range(100):
            (tmp_path / str(i)).touch()
            yield os.getpid()

    values = streamed(work)
    pid = next(values)
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == 1
    values.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def one(call):
    """A work of one value."""

    def work():
        yield call()

    return work


def hang():
    while True:
        pass


def fork_and_hang():
    if os.fork() == 0:
        hang()
    hang()


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (lambda: os._exit(0), "ended by itself, with exit code 0"),
        (lambda: os._exit(3), "ended by itself, with exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda: ctypes.string_at(0), "killed by SIGSEGV"),
        (os.abort, "killed by SIGABRT"),
        (lambda: exit(0), "SystemExit: 0"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: (yield), None),
    ],
    ids=["exit0", "exit3", "kill", "segfault", "abort", "systemexit", "interrupt", "raise", "none"],
)
def test_however_it_ends_what_it_yielded_is_there(then, message):
    if message is None:
        assert len(list(streamed(lambda: numbers(2, then)))) == 2
        return
    values, ended = taken(lambda: numbers(2, then))
    assert values == [0, 1]
    assert ended.status == "error" and message in str(ended)


def test_it_is_asked_to_end_first(tmp_path):
    """In the midst of its work it is interrupted, between two values it is closed."""

    def work(wait):
        try:
            yield os.getpid()
            (tmp_path / "begun").touch()
            time.sleep(wait)
        finally:
            (tmp_path / "closed").touch()

    values = streamed(lambda: work(60))
    pid = next(values)
    values.close()
    assert (tmp_path / "closed").exists() and not (tmp_path / "begun").exists()
    (tmp_path / "closed").unlink()

    def interrupt():
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    values = streamed(lambda: work(60))
    pid = next(values)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        next(values)
    assert (tmp_path / "closed").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_signal_to_the_process_alone_interrupts_its_work():
    values, ended = taken(lambda: numbers(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert values == [0, 1] and ended.status == "interrupted"
    assert "asked to end by SIGTERM" in str(ended)


def lonely(there):
    """A process whose child tells its number, and that is killed."""
    there.send(next(streamed(one(os.getpid))))
    time.sleep(600)


def test_the_runs_of_workers_are_asked_to_end(tmp_path):
    """A study of several at a time has its runs in processes of its workers."""

    def work():
        yield 1
        (tmp_path / "begun").touch()
        try:
            hang()
        except KeyboardInterrupt:
            (tmp_path / "asked").touch()
            raise

    worker = multiprocessing.get_context("fork").Process(target=lambda: taken(work))
    worker.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    interrupt_all()
    assert (tmp_path / "asked").exists()
    worker.join(20)
    assert worker.exitcode == 0  # it goes on: the run has ended as one that was interrupted


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_the_server_outlives_what_asks_its_runs_to_end(name):
    """SLURM signals each process of a step: a run without its server would count as dead."""
    values = streamed(lambda: numbers(2))
    assert float(next(values)) == 0
    os.kill(forkserver._forkserver._forkserver_pid, getattr(signal, name))
    time.sleep(0.2)
    assert [float(v) for v in values] == [1]


def test_it_ends_with_the_process_that_asked_for_it():
    here, there = multiprocessing.Pipe()
    parent = multiprocessing.get_context("fork").Process(target=lonely, args=(there,))
    parent.start()
    there.close()  # or the end of the other would not be noticed here
    pid = here.recv()
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("then", [hang, lambda: time.sleep(60), fork_and_hang])
def test_a_limit_of_time_ends_it_and_its_children(then):
    started = time.monotonic()
    values, ended = taken(lambda: numbers(2, then), seconds=1.0)
    assert values == [0, 1] and time.monotonic() - started < 20
    assert ended.status == "timeout"
    assert "took longer than 1 s" in str(ended)


def in_a_session_of_its_own(path: Path) -> None:
    """Leave a process behind whose parent is gone, and which no signal to a group reaches."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            path.write_text(str(os.getpid()))
            hang()
        os._exit(0)
    os.wait()
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)


@pytest.mark.parametrize("then", [hang, int], ids=["killed", "ended"])
def test_what_it_has_forked_ends_with_it_at_whatever_remove(tmp_path, then):
    def work():
        yield 1
        in_a_session_of_its_own(tmp_path / "pid")
        then()

    with suppress(ChildEnded):
        list(streamed(work, seconds=2.0))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)


def test_a_thread_that_lives_keeps_nothing():
    def work():
        threading.Thread(target=time.sleep, args=(60,)).start()
        yield 1

    started = time.monotonic()
    assert list(streamed(work)) == [1]
    assert time.monotonic() - started < 20


def test_no_state_of_it_is_left_here(tmp_path):
    def work():
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        os.chdir(tmp_path)
        os.environ["LEFT"] = "1"
        yield 1

    before = os.getcwd()
    assert list(streamed(work)) == [1]
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert os.getcwd() == before and "LEFT" not in os.environ
    # nor does the next one see it
    assert list(streamed(one(torch.is_grad_enabled))) == [True]
