"""A run on disk as it goes: after it was stopped, by whatever, it goes on where it was.

Two files: the state after the last step, replaced each time, and the steps with their rows, which
grows. Both hold what was true at one moment, for the first says how much of the second counts. Of
a training set that is not in memory there is a folder too: of what is carried from step to step,
the first names the files that count.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch

from benchmark.imaging.seeded import seeded
from benchmark.measure.failure import attempt
from benchmark.measure.surroundings import put_back
from benchmark.options.seeds import seed_of
from benchmark.plugins.outer_loop import OuterLoop, Step
from benchmark.running import checkpoint, interruption
from benchmark.running.faults import one_line
from benchmark.running.pace import SHARE, Pace

#: seconds of the clock between two checkpoints, at most the one step more that is under way
CHECKPOINT_SECONDS = 180.0
#: the end of the name of a third file: the step in which the run failed, where it did
FAILED = ".failed"
#: and of a folder, of what is carried over from step to step where that is not in memory
CARRIED = ".carried"


def kept(solver: OuterLoop, path: Path, *, share: float = SHARE) -> Generator[Step, None, None]:
    """The steps of ``solver``'s loop, kept at ``path``: as often as ``share`` of the time allows,
    at least each ``CHECKPOINT_SECONDS``, and when the generator is closed or the run interrupted.

    Where there is a run at ``path``, its steps come first, and the loop goes on behind the last. A
    run that cannot be kept (a full disk, a state of a user's own that is no tensors and numbers)
    says so, and starts anew when it was stopped. Cost in memory: the steps since the last
    checkpoint.
    """
    put_back()
    solver.beside = path.with_suffix(CARRIED)
    with seeded(seed_of(solver.task.seed, "rehearsal")):
        solver.attempted(solver.rehearse)
    with seeded(seed_of(solver.task.seed, "run")):
        yield from _steps(solver, _Keeping(path, Pace(share, CHECKPOINT_SECONDS)))


def _steps(solver: OuterLoop, keeping: _Keeping) -> Generator[Step, None, None]:
    found = keeping.taken_up()
    state, again = None, False
    if found is not None:
        yield from keeping.steps_before(found)
        set_random_state(found["random"])
        state, again = found["state"], not found["evaluated"]
    steps = solver.course(state, again=again)
    while True:
        with interruption.finishing():
            step, before = next(steps, None), random_state()
        if step is None:
            return
        try:
            interruption.check()
            if keeping.pace.due():
                keeping.keep(solver, before, evaluated=False)
            step = solver.evaluated(step)
        except KeyboardInterrupt:
            keeping.keep(solver, before, evaluated=False)
            raise
        keeping.new.append(step)
        if keeping.pace.due():
            keeping.keep(solver, random_state())
        try:
            yield step
        except GeneratorExit:
            if keeping.new:
                keeping.keep(solver, random_state())
            raise


def failed(step: Step) -> bool:
    """Whether the row of ``step`` is one of a failure; to diverge is a result."""
    return (step.row or {}).get("status", "ok") not in ("ok", "diverged")


def forget(path: Path) -> None:
    """Remove what ``kept`` has put at ``path``."""
    for file in (path, _log(path), path.with_suffix(FAILED)):
        file.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(CARRIED), ignore_errors=True)


@final
@dataclass
class _Keeping:
    """The files of a run: what is on disk, and when to put more there.

    new : steps that are not on disk; length : bytes of the steps that are; said : whether it was
    said that it cannot be done.
    """

    path: Path
    pace: Pace
    new: list[Step] = field(default_factory=list)
    length: int = 0
    said: bool = False

    def keep(self, solver: OuterLoop, random: dict, *, evaluated: bool = True) -> None:
        """Put ``new`` and the state of ``solver`` on disk; ``evaluated``: whether the step that it
        is at is among them. A state after a step that failed, or whose row did, is not one to go
        on from: the same run may fare better there another time.
        """
        if not solver.outcome.ok or any(failed(step) for step in self.new):
            return
        with self.pace.doing():
            outcome = attempt(lambda: self._write(solver, random, evaluated))
        if outcome.ok:
            self.new.clear()
        elif not self.said:
            self.said = True
            why = one_line(outcome.message)
            print(f"note: the run of {solver.name} is not kept: {why}", file=sys.stderr, flush=True)

    def _write(self, solver: OuterLoop, random: dict, evaluated: bool) -> None:
        plain = [(step.number, step.seconds, step.row) for step in self.new]
        length = checkpoint.append(_log(self.path), plain, at=self.length)
        tree = {"state": solver.state(), "random": random}
        checkpoint.write(self.path, tree | {"evaluated": evaluated, "length": length})
        self.length = length
        if solver.carried.files is not None:
            solver.carried.files.settled()

    def taken_up(self) -> dict | None:
        """What is on disk, if it is whole."""
        try:
            tree = checkpoint.read(self.path)
            for _ in checkpoint.appended(_log(self.path), until=tree["length"]):
                pass
        except (OSError, ValueError):
            return None
        self.length = tree["length"]
        return tree

    def steps_before(self, found: dict) -> Iterator[Step]:
        for steps in checkpoint.appended(_log(self.path), until=found["length"]):
            for step in steps:
                yield Step(*step)


def _log(path: Path) -> Path:
    return path.with_suffix(".steps")


def random_state() -> dict[str, object]:
    """Of the global generators of torch, NumPy and Python."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def set_random_state(state: dict) -> None:
    """The inverse of ``random_state``."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
