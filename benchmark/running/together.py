"""One run in several processes: what torchrun starts, ``torchrun … -m benchmark run CONFIG``.

Process 0 is a study like any other: it evaluates, and writes rows. The others wait for its runs and
take part in each, by ``benchmark.plugins.among``. They find each other by the store that torchrun
keeps: under "run/k" is what they are to do, under "ended/k" that it is over.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

import cloudpickle
import torch
import torch.distributed as dist

from benchmark.imaging.seeded import seeded
from benchmark.measure.device import processes
from benchmark.measure.surroundings import put_back
from benchmark.options.seeds import seed_of
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.plugins.outer_loop import OuterLoop, Step
from benchmark.problems.bilevel import LearningTask
from benchmark.running.child import ChildEnded, streamed

#: how long one may wait for another: an evaluation takes what it takes
_PATIENCE = timedelta(days=30)
#: the number of the next run, which process 0 counts
_runs = count()


def rank() -> int:
    """The number of this process among those that torchrun has started; 0 where it is alone."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def _store() -> dist.Store:
    """torchrun's."""
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(*where, is_master=False, timeout=_PATIENCE)


def shares(solver: OuterLoop) -> bool:
    """Whether runs of ``solver`` are shared: its steps are means of gradients over images."""
    return processes() > 1 and isinstance(solver, BilevelSolver)


@contextmanager
def announced(solver: OuterLoop) -> Iterator[int]:
    """Within, the others take part in the run of ``solver`` that has this number."""
    store, k = _store(), next(_runs)
    work = (type(solver), dict(solver._parameters), solver.task)
    store.set(f"run/{k}", cloudpickle.dumps(work))
    try:
        yield k
    finally:
        store.set(f"ended/{k}", b"")
        store.delete_key(f"run/{k}")


@contextmanager
def leading() -> Iterator[None]:
    """Within, this is process 0; afterwards the others end."""
    try:
        yield
    finally:
        if processes() > 1:
            _store().set(f"run/{next(_runs)}", b"")


def follow() -> int:
    """What the others do: take part in each run, until process 0 ends. Returns the exit code."""
    store = _store()
    for k in count():
        store.wait([f"run/{k}"], _PATIENCE)
        work = store.get(f"run/{k}")
        if not work:
            break
        with suppress(ChildEnded):  # process 0 says in its row what became of the run
            for _ in streamed(_Part(work, k)):
                pass
        store.wait([f"ended/{k}"], _PATIENCE)
    return 0


class _Part:
    """The part of a process in run ``k``, in a process of its own; ``work`` as it was announced."""

    def __init__(self, work: bytes, k: int) -> None:
        self.work, self.k = work, k

    def __call__(self) -> Generator[None, None, None]:
        threading.Thread(target=_end_with_run, args=(self.k,), daemon=True).start()
        solver_class, parameters, task = cloudpickle.loads(self.work)
        solver = solver_class.get_instance(**parameters)
        solver.set_objective(_here(task))
        torch.manual_seed(seed_of(task.seed, "devices"))
        for _ in steps(solver, self.k):
            yield None


def _end_with_run(k: int) -> None:
    """End this process when process 0 has ended run ``k``, whatever it waits for."""
    _store().wait([f"ended/{k}"], _PATIENCE)
    os._exit(0)


def _here(task: LearningTask) -> LearningTask:
    """``task`` on the device of this process: of GPUs, that of its number."""
    if task.device.type != "cuda":
        return task
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    images = {name: getattr(task, name).to(device=device) for name in ("train", "probe")}
    return replace(task, lower=copy.deepcopy(task.lower).to(device), **images)


def steps(solver: OuterLoop, k: int) -> Generator[Step, None, None]:
    """The steps of ``solver``'s loop in run ``k``, with their rows, each with all processes.

    Such a run is not kept on disk: what is carried over is in several processes.
    """
    backend = "nccl" if solver.task.device.type == "cuda" else "gloo"
    where = {"store": dist.PrefixStore(f"of run {k}", _store()), "timeout": _PATIENCE}
    dist.init_process_group(backend, rank=rank(), world_size=processes(), **where)
    try:
        solver.together = True
        put_back()
        with seeded(seed_of(solver.task.seed, "rehearsal")):
            solver.attempted(solver.rehearse)
        with seeded(seed_of(solver.task.seed, "run")):
            for step in solver.course():
                yield solver.evaluated(step)
    finally:
        dist.destroy_process_group()
