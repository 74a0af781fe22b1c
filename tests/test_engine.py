"""What a study asks of dask and SLURM; ``tools/engines.py`` runs one on them."""

from __future__ import annotations

import math
import re
import sys
import types
from pathlib import Path

import pytest
import yaml
from benchopt.runner import FailedRun
from conftest import ROOT

from benchmark.running import engine as engine_module
from benchmark.running.engine import engine, faults_of_engine, minutes
from benchmark.running.options import Settings
from benchmark.running.study import _OneRun


def settings(config: object, **options: object) -> Settings:
    return Settings(ROOT, None, [], [], [], [], "rows", parallel_config=config, **options)


@pytest.fixture
def submitit(monkeypatch):
    """A stand-in for the library: what a job is, and the options that there are."""
    known = {"time", "gpus_per_node", "array_parallelism", "signal_delay_s"}
    executor = types.SimpleNamespace(
        _valid_parameters=lambda: known, _equivalence_dict=lambda: {"mem_gb": "mem"}
    )
    job = types.SimpleNamespace(
        paths=types.SimpleNamespace(submitted_pickle="where it was put"), _timeout_countdown=3
    )
    library = types.ModuleType("submitit")
    library.JobEnvironment, library.SlurmExecutor = lambda: job, executor
    utils = types.ModuleType("submitit.core.utils")
    utils.DelayedSubmission = types.SimpleNamespace(load=lambda path: job)
    monkeypatch.setattr(engine_module, "find_spec", lambda name: name)
    modules = {"submitit": library, "submitit.core": utils, "submitit.core.utils": utils}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return job


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 90),
        ("10:30", 11),
        ("00:02:00", 2),
        ("02:30:01", 151),
        ("1-02", 26 * 60),
        ("1-02:03", 26 * 60 + 3),
        ("1-00:00:01", 1441),
        ("00:00:01", 1),
        (yaml.safe_load("02:30:00"), 150),
    ],
)
def test_times_of_slurm(time, expected):
    assert minutes(time) == expected


@pytest.mark.parametrize("time", ["", "soon", "1:2:3:4", -60, True, math.nan, None, "1h"])
def test_what_is_no_time_of_slurm(time):
    with pytest.raises(ValueError, match="slurm_time must be a time such as '02:30:00', got"):
        minutes(time)


def test_the_time_of_a_job_is_a_number_whoever_writes_it(tmp_path):
    """submitit computes with it when it decides whether a job is queued again."""
    path = tmp_path / "slurm.yml"
    path.write_text("backend: submitit\nslurm_time: 02:00:00\n")
    assert engine(settings(str(path)))["slurm_time"] == 120
    mapping = {"backend": "submitit", "slurm_time": "00:20:00"}
    assert engine(settings(mapping))["slurm_time"] == 20
    assert mapping["slurm_time"] == "00:20:00"
    # benchopt's own, one and a half times the limit of a run, and time for the rest
    assert engine(settings({"backend": "submitit"}, timeout=600.0))["slurm_time"] == 20
    assert engine(settings({"backend": "dask"})) == {"backend": "dask"}
    assert engine(settings(None, n_jobs=2)) == {"backend": "loky", "n_jobs": 2}


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ({"slurm_signal": "USR1@60"}, {}, "unknown key 'slurm_signal'"),
        ({"slurm_gpu_per_node": 1}, {}, "did you mean slurm_gpus_per_node"),
        ({"slurm_time": "soon"}, {}, "slurm_time must be a time such as '02:30:00', got 'soon'"),
        ({}, {"timeout": None}, "slurm_time is missing"),
        ({"slurm_time": "10"}, {"n_jobs": 2}, "n-jobs is not submitit's: .*array_parallelism"),
    ],
)
def test_what_submitit_would_refuse_is_said_before(submitit, config, options, said):
    (fault,) = faults_of_engine(settings({"backend": "submitit"} | config, **options))
    assert fault.startswith("parallel-config: ")
    assert re.search(said, fault), fault


def test_what_submitit_takes_is_no_fault(submitit):
    config = {"slurm_time": "1-00", "slurm_gpus_per_node": 1, "slurm_mem_gb": 4}
    assert not list(faults_of_engine(settings({"backend": "submitit"} | config)))


def asked_to_end() -> tuple:
    """What a run comes to whose job is sent submitit's signal, as its handler does it."""

    def cached(**kwargs):
        run.checkpoint(**kwargs)
        raise FailedRun("error")  # as benchopt does of whatever ends a run, an exit too

    run = _OneRun(cached, held=False)
    assert len({run, run}) == 1  # as joblib's dask asks; it waits for ever where it cannot
    names = ("dataset_name", "objective_name", "solver_name")
    return run(meta={name: name for name in names})


def test_a_job_that_is_asked_to_end_is_queued_again_as_often_as_may_be(submitit):
    with pytest.raises(SystemExit):  # and so without a result: it is not done
        asked_to_end()
    submitit._timeout_countdown = 0
    rows, _, status, _ = asked_to_end()
    assert (rows, status) == ([], "interrupted")


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/engines/*.yml")), ids=lambda p: p.stem)
def test_ready_configurations_have_no_faults(path: Path):
    backend = yaml.safe_load(path.read_text())["backend"]
    pytest.importorskip(engine_module.BACKENDS.get(backend, "joblib"))
    assert not list(faults_of_engine(settings(str(path))))
    assert engine(settings(str(path)))["backend"] == backend
