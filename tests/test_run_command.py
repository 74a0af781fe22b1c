"""python -m benchmark run and check: rows, exit codes, what is cached, what is tried again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import pytest
import yaml
from benchopt.results import read_results
from conftest import SMALL_STUDY, small_benchmark
from shared import without_costs

from benchmark.__main__ import main
from benchmark.running import check
from benchmark.running import study as study_module
from benchmark.running.interruption import heeded
from benchmark.running.options import parser, settings
from benchmark.running.outcome import Run, ended, passing
from benchmark.running.run import main as run_main
from benchmark.running.study import Study, execute
from benchmark.running.summary import completing, exit_code, summary
from benchmark.running.validation import Plan, validated

NAMES = ("Simulated", "Learning", "JFB")
#: fails in its second outer step for as long as there is no file called "mended" beside it
FLAKY = '''\
"""Unrolling that fails while something is amiss."""

from pathlib import Path

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.solve.search import Steps

MENDED = Path(__file__).with_name("mended")


class Solver(PairMethod):
    """See above."""

    name = "Flaky"

    def pair(self, call):
        if call == 1 and not MENDED.exists():
            raise RuntimeError("something is amiss")
        return Pair(Steps(0), LastLayers(2))
'''
#: ends its process, as a crash would, in its second outer step
ENDING = (
    FLAKY.replace("Flaky", "Ending")
    .replace('raise RuntimeError("something is amiss")', "os._exit(0)")
    .replace("from pathlib", "import os\nfrom pathlib")
)
SOLVERS = [
    {"Flaky": {"steps": [3], "evaluate_every": [1]}},
    {"Unrolling": {"steps": [2], "layers": [2]}},
]


# --- two real studies ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    return small_benchmark(folder, solver=SOLVERS, flaky=FLAKY, broken="class Solver(:\n")


@pytest.fixture(scope="module")
def studies(place):
    """The same command twice, what is amiss being mended in between; and what check says between
    and after: for each the exit code and the lines, and the rows of the two studies.
    """
    with pytest.MonkeyPatch.context() as patch:
        without_costs(patch)
        found, command = {}, [str(place / "small.yml"), "--benchmark", str(place)]
        found["first"] = (*_said(["run", *command]), rows_of(place))
        (place / "solvers" / "mended").touch()
        found["between"] = _said(["check", *command])
        found["second"] = (*_said(["run", *command]), rows_of(place))
        found["after"] = _said(["check", *command])
        return found


def _said(command: list[str]) -> tuple[int, list[str]]:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(command)
    return code, out.getvalue().splitlines()


def rows_of(place: Path) -> pd.DataFrame:
    rows = read_results(place / "outputs" / "small.parquet")
    return rows.sort_values(["solver_name", "stop_val"]).reset_index(drop=True)


def of(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    return rows[rows["objective_method"] == method].reset_index(drop=True)


def test_a_method_that_ends_its_process_is_a_row_and_the_others_run(place, monkeypatch, capsys):
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    monkeypatch.setenv("BENCHMARK_PROCESSES", "1")
    (place / "solvers" / "ending.py").write_text(ENDING)
    solvers = [
        {"Ending": {"steps": [3], "evaluate_every": [1]}},
        {"Unrolling": {"steps": [1], "layers": [2]}},
    ]
    config = place / "ending.yml"
    config.write_text(yaml.safe_dump(SMALL_STUDY | {"solver": solvers}))
    assert main(["run", str(config), "--benchmark", str(place)]) == 1
    rows = read_results(place / "outputs" / "ending.parquet")
    ending, whole = of(rows, "Ending"), of(rows, "Unrolling")
    assert list(whole["objective_status"]) == ["ok", "ok"]
    assert list(ending["objective_status"])[-1] == "error"
    assert "ended by itself, with exit code 0" in ending["objective_message"].iloc[-1]
    assert "1 failed" in capsys.readouterr().out
    # the one that failed goes on from its last step when the command is given again
    assert {p.suffix for p in (place / "outputs" / "unfinished").glob("*")} == {
        ".failed",
        ".safetensors",
        ".steps",
    }
    assert not (place / "outputs" / "ending").exists()


def test_a_failure_is_summed_up_and_has_an_exit_code(studies, place):
    code, lines, rows = studies["first"]
    assert code == 1
    assert lines[0].startswith("note: solvers/broken.py: line 1: invalid syntax")
    assert [line[:5] for line in lines[1:3]] == ["[1/2]", "[2/2]"]
    assert "1 finished" in lines
    assert "1 failed" in lines
    (why,) = (line for line in lines if line.startswith("  Flaky on Simulated: "))
    assert why.endswith("error: RuntimeError: something is amiss (flaky.py, line 20)")
    assert lines[-1].startswith("to complete it: python -m benchmark run ")
    assert lines[-1].endswith(f"small.yml --benchmark {place}")
    assert all("\033" not in line for line in lines)
    assert list(of(rows, "Flaky")["objective_status"]) == ["ok", "error", "error"]


def test_a_row_says_why_its_run_ended(studies):
    *_, rows = studies["first"]
    assert list(of(rows, "Flaky")["objective_ended"]) == ["", "", "error"]
    assert list(of(rows, "Unrolling")["objective_ended"]) == ["", "finished"]
    *_, rows = studies["second"]
    assert list(of(rows, "Flaky")["objective_ended"]) == ["", "", "", "finished"]


def test_the_same_command_tries_again_what_failed_and_that_alone(studies, place):
    code, lines, rows = studies["second"]
    assert code == 0
    (cached,) = (line for line in lines if line.endswith(": finished, cached"))
    assert cached.endswith(" Unrolling on Simulated: finished, cached")
    assert "2 finished (1 from the cache)" in lines
    assert set(rows["objective_status"]) == {"ok"}
    before = of(studies["first"][2], "Unrolling")
    assert list(of(rows, "Unrolling")["time"]) == list(before["time"])
    assert [p.name for p in (place / "outputs").glob("small*")] == ["small.parquet"]


def test_check_says_what_would_run_and_what_is_cached(studies):
    code, lines = studies["between"]
    assert code == 0
    assert [line.split()[0] for line in lines[1:3]] == ["run", "cached"]
    assert float(lines[1].split()[1]) > 0
    assert lines[3].startswith("1 to run, about ")
    assert lines[3].endswith(" in one process; 1 cached")
    assert lines[4].startswith("memory: about ")
    assert lines[5].startswith("disk: about ")
    assert [line.split()[0] for line in studies["after"][1][1:3]] == ["cached", "cached"]
    assert studies["after"][1][3] == "0 to run; 2 cached"


@pytest.mark.parametrize(
    ("known", "own", "first", "expected"),
    [({}, 0.2, 1.2, (1.0, 1.2)), ({("d", "o"): 1.0}, None, 0.2, (1.0, 1.2))],
    ids=["the first method of a task", "another one"],
)
def test_the_probe_tells_the_cost_of_a_task_from_that_of_a_method(
    monkeypatch, known, own, first, expected
):
    """What is true of a θ is found by the first row, and every row of a run is at a new θ."""
    times = iter([9.0, 0.5, first, *([] if own is None else [own]), 0.7])
    monkeypatch.setattr(check, "elapsed", lambda call, device: next(times))
    solver = MagicMock()
    solver.get_result.return_value = {}
    solver.task.probe = ["an image"] * 2
    solver.task.minibatches = lambda size: iter([["an image"] * 8])
    probe = check.Probe(truths=dict(known))
    meta = {"dataset_name": "d", "objective_name": "o"}
    step, row, last = probe._measured(solver, None, meta)
    assert (probe.truths["d", "o"], row) == pytest.approx(expected)
    assert (step, last) == pytest.approx((4 * 0.5, expected[0] + 0.7))
    assert next(times, None) is None


# --- how runs end -------------------------------------------------------------------------------


def row(status: str = "ok", ended: str = "", **more: object) -> dict:
    known = {"objective_status": status, "objective_ended": ended, "objective_message": "why"}
    return known | more


@pytest.mark.parametrize(
    ("rows", "status", "expected", "last"),
    [
        ([row(), row(ended="finished")], "done", "finished", "finished"),
        ([row(), row(ended="finished")], "max_runs", "finished", "finished"),
        ([row(), row()], "max_runs", "row limit", "row limit"),
        ([row(), row()], "timeout", "time limit", "time limit"),
        ([row(), row()], "interrupted", "interrupted", "interrupted"),
        ([row(), row("error", "error")], "done", "failed", "error"),
        ([row("diverged"), row("ok", "finished")], "done", "failed", "finished"),
        ([], "error", "failed", None),
        ([], "skip", "skip", None),
        ([], "not run yet", "not run yet", None),
        ([{}], "done", "finished", None),
    ],
)
def test_how_a_run_ended(rows, status, expected, last):
    run = ended(NAMES, rows, status, "because", cached=True)
    assert (run.status, run.cached, run.rows) == (expected, True, len(rows))
    assert (rows[-1].get("objective_ended") if rows else None) == last
    if run.status == "failed" and rows:
        assert run.reason in ("error: why", "diverged: why")


@pytest.mark.parametrize(
    ("rows", "status", "again"),
    [
        ([row()], "done", False),
        ([row()], "max_runs", False),
        ([row("diverged")], "done", False),
        ([row()], "timeout", True),
        ([row(), row("oom")], "done", True),
        ([row("error"), row()], "done", True),
        ([], "skip", True),
    ],
)
def test_what_may_pass_is_tried_again(rows, status, again):
    assert passing(rows, status) is again


# --- exit codes and summaries -------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(place) -> Plan:
    command = [str(place / "small.yml"), "--benchmark", str(place)]
    return validated(settings(parser("run", "").parse_args(command), command))


def a_study(plan: Plan, *statuses: str, **options: object) -> Study:
    runs = [Run(*NAMES, status=status, reason="because", rows=1) for status in statuses]
    given = frozenset(options.pop("given", ()))
    plan = replace(plan, settings=replace(plan.settings, given=given))
    return Study(plan, runs=runs, rows=[row()], **options)


@pytest.mark.parametrize(
    ("statuses", "options", "code"),
    [
        (["finished", "finished"], {}, 0),
        (["finished", "failed"], {}, 1),
        (["finished", "skip"], {}, 1),
        (["finished", "finished", "not installed"], {}, 1),
        (["finished", "not run yet"], {}, 1),
        (["finished", "time limit"], {}, 1),
        (["finished", "row limit"], {}, 1),
        (["finished", "row limit"], {"given": ["max-runs"]}, 0),
        (["finished"], {}, 1),
        (["finished", "finished"], {"interrupted": True}, 1),
        (["finished", "finished"], {"broken": "OSError: no space"}, 1),
    ],
)
def test_exit_codes(plan, statuses, options, code):
    study = a_study(plan, *statuses, **options)
    assert exit_code(study) == code
    lines = list(summary(study, Path("rows.parquet")))
    assert any(line.startswith("to complete it: ") for line in lines) == bool(code)
    left = max(0, 2 - sum(status != "not installed" for status in statuses))
    assert any("without an end" in line for line in lines) == bool(
        left or options.keys() - {"given"}
    )


def test_the_command_that_completes_a_study_moves_the_limit_that_cut_it(plan):
    assert "--max-runs" not in completing(a_study(plan, "failed", "finished"))
    assert completing(a_study(plan, "row limit", "finished")).endswith("--max-runs 4")
    assert completing(a_study(plan, "time limit", "finished")).endswith("--timeout 1000")
    collecting = replace(plan.settings, command=("small.yml", "--collect"))
    study = a_study(replace(plan, settings=collecting), "not run yet")
    assert completing(study) == "python -m benchmark run small.yml"


def test_a_long_list_of_failures_is_counted(plan):
    lines = list(summary(a_study(plan, *["failed"] * 14), None))
    assert lines[0] == "14 failed"
    assert lines[11] == "  and 4 more"
    assert "no rows: nothing was written" in lines


# --- interruptions ------------------------------------------------------------------------------


def results(ending: BaseException):
    def some(plan, terminal, cache):
        yield [row(ended="finished", idx_rep=0)], NAMES, "done", "", False
        raise ending

    return some


@pytest.mark.parametrize(
    ("ending", "interrupted", "broken"),
    [
        (KeyboardInterrupt(), True, ""),
        (OSError("no space left"), False, "OSError: no space left"),
        (SystemExit(3), False, "SystemExit: 3"),
    ],
)
def test_what_was_finished_is_kept_when_a_study_is_ended(
    plan, monkeypatch, ending, interrupted, broken
):
    monkeypatch.setattr(study_module, "_results", results(ending))
    study = execute(plan, rich=False, report=lambda run, study: None)
    assert len(study.rows) == 1
    assert [run.status for run in study.runs] == ["finished"]
    assert (study.interrupted, study.broken) == (interrupted, broken)
    assert exit_code(study) == 1


def test_what_other_processes_finished_is_kept_too(plan, studies, monkeypatch):
    """It is in the cache before the study hears of it."""

    def interrupted(plan, terminal, cache):
        for kwargs in study_module.run_arguments(plan, terminal):
            cache.note(kwargs)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(study_module, "_results", interrupted)
    study = execute(plan, rich=False, report=lambda run, study: None)
    assert sorted((run.status, run.cached) for run in study.runs) == [("finished", True)] * 2
    assert len(study.rows) == len(studies["second"][2])


def test_sigterm_is_an_interruption(plan):
    import signal

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), heeded():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_rows_that_cannot_be_written_are_an_exit_code(place, monkeypatch, capsys):
    """Everything is in the cache by then: the same command writes it."""
    from benchmark.running import run

    def full(rows, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "write_rows", full)
    monkeypatch.setattr(
        study_module,
        "_results",
        lambda *_: iter(
            [([row(ended="finished", idx_rep=i)], NAMES, "done", "", 1) for i in (0, 1)]
        ),
    )
    command = [str(place / "small.yml"), "--benchmark", str(place)]
    assert run_main(command) == 1
    assert "could not be written" in capsys.readouterr().out
