"""A benchmark with some of the plugins, and the faults of studies on it."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import yaml
from benchopt.benchmark import Benchmark
from conftest import ROOT

from benchmark.running import options, selection
from benchmark.running.faults import InvalidStudyError
from benchmark.running.files import plugin_files
from benchmark.running.glance import first_look
from benchmark.running.validation import validated

SOLVERS = ("deq", "neumann", "tpe", "unrolling")
GOOD = {
    "objective": [{"Learning at equilibrium": {"lower": ["wavelet_l1(levels=1)"]}}],
    "dataset": [{"Simulated": {"size": [8]}}],
    "solver": [{"Unrolling": {"steps": [1]}}],
}


def copy_of_plugins(folder: Path, solvers: tuple[str, ...]) -> Path:
    shutil.copy(ROOT / "objective.py", folder)
    for kind, names in (("datasets", ("simulated", "folder")), ("solvers", solvers)):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(ROOT / kind / f"{name}.py", folder / kind)
    return folder


def some_plugins(tmp_path_factory) -> Path:
    """A benchmark with some of the plugins."""
    return copy_of_plugins(tmp_path_factory.mktemp("benchmark"), SOLVERS)


def import_once(place: Path, monkeypatch) -> None:
    """The files of ``place``: forking a large process a hundred times takes its time."""
    monkeypatch.setattr(
        selection,
        "plugin_files",
        lambda folder, kind: (once if folder == place else plugin_files)(folder, kind),
    )


once = cache(plugin_files)


def plan_of(text: str, place: Path, *command: str):
    config = place / "study.yml"
    config.write_text(text)
    command = [str(config), "--benchmark", str(place), *command]
    parsed = options.parser("run", "").parse_args(command)
    glanced = first_look(command)
    plan = validated(options.settings(parsed, command))
    assert not glanced  # what is no fault for the one is none for the other
    return plan


def faults(text: str | dict, place: Path, *command: str) -> tuple[str, ...]:
    """The faults of a configuration; a mapping is taken in addition to a good one."""
    text = text if isinstance(text, str) else yaml.safe_dump(GOOD | text)
    try:
        plan_of(text, place, *command)
    except InvalidStudyError as error:
        return error.faults
    return ()


CLASSES = {
    cls.name: cls
    for cls in (
        *Benchmark(ROOT).get_solvers(),
        *Benchmark(ROOT).get_datasets(),
        Benchmark(ROOT).get_benchmark_objective(),
    )
    if cls.is_installed(quiet=True)
}
