"""One run, start to end: in a process of its own, on disk as it goes, taken up where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch

from benchmark.measure.evaluation import Truth
from benchmark.measure.failure import Outcome, attempt
from benchmark.measure.provenance import digest
from benchmark.plugins.keyed import behind
from benchmark.plugins.outer_loop import OuterLoop, Step
from benchmark.running import checkpoint
from benchmark.running.child import ChildEnded, streamed

#: "0": runs are not in processes of their own
PROCESSES = "BENCHMARK_PROCESSES"
#: seconds of the clock between two checkpoints, at most the one step more that is under way
CHECKPOINT_SECONDS = 180.0
#: what a run may take beyond benchopt's limit of time, which is looked at between steps alone: the
#: larger of seconds and a share
GRACE = (5.0, 0.1)


@final
@dataclass(frozen=True)
class Course:
    """Where the runs of an objective are, while they last.

    folder : where the run under way is kept; one file each, gone when the run ends. identity : what
    tells this objective's runs from those of others, as JSON has it. truth : known things of which
    runs in other processes hand back what they have found.
    """

    folder: Path
    identity: str
    truth: Truth

    def __call__(self, solver: OuterLoop, limit: float | None) -> Generator[Step, None, None]:
        """The steps of ``solver``'s loop; see ``OuterLoop.set_objective``.

        One that was stopped before it ended, by whatever, goes on from its last checkpoint, the
        rows until then as they were. One whose process dies, or takes longer than ``limit`` and
        ``GRACE``, ends with a row that says so.
        """
        path = self.folder / f"{self._key(solver)}.safetensors"
        if os.environ.get(PROCESSES) == "0" or os.environ.get("BENCHOPT_DEBUG") == "1":
            steps = kept(solver, path)
        else:
            steps = self._elsewhere(solver, path, limit)
        yield from steps
        path.unlink(missing_ok=True)

    def _elsewhere(
        self, solver: OuterLoop, path: Path, limit: float | None
    ) -> Generator[Step, None, None]:
        seconds = None if limit is None else limit + max(GRACE[0], GRACE[1] * limit)
        parameters, task = dict(solver._parameters), solver.task
        work = partial(_loop, type(solver), parameters, task, solver.evaluate, self.truth, path)
        last = Step(0, 0.0, None)
        try:
            for step, found in streamed(work, seconds=seconds):
                self.truth.learn(found)
                last = step
                yield step
        except ChildEnded as ended:
            outcome = Outcome(ended.status, str(ended))
            yield Step(last.number, last.seconds, solver.evaluate.failed(outcome, last.number))

    def _key(self, solver: OuterLoop) -> str:
        made_by = digest(behind(solver))
        what = [solver.name, sorted(solver._parameters.items(), key=str), self.identity, made_by]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:24]


def _loop(
    solver_class: type[OuterLoop], parameters: dict, task, evaluate, truth: Truth, path: Path
) -> Iterator[tuple[Step, object]]:
    """The child's part: the steps, and what each has found out that the parent does not know."""
    solver = solver_class.get_instance(**parameters)
    solver.set_objective(task, evaluate)
    known = truth.known()
    for step in kept(solver, path):
        found = truth.known() - known
        known |= found
        yield step, truth.taught(found)


def kept(
    solver: OuterLoop, path: Path, *, seconds: float = CHECKPOINT_SECONDS
) -> Generator[Step, None, None]:
    """The steps of ``solver``'s loop, kept in the file at ``path``: at each row, and whenever
    ``seconds`` of the clock have passed.

    Where the file is there, its steps come first, and the loop goes on behind the last. A state
    that cannot be kept (an optimizer of a user's) is not: the run then starts anew when stopped.
    """
    steps, resumed = _taken_up(path)
    _seed(solver.task.seed)
    attempt(solver.rehearse)
    _seed(solver.task.seed)
    if resumed is not None:
        yield from steps
        _set_random_state(resumed["random"])
    saved = time.monotonic()
    for step in solver.course(resumed=resumed):
        steps.append(step)
        due = step.row is not None or time.monotonic() - saved >= seconds
        if due and solver.outcome.ok:  # one that failed is tried anew
            _keep(path, steps, solver)
            saved = time.monotonic()
        yield step


def _taken_up(path: Path) -> tuple[list[Step], dict | None]:
    try:
        tree = checkpoint.read(path)
    except (FileNotFoundError, ValueError):
        return [], None
    return [Step(*step) for step in tree["steps"]], tree["state"]


def _keep(path: Path, steps: list[Step], solver: OuterLoop) -> None:
    state = solver.state() | {"random": _random_state()}
    plain = [(step.number, step.seconds, step.row) for step in steps]
    attempt(lambda: checkpoint.write(path, {"steps": plain, "state": state}))


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _random_state() -> dict[str, object]:
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def _set_random_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
