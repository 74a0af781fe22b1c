"""Studies that benchopt runs on a copy of the plugins, in forks of this process."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import forked
import pandas as pd
from benchopt.results import read_results
from conftest import ROOT

BIN = Path(sys.executable).parent
PLUGINS = ("objective.py", "datasets", "solvers", "plots")
KAPPA = 0.5
LOWER = f"wavelet_l1(wavelet='haar',levels=1,stepsize={1 + KAPPA})"
DEGRADATION = "denoising(sigma=0.1)"
DAMPED = '''\
"""Damped iteration."""

import torch

from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.solve.fixed_point import iterate


class Solver(StateMethod):
    """Differentiate ``layers`` steps of x ← (x + T(x)) / 2, after as many without a graph.

    Cost: 2 ``layers`` layers; memory: ``layers`` graphs. Use it where T is not contractive.
    """

    name = "Damped"
    parameters = {**StateMethod.parameters, "layers": [15]}

    def equilibrium(self, T, x0):
        def damped(x):
            return (x + T(x)) / 2

        with torch.no_grad():
            x = iterate(damped, x0, steps=self.layers)
        return iterate(damped, x.detach(), steps=self.layers)
'''
FAILING = '''\
"""Unrolling that fails: "oom" whenever it is called, else in the second outer step."""

import torch

from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.solve.fixed_point import iterate
from benchmark.problems.bilevel import upper_loss


class Solver(BilevelSolver):
    """Fail as asked."""

    name = "Failing"
    parameters = {**BilevelSolver.parameters, "how": ["nan", "oom", "allocate"]}

    def hypergradient(self, lower, batch):
        if self.how == "oom":
            raise torch.OutOfMemoryError("CUDA out of memory: as the test wants it")
        x = iterate(lower.layer(batch.observation), lower.init(batch.observation), steps=3)
        loss = upper_loss(lower, x, batch)
        gradient = torch.autograd.grad(loss, list(lower.theta().values()))
        if lower is getattr(self, "counted", None) and self.outer_step == 1:
            if self.how == "allocate":
                torch.empty(2**50)
            gradient = [torch.nan * g for g in gradient]
        return Hypergradient(loss.detach(), gradient, x.detach())

    @torch.no_grad()
    def deploy(self, lower, y):
        return iterate(lower.layer(y), lower.init(y), steps=3)
'''


# --- the runs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a finished ``benchopt run`` left: its output on the terminal, and its rows."""

    terminal: str
    parquet: Path
    rows: pd.DataFrame

    def of(self, method: str, *, repetition: int = 0, **parameters: object) -> pd.DataFrame:
        """The rows of one configuration in the order of the outer steps."""
        chosen = (self.rows["method"] == method) & (self.rows["idx_rep"] == repetition)
        for name, value in ({"evaluate_every": 1} | parameters).items():
            chosen &= self.rows[f"p_solver_{name}"] == value
        return self.rows[chosen].sort_values("outer_step", kind="stable").reset_index(drop=True)


def copy_plugins(folder: Path, *, package: bool) -> Path:
    """A copy of the plugins, and of the package where it is to be edited."""
    for name in (*PLUGINS, "benchmark") if package else PLUGINS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def environment(package: Path | None = None) -> dict[str, str]:
    """The variables of the processes: ``package`` comes first, nothing makes failures pass through.

    Where no package is named it is the one that is installed, or that these tests were told to
    find.
    """
    unset = ("BENCHOPT_DEBUG", "BENCHOPT_RAISE_ON_ERROR")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    variables["PATH"] = os.pathsep.join([str(BIN), variables["PATH"]])
    if package is not None:
        variables["PYTHONPATH"] = str(package)
    return variables


def write_config(path: Path, *, solvers: list[str], **options: object) -> Path:
    """A benchopt configuration on one small task; JSON is YAML. ``options`` change the task."""
    objective = {"lower": [LOWER], "dtype": ["float64"], "device": ["cpu"]}
    dataset = {"degradation": [DEGRADATION], "size": [8]}
    for name, value in options.items():
        (objective if name in objective else dataset)[name] = [value]
    config = {
        "seed": 0,
        "objective": [{"Learning at equilibrium": objective}],
        "dataset": [{"Simulated": dataset}],
        "solver": solvers,
    }
    path.write_text(json.dumps(config))
    return path


def run(copy: Path, config: Path, *options: object, output: str, cwd: Path) -> Run:
    """``benchopt run`` on the copy with its own package; it must end well."""
    parquet = copy / "outputs" / f"{output}.parquet"
    command = ("run", copy, "--config", config, "--output", parquet.name, *options)
    done = forked.run_module("benchopt", *command, cwd=cwd, environment=environment(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_results(parquet)
    rows.columns = [
        name if name == "objective_name" else name.removeprefix("objective_")
        for name in rows.columns
    ]
    return Run(done.stdout + done.stderr, parquet, rows)


def comment(path: Path) -> None:
    """Add a comment to the file."""
    path.write_text(path.read_text() + "# a comment\n")
