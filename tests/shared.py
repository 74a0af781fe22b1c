"""What test files share: the repository, its plugins as benchopt loads them, small tasks."""

from __future__ import annotations

import os
import shutil
from copy import deepcopy
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from benchopt.benchmark import Benchmark

from benchmark.imaging.denoisers import small_drunet
from benchmark.imaging.images import simulated
from benchmark.imaging.sources import drawn
from benchmark.measure import cost, evaluation
from benchmark.measure.reference import Reference, reference_hypergradient
from benchmark.plugins import rows
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.plugins.search_method import SearchMethod
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import BilevelTask

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
# runs of benchopt in processes of their own are shown in test_course.py and test_run_command.py;
# elsewhere each would take the seconds that importing torch does
os.environ.setdefault("BENCHMARK_PROCESSES", "0")

#: the weights that ship, which tests about them alone use; the others, in this process, use a
#: network of the same kind with a quarter of its parameters
SHIPPED_WEIGHTS = small_drunet.WEIGHTS
small_drunet.WEIGHTS = ROOT / "tests" / "data" / "smaller_drunet.safetensors"
# a cost is timed in one round of one call: what rounds are good for is shown in test_timing.py
cost.TIMING_BUDGET = 0.0

#: a spec of every lower level, contracting (a ridge) and not
LOWER_SPECS = (
    "tikhonov(wavelet='db2',levels=2)",
    "tikhonov(wavelet='db2',levels=2,stepsize=1.7,learn_stepsize=True,penalise_approximation=True)",
    "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)",
    "wavelet_l1(wavelet='haar',levels=2,ridge=0.02,stepsize=1.9,per_channel=True)",
    "wavelet_l12(wavelet='db2',levels=2,ridge=0.1)",
    "wavelet_l12(wavelet='haar',levels=2,ridge=0.1,stepsize=1.9,couple_orientations=False)",
    "tv(weight=0.1,ridge=0.3,smoothing=0.1)",
)
#: of the others, one each, for what is cheap enough to ask of all
MORE_LOWER_SPECS = (
    "ridge(channels=(1,1,1),size=3,width=0.05,sharpness=2,strength=3,stepsize=1.8)",
    "deepinv(algorithm='GD',prior='tikhonov',regularisation=0.3,stepsize=1.3)",
    "prescribed(radius=0.6,departure=0.3)",
    "lasso(weight=0.1,ridge=0.3)",
)
DEGRADATION_SPECS = ("denoising(sigma=0.1)", "inpainting(keep=0.5)", "deblurring(width=0.8)")
#: one of every other operator, for what is cheap enough to ask of all
MORE_DEGRADATION_SPECS = (
    "denoising(sigma=(0.1,0.25,0.5))",
    "inpainting(keep=0.1)",
    "inpainting(keep=0.9)",
    "deblurring(width=0.8,padding='reflect')",
    "motion_deblurring(length=7)",
    "motion_deblurring(length=7,padding='reflect')",
    "super_resolution(factor=2)",
    "tomography(angles=12)",
    "mri(acceleration=2)",
)

#: the study of ``small_benchmark``, but for its solvers
SMALL_STUDY = {
    "seed": 0,
    "plot": False,
    "objective": [
        {"Learning at equilibrium": {"lower": ["wavelet_l1(levels=1,ridge=0.5)"], "device": "cpu"}}
    ],
    "dataset": [{"Simulated": {"size": [8]}}],
}
#: libraries that some plugins need and that need not be there
OPTIONAL = ("torchdeq", "torchopt")


@cache
def plugins() -> dict[str, type]:
    """The solver classes by name, loaded by benchopt from ``solvers/``.

    Those that need an optional library are left out where it is absent.
    """
    absent = {f"pip::{name}" for name in OPTIONAL if find_spec(name) is None}
    known = Benchmark(ROOT).get_solvers()
    return {cls.name: cls for cls in known if not absent & set(cls.requirements or ())}


def small_task(
    *, lower: str, degradation: str = "denoising(sigma=0.1)", size: int = 16, seed: int = 0
) -> BilevelTask:
    """A float64 task on simulated images of ``size`` × ``size`` pixels: a copy of one kept."""
    return deepcopy(_kept_task(lower, degradation, size, seed))


@lru_cache(maxsize=64)
def _kept_task(lower: str, degradation: str, size: int, seed: int) -> BilevelTask:
    return make_task(
        train=simulated(number=2, size=size, seed=seed),
        test=simulated(number=2, size=size, seed=seed + 1),
        degradation=degradation,
        lower=lower,
        probe_size=2,
        seed=seed,
    )


@cache
def small_reference(
    *, lower: str, degradation: str = "denoising(sigma=0.1)", size: int = 16
) -> Reference:
    """The reference hypergradient of the probe of ``small_task``."""
    task = small_task(lower=lower, degradation=degradation, size=size)
    return reference_hypergradient(task.lower, task.probe)


def drawn_images(*args, **options):
    """The images alone of what ``benchmark.imaging.sources.drawn`` draws."""
    return tuple(cut.images for cut in drawn(*args, **options))


def gradient_methods() -> dict[str, type]:
    """Those of ``plugins`` that estimate a hypergradient and hand it to an optimizer."""
    return {name: cls for name, cls in plugins().items() if issubclass(cls, BilevelSolver)}


def searches() -> dict[str, type]:
    """Those of ``plugins`` that estimate none."""
    return {name: cls for name, cls in plugins().items() if issubclass(cls, SearchMethod)}


def of_kind(name: str) -> dict[str, type]:
    """Those that the fixture ``name`` gives: all, those of gradients, those of states."""
    states = {n: cls for n, cls in plugins().items() if hasattr(cls, "equilibrium")}
    return {
        "plugin": plugins(),
        "gradient_method": gradient_methods(),
        "state_method": states,
    }[name]


def small_benchmark(folder: Path, *, solver: list[dict], **solvers: str) -> Path:
    """A benchmark of one objective, one dataset, Unrolling and the files ``solvers`` by name, with
    the study small.yml of the entries ``solver``.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "objective.py", folder)
    for kind, name in (("datasets", "simulated"), ("solvers", "unrolling")):
        (folder / kind).mkdir()
        shutil.copy(ROOT / kind / f"{name}.py", folder / kind)
    for name, text in solvers.items():
        (folder / "solvers" / f"{name}.py").write_text(text)
    (folder / "small.yml").write_text(yaml.safe_dump(SMALL_STUDY | {"solver": solver}))
    return folder


def method(name: str, **parameters: object) -> BilevelSolver | SearchMethod:
    """An instance of the method of a name."""
    return plugins()[name].get_instance(**parameters)


#: few layers: what is asked for is that it runs
CHEAP = {
    "max_layers": 4,
    "restarts": 2,
    "layers": 3,
    "directions": 2,
    "memory": 2,
    "inner_steps": 2,
    "f_max_iter": 5,
    "b_max_iter": 5,
    "max_iter": 5,
    "max_iter_backward": 5,
    "evaluate_every": 1,
    "gradient": "implicit(max_steps=4)",
}


def known_to(plugin, parameters):
    """Those of ``parameters`` that ``plugin`` has."""
    return {name: value for name, value in parameters.items() if name in plugin.parameters}


def cheap(plugin, **parameters):
    """An instance with ``CHEAP`` and ``parameters``, as far as it has them."""
    return plugin.get_instance(**known_to(plugin, CHEAP | parameters))


def iter_callback(calls):
    remaining = iter(range(calls))
    return lambda: next(remaining, None) is not None


def flat(found) -> torch.Tensor:
    """The entries of a hypergradient, of all parameters in turn."""
    return torch.cat([g.flatten() for g in found.gradient])


def dataset(name: str, **parameters):
    """The dataset as benchopt makes it, with a seed and no benchmark around it."""
    (cls,) = (c for c in Benchmark(ROOT).get_datasets() if c.name == name)
    made = cls.get_instance(**parameters)
    made.get_seed = lambda **_: 0
    return made


def without_costs(patch: pytest.MonkeyPatch) -> None:
    """Costs are not measured, which takes longer than the rest: ``tools/killed.py`` does."""
    patch.delenv("BENCHOPT_DEBUG", raising=False)
    patch.setattr(rows, "at_common_theta", lambda *_, **__: rows.nowhere())
    patch.setattr(evaluation, "cost", lambda *_, **__: cost.Cost())
