"""python -m benchmark run CONFIG: a study that is validated before, and summed up after.

The options are those of ``benchopt run``, which does the runs; those about conda are not there.
Rows go to one file, outputs/NAME.parquet. Exit code 0: each run finished; 1: a run failed, was cut
or skipped; 2: the study is not one, and nothing was run. A run that failed is tried again by the
same command, what is finished comes from the cache.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark.measure.device import processes
from benchmark.running import ending, together
from benchmark.running.child import interrupt_all
from benchmark.running.faults import InvalidStudyError
from benchmark.running.interruption import heeded
from benchmark.running.labels import labels
from benchmark.running.options import parser, settings
from benchmark.running.outcome import Run
from benchmark.running.places import claimed, write_rows
from benchmark.running.record import Record
from benchmark.running.study import Study, execute
from benchmark.running.summary import exit_code, summary
from benchmark.running.terminal import say
from benchmark.running.validation import Plan, validated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if together.rank() > 0:
        return together.follow()
    with together.leading():
        return _study(arguments)


def _study(arguments: Sequence[str]) -> int:
    options = parser("python -m benchmark run", __doc__ or "").parse_args(arguments)
    plan = planned(options, arguments)
    if plan is None:
        return 2
    if processes() > 1 and (plan.settings.n_jobs or plan.settings.parallel_config):
        print("error: torchrun shares each run: expected neither -j nor --parallel-config")
        return 2
    with claimed(plan.path) as path, heeded(first=interrupt_all):
        if path != plan.path:
            say(f"note: another study is writing {plan.path.name}: rows go to {path.name}")
            plan = replace(plan, path=path)
        study = execute(plan, rich=sys.stdout.isatty(), report=_reporter(plan))
        written = _written(study, path)
    if written is not None and plan.settings.plot:
        _plot(plan, written)
    for line in summary(study, written):
        say(line)
    return exit_code(study)


def _written(study: Study, path: Path) -> Path | None:
    """The file of the study's rows; None where there are none, or they could not be written."""
    if not study.rows:
        return None
    try:
        written = write_rows(pd.DataFrame(study.rows), path)
        Record(path, each=False).end()
        ending.release()
        return written
    except OSError as error:
        ending.spare()
        study.broken = f"the rows could not be written into {path.parent}: {error.strerror}"
        return None


def planned(options: Namespace, arguments: Sequence[str]) -> Plan | None:
    """The plan of a command line, its notes said; None, its faults printed, where it has some."""
    try:
        plan = validated(settings(options, arguments))
    except InvalidStudyError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return None
    for note in plan.notes:
        say(f"note: {note}")
    return plan


def _reporter(plan: Plan) -> Callable[[Run, Study], None]:
    """What says one plain line for a run that has ended, where the output is no terminal."""
    label = labels(plan)

    def report(run: Run, study: Study) -> None:
        if not sys.stdout.isatty():
            how = f"{run.status}{', cached' * run.cached}{f': {run.reason}' if run.reason else ''}"
            say(f"[{len(study.runs)}/{plan.runs}] {label(run)}: {how}")

    return report


def _plot(plan: Plan, written: Path) -> None:
    """benchopt's page of the rows; a plot that fails does not make the study a failure."""
    from benchopt.plotting import plot_benchmark

    try:
        plot_benchmark(
            written, plan.benchmark, html=plan.settings.html, display=plan.settings.display
        )
    except Exception as error:
        say(f"note: benchopt's page could not be made: {error}")


if __name__ == "__main__":
    sys.exit(main())
