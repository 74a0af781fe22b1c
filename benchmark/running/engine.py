"""What runs a study on several processes or machines, as ``--parallel-config`` names it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from benchopt.parallel_backends import DISTRIBUTED_BACKENDS, check_parallel_config

from benchmark.options.checks import shown
from benchmark.running.configuration import read_configuration
from benchmark.running.faults import InvalidStudyError, unknown
from benchmark.running.options import Settings

#: what the backends of benchopt import
BACKENDS = {"dask": "distributed", "submitit": "submitit"}
#: SLURM's days-hours:minutes:seconds, hours:minutes:seconds, minutes:seconds and minutes
TIMES = (
    r"(?P<d>\d+)-(?P<h>\d+)(:(?P<m>\d+)(:(?P<s>\d+))?)?",
    r"(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)",
    r"(?P<m>\d+)(:(?P<s>\d+))?",
)
UNITS = {"d": 1440.0, "h": 60.0, "m": 1.0, "s": 1 / 60}
#: of the limit of a job's time to that of a run, and seconds beyond it
ROOM = (1.5, 300)


def engine(settings: Settings) -> dict | None:
    """The backend and its options as benchopt takes them; None: this process, or ``-j``.

    SLURM's time is in whole minutes, for submitit computes with it when it decides whether a job is
    queued again; where none is given it is that of a run and ``ROOM``.
    """
    config = settings.parallel_config
    if config is not None:
        config = dict(config if isinstance(config, dict) else read_configuration(Path(config)))
        if config.get("backend") == "submitit":
            seconds = math.ceil(ROOM[0] * (settings.timeout or 0)) + ROOM[1]
            config["slurm_time"] = minutes(config.get("slurm_time", seconds))
    return check_parallel_config(config, settings.n_jobs)


def minutes(time: object) -> int:
    """Whole minutes, at least one, of a time as SLURM writes it. A number is seconds, which YAML
    makes of 02:30:00 without quotes. Raises ValueError for anything else.
    """
    if isinstance(time, int) and not isinstance(time, bool) and time > 0:
        return math.ceil(time / 60)
    for form in TIMES if isinstance(time, str) else ():
        if found := re.fullmatch(form, time.strip()):
            parts = {name: int(part or 0) for name, part in found.groupdict().items()}
            return max(1, math.ceil(sum(UNITS[name] * part for name, part in parts.items())))
    raise ValueError(f"slurm_time must be a time such as '02:30:00', got {shown(time)}")


def faults_of_engine(settings: Settings) -> Iterator[str]:
    """Why ``settings`` names no backend that can be used; nothing is started."""
    config = settings.parallel_config
    if config is None:
        return
    if not isinstance(config, dict):
        try:
            config = read_configuration(Path(config))
        except InvalidStudyError as error:
            yield from error.faults
            return
    backend = config.get("backend")
    if backend not in DISTRIBUTED_BACKENDS:
        yield f"parallel-config: {unknown('backend', shown(backend), DISTRIBUTED_BACKENDS)}"
    elif backend in BACKENDS and find_spec(BACKENDS[backend]) is None:
        yield f"parallel-config: the backend {backend} needs {BACKENDS[backend]}: not installed"
    elif backend == "submitit":
        yield from (f"parallel-config: {fault}" for fault in _faults_of_slurm(config, settings))


def _faults_of_slurm(config: dict, settings: Settings) -> Iterator[str]:
    if {"timeout_min", "slurm_timeout_min"} & set(config):
        # benchopt makes slurm_time of it, or of the limit of a run
        yield "timeout_min has no effect: expected slurm_time, as '02:30:00'"
        return
    if settings.n_jobs is not None:
        yield "n-jobs is not submitit's: expected slurm_array_parallelism in its place"
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters() | set(SlurmExecutor._equivalence_dict())
    for name in sorted(set(config) - {"backend"}):
        if name.removeprefix("slurm_") not in known:
            yield unknown("key", name, [f"slurm_{word}" for word in sorted(known)])
    if "slurm_time" in config:
        try:
            minutes(config["slurm_time"])
        except ValueError as error:
            yield str(error)
    elif settings.timeout is None:
        yield "slurm_time is missing: expected a time such as '02:30:00', for runs have no limit"
