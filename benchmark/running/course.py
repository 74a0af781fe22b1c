"""One run, start to end: in a process of its own, on disk as it goes, taken up where it stopped."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import torch

from benchmark.measure.failure import Outcome
from benchmark.measure.provenance import digest
from benchmark.measure.truth import Truth
from benchmark.options.seeds import seed_of
from benchmark.plugins.keyed import behind
from benchmark.plugins.outer_loop import OuterLoop, Step
from benchmark.running import ending, kept, together
from benchmark.running.child import ChildEnded, streamed
from benchmark.running.places import claimed
from benchmark.running.under_way import UnderWay

#: "0": runs are not in processes of their own
PROCESSES = "BENCHMARK_PROCESSES"
#: what a run may take beyond benchopt's limit of time, which is looked at between steps alone: the
#: larger of seconds and a share
GRACE = (5.0, 0.1)
#: of a message in a row
MOST_CHARACTERS = 4000


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

    def __call__(self, solver: OuterLoop, callback: Callable) -> Generator[Step, None, None]:
        """The steps of ``solver``'s loop; see ``OuterLoop.set_objective``.

        One that was stopped before it ended, by whatever, goes on from its last checkpoint, the
        rows until then as they were. One whose process dies, or takes longer than ``callback``'s
        limit and ``GRACE``, ends with a row that says so.
        """
        ending.release()
        with claimed(self.folder / f"{self._key(solver)}.safetensors") as path:
            last, shown = None, UnderWay.of(solver, callback, path.stem)
            try:
                with closing(self._steps(solver, path, callback)) as steps:
                    for last in map(_writable, steps):
                        yield last
                        shown.write()
            finally:
                shown.close()
            if last is None or not _again(last, path):
                ending.done(path)

    def _steps(
        self, solver: OuterLoop, path: Path, callback: Callable
    ) -> Generator[Step, None, None]:
        limit = getattr(getattr(callback, "stopping_criterion", None), "timeout", None)
        if together.shares(solver):
            return self._shared(solver, path, limit)
        if os.environ.get(PROCESSES) == "0" or os.environ.get("BENCHOPT_DEBUG") == "1":
            solver.task = copy.deepcopy(solver.task)  # else shared with the other methods
            return kept.kept(solver, path)
        return self._elsewhere(solver, path, limit)

    def _elsewhere(
        self, solver: OuterLoop, path: Path, limit: float | None, run: int | None = None
    ) -> Generator[Step, None, None]:
        """In a process of its own; ``run`` : the number of one that is shared with others."""
        seconds = None if limit is None else limit + max(GRACE[0], GRACE[1] * limit)
        parameters, task = dict(solver._parameters), solver.task
        given = (task, solver.evaluate, solver.most_rows)
        work = partial(_loop, type(solver), parameters, given, self.truth, path, run)
        last = Step(0, 0.0, None)
        try:
            with closing(streamed(work, seconds=seconds)) as steps:
                for step, found in steps:
                    self.truth.learn(found)
                    last = step
                    yield step
        except ChildEnded as ended:
            outcome = Outcome(ended.status, str(ended))
            yield Step(last.number, last.seconds, solver.evaluate.failed(outcome, last.number))

    def _shared(
        self, solver: OuterLoop, path: Path, limit: float | None
    ) -> Generator[Step, None, None]:
        with together.announced(solver) as run:
            yield from self._elsewhere(solver, path, limit, run)

    def _key(self, solver: OuterLoop) -> str:
        made_by = digest(behind(solver))
        what = [solver.name, sorted(solver._parameters.items(), key=str), self.identity, made_by]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:24]


def _loop(
    solver_class: type[OuterLoop],
    parameters: dict,
    given: tuple,
    truth: Truth,
    path: Path,
    run: int | None,
) -> Generator[tuple[Step, object], None, None]:
    """The child's part: the steps, and what each has found out that the parent does not know."""
    solver = solver_class.get_instance(**parameters)
    task, evaluate, most_rows = given
    solver.set_objective(task, evaluate)
    solver.most_rows = most_rows
    torch.manual_seed(seed_of(task.seed, "devices"))  # the process is the run's own
    known = truth.known()
    whole = kept.kept(solver, path) if run is None else together.steps(solver, run)
    with closing(whole) as steps:
        for step in steps:
            found = truth.known() - known
            known |= found
            yield step, truth.taught(found)


def _writable(step: Step) -> Step:
    """``step`` with texts that a file of rows can hold: what a method raises may be any text."""
    if step.row is None:
        return step
    texts = {name: text for name, text in step.row.items() if isinstance(text, str)}
    texts = {name: text.encode(errors="replace").decode() for name, text in texts.items()}
    if len(message := texts.get("message", "")) > MOST_CHARACTERS:
        texts["message"] = f"{message[:MOST_CHARACTERS]} …"
    return replace(step, row=step.row | texts)


def _again(last: Step, path: Path) -> bool:
    """Whether the run kept at ``path`` is to go on from there another time: it was interrupted, or
    it failed in its ``last`` step, which is noted and it has not done before.
    """
    if not kept.failed(last) or not path.exists():
        return False
    if last.row["status"] == "interrupted":
        return True
    note = path.with_suffix(kept.FAILED)
    before = note.read_text() if note.exists() else ""
    with suppress(OSError):
        note.write_text(str(last.number))
    return before != str(last.number)
