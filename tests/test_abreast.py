"""Work in forks: all of it is done, in order, and what fails is told."""

import os
import signal
import sys

import pytest
from made_up import DENOISING, STUDY, cli, save, study

from benchmark.report.abreast import abreast
from benchmark.report.reading import ReportError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux alone")


@pytest.fixture(params=["0", "1"])
def processes(request, monkeypatch):
    """Without forks, and with them."""
    monkeypatch.setenv("BENCHMARK_PROCESSES", request.param)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    return request.param


def test_all_is_done_in_order_by_what_is_there(processes):
    """What jobs hold need not be sent: a function in a function cannot be."""
    held = {"number": 10}
    found = list(abreast([lambda k=k: (held["number"] + k, os.getpid()) for k in range(5)]))
    assert [number for number, _ in found] == [10, 11, 12, 13, 14]
    assert ({who for _, who in found} == {os.getpid()}) == (processes == "0")


def test_an_error_is_the_callers(processes):
    def fails():
        raise FileNotFoundError("no such disk")

    found = abreast([lambda: 1, fails, lambda: 2])
    assert next(found) == 1
    with pytest.raises(FileNotFoundError, match="no such disk"):
        list(found)


def test_a_fork_that_is_killed_is_told(monkeypatch):
    monkeypatch.setenv("BENCHMARK_PROCESSES", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(ReportError, match=r"killed.*BENCHMARK_PROCESSES=0"):
        list(abreast([lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1]))


@pytest.mark.parametrize("jobs", [0, 1])
def test_what_is_one_job_needs_no_fork(jobs, processes):
    assert list(abreast([os.getpid] * jobs)) == [os.getpid()] * jobs


def test_one_processor_has_no_forks(monkeypatch):
    monkeypatch.setenv("BENCHMARK_PROCESSES", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert list(abreast([os.getpid] * 2)) == [os.getpid()] * 2


def test_a_report_made_in_forks_has_the_same_files_and_says_the_same(tmp_path, monkeypatch):
    rows, made = save(study(methods=STUDY[:2], tasks=[DENOISING]), tmp_path / "a.parquet"), []
    for processes in ("0", "1"):
        monkeypatch.setenv("BENCHMARK_PROCESSES", processes)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        out = tmp_path / processes
        code, printed, _ = cli(rows, "--out", out, "--only", "time", "scaling", "limits")
        assert code == 0
        files = {path.name: path.read_bytes() for path in out.iterdir()}
        made.append((printed, files))
    assert made[0] == made[1]
    assert {"time.png", "time.pdf", "table.md", "provenance.json"} <= made[0][1].keys()
