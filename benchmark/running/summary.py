"""How a study ended: its summary, the command that completes it, the exit code."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.running.labels import labels
from benchmark.running.outcome import Run
from benchmark.running.study import Study
from benchmark.running.validation import solver_rows

#: runs that are named for each way of ending, beyond which they are counted
NAMED = 10
ORDER = (
    "finished",
    "row limit",
    "time limit",
    "interrupted",
    "failed",
    "skip",
    "not installed",
    "not run yet",
)
WORDS = {
    "row limit": "cut by the limit of rows",
    "time limit": "cut by the limit of time",
    "skip": "skipped",
}


def exit_code(study: Study) -> int:
    """0 where each run finished, or was cut at a number of rows that was asked for; else 1."""
    fine = {"finished", "row limit"} if _asked_for_rows(study) else {"finished"}
    ended = study.interrupted or study.broken
    complete = not ended and study.left == 0 and bool(study.rows)
    return 0 if complete and all(run.status in fine for run in study.runs) else 1


def summary(study: Study, written: Path | None) -> Iterator[str]:
    """Its lines: how many runs ended how, which did not finish and why, rows, what to do next."""
    label = labels(study.plan)
    by_status: dict[str, list[Run]] = {name: [] for name in ORDER}
    for run in study.runs:
        by_status[run.status].append(run)
    for status, runs in by_status.items():
        cached = sum(run.cached for run in runs)
        if runs:
            words = WORDS.get(status, status)
            yield f"{len(runs)} {words}" + (f" ({cached} from the cache)" if cached else "")
        if status != "finished":
            yield from _named(runs, label)
    why = "it was interrupted" if study.interrupted else study.broken
    if study.left or why:
        yield f"{study.left} without an end" + (f": {why}" if why else "")
    if written is None:
        yield "no rows: nothing was written"
    else:
        yield f"rows: {_shortest(written)} ({len(study.rows)} rows)"
    if exit_code(study):
        yield f"to complete it: {completing(study)}"


def completing(study: Study) -> str:
    """The command that runs what is not finished: the same, with limits that are not in the way.

    What is cached is not run again.
    """
    counts = Counter(run.status for run in study.runs)
    settings = study.plan.settings
    given = [word for word in settings.command if word != "--collect"]
    command = ["python", "-m", "benchmark", "run", *given]
    if counts["row limit"]:
        rows = [solver_rows(s, 10**9) for s in study.plan.solvers.instances]
        command += ["--max-runs", str(max(rows))]
    if counts["time limit"] and settings.timeout is not None:
        command += ["--timeout", str(max(1, round(10 * settings.timeout)))]
    return shlex.join(command)


def _named(runs: list[Run], label: Callable[[Run], str]) -> Iterator[str]:
    for run in runs[:NAMED]:
        yield f"  {label(run)}" + (f": {run.reason}" if run.reason else "")
    if len(runs) > NAMED:
        yield f"  and {len(runs) - NAMED} more"


def _asked_for_rows(study: Study) -> bool:
    return "max-runs" in study.plan.settings.given


def _shortest(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
